"""Rules about every other end: not applicable, bad parameters, SIGTERM, and a receiver that is away."""

from __future__ import annotations

from chorus_api.reasons import ExitCode
from chorus_conformance.observed import Evidence, Fate, Observation, ReceivedMessage, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict, missing, told_by, unless_refused
from chorus_protocol.messages import DataReport, MessageType
from chorus_protocol.refusals import Cause

_WENT_ON = (MessageType.TRAINING_START, MessageType.PROGRESS, MessageType.MODEL_NAME)


@told_by(Scenario.NOT_APPLICABLE)
def declines(evidence: Evidence, seen: Observation) -> Verdict:
    """DATA_REPORT with applicable false, exit code 69 or 0, and no training."""
    reports = [entry.payload for entry in seen.of(MessageType.DATA_REPORT)]
    if not reports:
        return unless_refused(seen, f"no DATA_REPORT came; {seen.ending()}")
    if isinstance(reports[0], DataReport) and reports[0].applicable:
        return Failed("DATA_REPORT says that the frame suits, though it lacks what ONLINE_REPORT needs")
    if went_on := seen.of(*_WENT_ON):
        return Failed(f"{went_on[0]} came after DATA_REPORT had said that the frame does not suit")
    if seen.exit_code not in {ExitCode.NOT_APPLICABLE, ExitCode.DONE}:
        return Failed(seen.ending())
    return PASSED


@told_by(Scenario.BAD_VALUE)
def refuses_a_bad_value(evidence: Evidence, seen: Observation) -> Verdict:
    """A parameter out of its bounds ends the run as bad configuration."""
    return _refuses(evidence, seen, Scenario.BAD_VALUE)


@told_by(Scenario.UNKNOWN_NAME)
def refuses_an_unknown_name(evidence: Evidence, seen: Observation) -> Verdict:
    """A parameter that nobody declared ends the run as bad configuration."""
    return _refuses(evidence, seen, Scenario.UNKNOWN_NAME)


def _refuses(evidence: Evidence, seen: Observation, scenario: Scenario) -> Verdict:
    what = evidence.bad.get(scenario, "a bad parameter")
    if seen.of(MessageType.MODEL_NAME):
        return Failed(f"it was given {what}, and named a model all the same")
    if seen.exit_code == ExitCode.BAD_CONFIGURATION or (seen.error is not None and seen.exit_code is not None):
        return PASSED
    return unless_refused(seen, f"it was given {what}; {seen.ending()}")


@told_by(Scenario.STOP)
def stops_when_asked(evidence: Evidence, seen: Observation) -> Verdict:
    """After SIGTERM it ends in time with 75, or with 0 when the work is done."""
    ended = seen.exit_code in {ExitCode.PREEMPTED, ExitCode.DONE}
    if not seen.signalled or (not ended and seen.of(MessageType.MODEL_NAME)):
        return Skipped("it was done before it could be stopped: give it more to do, with --parameter or --frame")
    if seen.exit_code is None:
        return Failed(f"it was still running {evidence.grace_seconds:g} s after SIGTERM and was killed")
    if not ended:
        return Failed(f"after SIGTERM {seen.ending()}")
    return PASSED


@told_by(Scenario.RESUME)
def goes_on_after_a_stop(evidence: Evidence, seen: Observation) -> Verdict:
    """The next attempt, with the same run directory, finishes the work."""
    if not seen.done:
        return unless_refused(seen, f"the second attempt: {seen.ending()}")
    if not seen.of(MessageType.MODEL_NAME):
        return unless_refused(seen, "the second attempt sent no MODEL_NAME")
    if evidence.has_artefact and not seen.files:
        return Failed("the second attempt left no file in $CHORUS_OUT_DIR")
    return PASSED


@told_by(Scenario.OUTAGE)
def survives_an_outage(evidence: Evidence, seen: Observation) -> Verdict:
    """The training goes on while nobody receives, and what it had to say comes later."""
    if any(refused.cause is Cause.BAD_TOKEN for refused in seen.refusals):
        return Skipped("an outdated token was used: mend C703 first", blocked=True)
    said = {entry.kind for entry in seen.received if entry.accepted}
    lost = [
        kind.value
        for kind in (MessageType.DATA_REPORT, MessageType.TRAINING_START, MessageType.MODEL_NAME)
        if kind not in said
    ]
    if lost:
        return unless_refused(seen, f"never arrived: {', '.join(lost)}; {seen.ending()}")
    if not seen.done:
        return unless_refused(seen, seen.ending())
    return PASSED


def repeats_the_same_message(evidence: Evidence) -> Verdict:
    """What is sent again has the id, the sequence and the data of the first time."""
    seen = evidence.seen.get(Scenario.OUTAGE)
    if seen is None:
        return Skipped(missing(evidence.missing, Scenario.OUTAGE))
    unanswered = [entry for entry in seen.received if entry.fate is Fate.UNANSWERED]
    if not unanswered:
        return Skipped("it did not come to the point where an answer was lost")
    first = unanswered[0]
    later = seen.received[seen.received.index(first) + 1 :]
    again = [entry for entry in later if entry.kind is first.kind]
    if not again:
        return Failed(f"the answer to {first} was lost, and it was not sent again; {seen.ending()}")
    return PASSED if _is_same(first, again[0]) else Failed(_difference(first, again[0]))


def _is_same(first: ReceivedMessage, again: ReceivedMessage) -> bool:
    assert first.envelope is not None
    return again.envelope == first.envelope and again.payload == first.payload


def _difference(first: ReceivedMessage, again: ReceivedMessage) -> str:
    if first.envelope is None or again.envelope is None or first.envelope == again.envelope:
        return f"{first} was sent again with other data"
    return (
        f"{first} and id {first.envelope.id!r} was sent again as {again} and id {again.envelope.id!r}: "
        "nobody can tell that it is the same"
    )


@told_by(Scenario.OUTAGE)
def reads_the_token_again(evidence: Evidence, seen: Observation) -> Verdict:
    """Messages after the token was replaced carry the new one."""
    outdated = [refused for refused in seen.refusals if refused.cause is Cause.BAD_TOKEN]
    if outdated:
        return Failed(f"{len(outdated)} messages carried the token that $CHORUS_TOKEN_FILE had held before")
    return PASSED
