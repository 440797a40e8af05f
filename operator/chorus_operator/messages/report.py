"""The block `status.report` of a run, as a pure function of what is there and what came in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chorus_api.contract import SERVICE_SPEAKER
from chorus_api.training_run import (
    MAX_INSTANCES,
    DataReportEntry,
    Entry,
    ErrorEntry,
    ExchangeEntry,
    ModelNameEntry,
    Report,
    TrainingStartEntry,
)
from chorus_protocol.messages import (
    Addressed,
    DataReport,
    Envelope,
    ErrorReport,
    ExchangeReady,
    ModelName,
    TrainingStart,
)

_FIELDS: dict[type[Addressed], str] = {
    DataReport: "data_report",
    TrainingStart: "training_start",
    ModelName: "model_name",
    ErrorReport: "error",
}


def updated_report(
    report: Report | None, *, envelope: Envelope, payload: Addressed, pod_uid: str, instance: str, now: datetime
) -> Report:
    """Take one message in; the unchanged `report` when the message is old or known.

    A newer attempt starts a new report, and so does another pod of the same attempt: the caller makes sure that it has
    taken the first one's place. Within a report instances of the sender are ordered by their first message, and the
    messages of an instance by their sequence numbers. Of each type the newest word stands, in whatever order they come.
    """
    if report is not None and envelope.attempt < report.attempt:
        return report
    if report is None or envelope.attempt > report.attempt or report.pod_uid != pod_uid:
        report = Report(attempt=envelope.attempt, pod_uid=pod_uid)
    instances = _instances(report)
    newest = instances[-1] if instances else instance
    if instance not in instances:
        newest, instances = instance, [*instances, instance][-MAX_INSTANCES:]
    origin = {"instance": instance, "sequence": envelope.sequence}
    known = getattr(report, _FIELDS[type(payload)])
    rank = (instances.index(instance), envelope.sequence)
    if known is not None and rank <= _rank(known, report, instances):
        return report
    entry = _entry(payload, now).model_copy(update=origin)
    if known is not None and _without_origin(entry) == _without_origin(known, time=now):
        entry = entry.model_copy(update={"time": known.time})  # deadlines count from when it was said first
    changes: dict[str, Any] = {_FIELDS[type(payload)]: entry, "instances": instances}
    if instance == newest:
        is_first = newest not in report.instances
        changes["sequence"] = envelope.sequence if is_first else max(report.sequence, envelope.sequence)
    if isinstance(payload, ModelName) and report.training_start is None:
        # Its TRAINING_START was lost, or the plugin never sends one: training is over, so it has begun.
        changes["training_start"] = TrainingStartEntry(time=now, **origin)
    return report.model_copy(update=changes)


def says_more(before: Report | None, after: Report) -> bool:
    """Tell whether a report says more than before: a repetition changes only who said it last."""
    return before is None or _content(before) != _content(after)


def with_exchange(
    report: Report | None, *, attempt: int, payload: ExchangeReady, pod_uid: str, now: datetime
) -> Report:
    """Take in that an attempt's exchange serves; the unchanged `report` when it is known, or of an older attempt."""
    if report is not None and attempt < report.attempt:
        return report
    if report is None or attempt > report.attempt:
        report = Report(attempt=attempt, pod_uid=SERVICE_SPEAKER)
    known = report.exchange
    if known is not None and (known.pod_uid, known.certificate) == (pod_uid, payload.certificate):
        return report
    entry = ExchangeEntry(pod_uid=pod_uid, certificate=payload.certificate, time=now)
    return report.model_copy(update={"exchange": entry})


def _instances(report: Report) -> list[str]:
    """Name the instances that have reported. An older operator wrote none down: the pod itself, or the service."""
    is_old = not report.instances and any(getattr(report, name) is not None for name in _FIELDS.values())
    return [report.pod_uid] if is_old else report.instances


def _rank(entry: Entry, report: Report, instances: list[str]) -> tuple[int, int]:
    """Order what is known among messages: by the instance that said it, then by number."""
    instance = entry.instance or report.pod_uid
    position = instances.index(instance) if instance in instances else -1  # too long ago to be remembered
    return (position, report.sequence if entry.sequence is None else entry.sequence)


def _without_origin(entry: Entry, **changes: Any) -> Entry:
    return entry.model_copy(update={"instance": None, "sequence": None, **changes})


def _content(report: Report) -> tuple[Any, ...]:
    entries = (getattr(report, name) for name in _FIELDS.values())
    said = [None if entry is None else _without_origin(entry) for entry in entries]
    return (report.attempt, report.pod_uid, report.exchange, said)


def _entry(payload: Addressed, time: datetime) -> Entry:
    match payload:
        case DataReport():
            return DataReportEntry(applicable=payload.applicable, reason=payload.reason, time=time)
        case TrainingStart():
            return TrainingStartEntry(time=time)
        case ModelName():
            metrics = {name: decimal(value) for name, value in payload.metrics.items()}
            return ModelNameEntry(model_name=payload.model_name, digest=payload.digest, metrics=metrics, time=time)
        case ErrorReport():
            return ErrorEntry(reason=payload.reason, detail=payload.detail, retryable=payload.retryable, time=time)
        case _:
            raise TypeError(f"{type(payload).__name__} has no place in a report")


def decimal(value: float) -> str:
    """Write a number as the decimal string that statuses hold."""
    return format(value, ".10g")
