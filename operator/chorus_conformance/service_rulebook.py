"""Every rule that a service is checked by: those that it shares with containers, in its own words, and its own."""

from __future__ import annotations

from dataclasses import replace

from chorus_conformance import judge_service
from chorus_conformance.observed import Scenario
from chorus_conformance.rule import Rule
from chorus_conformance.rulebook import RULES

_OWN = (
    Rule(
        "S101",
        "it takes messages",
        expected="every ONLINE_INQUIRY and TRAINING_DATA is answered with 2xx within 10 seconds",
        mend="answer at once and work afterwards; answer at the address itself, without a redirect; know the public "
        "key that this command prints, and give it a file with --signing-key so that it stays the same; tell the "
        "service its own URL as you tell it to this command",
        check=judge_service.takes_messages,
        scenarios=(Scenario.DESCRIBE, Scenario.TRAIN),
    ),
    Rule(
        "S102",
        "it trusts signatures alone",
        expected="a message that another key signed is answered with 4xx, and nothing follows",
        mend="check webhook-signature (v1a, Ed25519) over webhook-id, webhook-timestamp and the body, each joined by a "
        "full stop, and refuse a timestamp of more than five minutes ago",
        check=judge_service.trusts_signatures_alone,
        scenarios=(Scenario.FORGED,),
        after=("S101",),
    ),
)
_ADDRESSED = Rule(
    "S104",
    "it takes only what is meant for it",
    expected="a message that is signed, but whose attribute recipient is not the service's URL, is answered with "
    "4xx, and nothing follows",
    mend="compare recipient with the service's own URL, character by character, as the Plugin says it: else whoever "
    "was sent a message of this namespace can send it on",
    check=judge_service.takes_only_its_own,
    scenarios=(Scenario.MISADDRESSED,),
    after=("S101",),
)
_ONCE = Rule(
    "S103",
    "it counts each message once",
    expected="TRAINING_DATA that comes twice with the same webhook-id starts one training",
    mend="remember webhook-id of what was taken, and answer a repetition with 2xx",
    check=judge_service.counts_once,
    scenarios=(Scenario.TWICE,),
    after=("S101", "C401"),
)
_WORDS = {
    "C105": (
        "the token of a message is in no message and no file",
        "send it in the header Authorization alone, and copy it into nothing",
    ),
    "C106": (
        "nothing is sent to a receiver that messages_ca has not signed",
        "verify the certificate and the host name with the PEM text in messages_ca; switch no check off",
    ),
    "C201": (
        "ONLINE_INQUIRY is followed by ONLINE_REPORT to messages_url, with the subjectuid and attempt of the inquiry",
        "send ONLINE_REPORT whenever you are asked, also while a training is under way",
    ),
    "C303": (
        "subjectuid and attempt are those of the event that is answered; project_id and plugin_id those of its data",
        "keep them with each training: two can be under way",
    ),
    "C309": (
        "the header Authorization: Bearer and the token of the message that is answered",
        "use the token of TRAINING_DATA for the training, and that of ONLINE_INQUIRY for the report",
    ),
    "C401": (
        "TRAINING_DATA is followed by MODEL_NAME, on a frame that has everything that ONLINE_REPORT needs",
        "look into the service's log; get the frame from location, with the token and exchange_ca",
    ),
    "C405": (
        "at least one file was put to exchange_url, before MODEL_NAME; of the kinds that are published",
        "save weights as data, not as pickle or code; check with --artefact none if there is none",
    ),
    "C501": (
        "DATA_REPORT with applicable false, and nothing after it",
        "compare the frame with what ONLINE_REPORT needs before anything else",
    ),
    "C502": ("ERROR_REPORT, and no MODEL_NAME", "check every parameter before the training"),
    "C503": ("ERROR_REPORT, and no MODEL_NAME", "compare the names with those that ONLINE_REPORT tells"),
}
_NOT_OF_SERVICES = frozenset({"C101", "C102", "C103", "C104", "C404", "C407", "C601", "C602", "C703"})


def _of_service(rule: Rule) -> Rule:
    expected, mend = _WORDS.get(rule.id, (rule.expected, rule.mend))
    return replace(rule, expected=expected, mend=mend, after=("S101", *rule.after))


SERVICE_RULES: tuple[Rule, ...] = (
    *_OWN,
    *(_of_service(rule) for rule in RULES if rule.id not in _NOT_OF_SERVICES),
    _ONCE,
    _ADDRESSED,
)
