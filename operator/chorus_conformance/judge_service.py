"""Rules that only a service can break: taking messages, trusting signatures, and counting each message once."""

from __future__ import annotations

from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict, told_by
from chorus_protocol.messages import MessageType


def takes_messages(evidence: Evidence) -> Verdict:
    """Every message that Chorus signed is answered with 2xx in time."""
    if not evidence.seen:
        return Skipped("nothing was run")
    for scenario, seen in evidence.seen.items():
        if scenario not in (Scenario.FORGED, Scenario.MISADDRESSED) and seen.not_started:
            return Failed(f"{scenario}: {seen.not_started}")
    return PASSED


@told_by(Scenario.FORGED)
def trusts_signatures_alone(evidence: Evidence, seen: Observation) -> Verdict:
    """What another key signed is refused, and nothing follows from it."""
    return _refused("an inquiry that another key signed", seen)


@told_by(Scenario.MISADDRESSED)
def takes_only_its_own(evidence: Evidence, seen: Observation) -> Verdict:
    """What is meant for another service is refused, although it is signed, and nothing follows from it."""
    return _refused("an inquiry whose recipient is another URL", seen)


def _refused(what: str, seen: Observation) -> Verdict:
    if seen.received:
        return Failed(f"{what} was followed by {seen.received[0]}")
    return PASSED if seen.not_started else Failed(f"{what} was answered with 2xx")


@told_by(Scenario.TWICE)
def counts_once(evidence: Evidence, seen: Observation) -> Verdict:
    """TRAINING_DATA that comes twice starts one training."""
    for kind in (MessageType.TRAINING_START, MessageType.MODEL_NAME):
        if len(seen.of(kind)) > 1:
            return Failed(f"TRAINING_DATA came twice with the same webhook-id, and {kind} {len(seen.of(kind))} times")
    return PASSED if seen.of(MessageType.MODEL_NAME) else Failed(seen.ending())
