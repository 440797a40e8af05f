"""Rules that only a service can break: taking messages, trusting signatures, and counting each message once."""

from __future__ import annotations

from chorus_api.messages import MessageType
from chorus_cli.plugin_check.observed import Evidence, Observation, Scenario
from chorus_cli.plugin_check.rule import PASSED, Failed, Skipped, Verdict, told_by


def takes_messages(evidence: Evidence) -> Verdict:
    """Every message that Chorus signed is answered with 2xx in time."""
    if not evidence.seen:
        return Skipped("nothing was played")
    for scenario, seen in evidence.seen.items():
        if scenario is not Scenario.FORGED and seen.not_started:
            return Failed(f"{scenario}: {seen.not_started}")
    return PASSED


@told_by(Scenario.FORGED)
def trusts_signatures_alone(evidence: Evidence, seen: Observation) -> Verdict:
    """What another key signed is refused, and nothing follows from it."""
    if seen.letters:
        return Failed(f"an inquiry that another key signed was followed by {seen.letters[0]}")
    if not seen.not_started:
        return Failed("an inquiry that another key signed was answered with 2xx")
    return PASSED


@told_by(Scenario.TWICE)
def counts_once(evidence: Evidence, seen: Observation) -> Verdict:
    """TRAINING_DATA that comes twice starts one training."""
    for kind in (MessageType.TRAINING_START, MessageType.MODEL_NAME):
        if len(seen.of(kind)) > 1:
            return Failed(f"TRAINING_DATA came twice with the same webhook-id, and {kind} {len(seen.of(kind))} times")
    return PASSED if seen.of(MessageType.MODEL_NAME) else Failed(seen.ending())
