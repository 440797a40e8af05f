"""Rules about every message of every scenario: envelope, ids, sequence, fields, size, order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chorus_conformance.observed import Evidence, ReceivedMessage, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict
from chorus_protocol.messages import DataReport, MessageType
from chorus_protocol.refusals import Cause, FieldProblem, Refused

_ODD = frozenset({Scenario.OUTAGE, Scenario.TWICE})
"""In these, messages may be missing or come twice; C702 and S103 say more."""
_KUBEFLOW = "trainerStatus"  # progress in Kubeflow Trainer's form has no envelope
_ENDS = frozenset({MessageType.MODEL_NAME, MessageType.ERROR_REPORT})
_RANK = {
    MessageType.DATA_REPORT: 0,
    MessageType.TRAINING_START: 1,
    MessageType.PROGRESS: 2,
    MessageType.MODEL_NAME: 3,
    MessageType.ERROR_REPORT: 3,
}


def refused_for(matches: Callable[[Refused], bool], *, but: Scenario | None = None) -> Callable[[Evidence], Verdict]:
    """Make a rule that is broken by a refusal that `matches`, in any scenario but one."""

    def check(evidence: Evidence) -> Verdict:
        if not any(True for _ in _letters(evidence)):
            return Skipped("no message came")
        for scenario, entry in _letters(evidence):
            if entry.refused is not None and scenario is not but and matches(entry.refused):
                shown = entry.body[:300].decode("utf-8", "replace")
                return Failed(f"{scenario}: {entry} was refused ({entry.refused.cause}): {entry.refused}\n{shown}")
        return PASSED

    return check


def is_envelope(refused: Refused) -> bool:
    """Whether the body is no CloudEvent, or an attribute of it is wrong."""
    if refused.cause is Cause.WRONG_CONTENT_TYPE:
        return True
    return refused.cause is Cause.MALFORMED and (
        not refused.fields or any(not _of_data(each) for each in refused.fields)
    )


def is_field(refused: Refused) -> bool:
    """Whether a field of the data is wrong, other than by a number that is not finite."""
    return refused.cause is Cause.MALFORMED and any(_of_data(each) and not _of_finite(each) for each in refused.fields)


def is_not_finite(refused: Refused) -> bool:
    """Whether a number is not finite."""
    return refused.cause is Cause.MALFORMED and any(_of_data(each) and _of_finite(each) for each in refused.fields)


def is_cause(*causes: Cause) -> Callable[[Refused], bool]:
    """Match refusals with one of these causes."""
    return lambda refused: refused.cause in causes


def _of_data(problem: FieldProblem) -> bool:
    return problem.field.split(".")[0] in {"data", _KUBEFLOW}


def _of_finite(problem: FieldProblem) -> bool:
    return "finite" in problem.problem


def counts_up(evidence: Evidence) -> Verdict:
    """Each execution counts its messages 1, 2, 3 and gives each an id of its own."""
    enveloped = {
        scenario: [entry for entry in seen.received if entry.envelope is not None]
        for scenario, seen in evidence.seen.items()
        if scenario not in _ODD
    }
    if not any(enveloped.values()):
        return Skipped("no message with an envelope came")
    for scenario, received in enveloped.items():
        if fault := _sequence_fault(received):
            return Failed(f"{scenario}: {fault}")
    return PASSED


def _sequence_fault(received: list[ReceivedMessage]) -> str | None:
    """Say where counting went wrong."""
    numbers: dict[str, int] = {}
    for entry in received:
        envelope = entry.envelope
        assert envelope is not None
        if envelope.id in numbers:
            if envelope.sequence != numbers[envelope.id]:
                return f"{entry} has the id {envelope.id!r} of the message with sequence {numbers[envelope.id]}"
            continue  # it is sent again
        due = max(numbers.values(), default=0) + 1
        if envelope.sequence != due:
            return f"{entry} came where {due} was due"
        numbers[envelope.id] = envelope.sequence
    return None


def keeps_the_order(evidence: Evidence) -> Verdict:
    """DATA_REPORT, TRAINING_START, progress, and one end after which nothing more is said."""
    received_by = {
        scenario: seen.received
        for scenario, seen in evidence.seen.items()
        if scenario is not Scenario.DESCRIBE and scenario not in _ODD
    }
    if not any(received_by.values()):
        return Skipped("no message of a training came")
    for scenario, received in received_by.items():
        if fault := _order_fault(received):
            return Failed(f"{scenario}: {fault}")
    return PASSED


def _order_fault(received: tuple[ReceivedMessage, ...]) -> str | None:
    said: list[ReceivedMessage] = []
    for entry in _as_numbered(received):
        if not entry.accepted or entry.kind not in _RANK:
            continue
        if said and (fault := _wrong_after(said, entry)):
            return fault
        said.append(entry)
    return None


def _wrong_after(said: list[ReceivedMessage], entry: ReceivedMessage) -> str | None:
    last = said[-1]
    assert entry.kind is not None
    assert last.kind is not None
    if last.kind in _ENDS:
        return f"{entry} came after {last}, which is the end"
    if isinstance(last.payload, DataReport) and not last.payload.applicable:
        return f"{entry} came after DATA_REPORT had said that the frame does not suit"
    if _RANK[entry.kind] < _RANK[last.kind]:
        return f"{entry} came after {last}"
    if entry.kind is not MessageType.PROGRESS and entry.kind in {each.kind for each in said}:
        return f"{entry} came twice, as two messages"
    return None


def _as_numbered(received: tuple[ReceivedMessage, ...]) -> list[ReceivedMessage]:
    """Sort by sequence number: a message that had to be sent again may arrive late. Those without one stay behind
    their predecessor."""
    last, keyed = 0, []
    for entry in received:
        last = entry.envelope.sequence if entry.envelope is not None else last
        keyed.append((last, entry))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]


def _letters(evidence: Evidence) -> Iterator[tuple[Scenario, ReceivedMessage]]:
    for scenario, seen in evidence.seen.items():
        for entry in seen.received:
            yield scenario, entry
