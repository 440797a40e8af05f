"""The block `status.report` of a run, as a pure function of what is there and what came in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chorus_api.contract import SERVICE_SPEAKER
from chorus_api.messages import (
    Addressed,
    DataReport,
    Envelope,
    ErrorReport,
    ExchangeReady,
    ModelName,
    TrainingStart,
)
from chorus_api.training_run import (
    DataReportEntry,
    ErrorEntry,
    ExchangeEntry,
    ModelNameEntry,
    Report,
    TrainingStartEntry,
)

_FIELDS: dict[type[Addressed], str] = {
    DataReport: "data_report",
    TrainingStart: "training_start",
    ModelName: "model_name",
    ErrorReport: "error",
}


def updated_report(
    report: Report | None, *, envelope: Envelope, payload: Addressed, pod_uid: str, now: datetime
) -> Report:
    """Take one message in; the unchanged `report` when the message is old, known, or says nothing new.

    A newer attempt starts a new report, and so does another pod of the same attempt: the caller makes sure that it has
    taken the first one's place. Messages may come late: what an earlier sequence number says is taken when nothing is
    known of its type, but never replaces what is known.
    """
    if report is not None and envelope.attempt < report.attempt:
        return report
    if report is None or envelope.attempt > report.attempt or report.pod_uid != pod_uid:
        report = Report(attempt=envelope.attempt, pod_uid=pod_uid)
    elif _is_known(report, envelope, payload):
        return report
    changes: dict[str, Any] = {
        _FIELDS[type(payload)]: _entry(payload, now),
        "sequence": max(report.sequence, envelope.sequence),
    }
    if isinstance(payload, ModelName) and report.training_start is None:
        # Its TRAINING_START was lost, or the plugin never sends one: training is over, so it has begun.
        changes["training_start"] = TrainingStartEntry(time=now)
    return report.model_copy(update=changes)


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


def _is_known(report: Report, envelope: Envelope, payload: Addressed) -> bool:
    known = getattr(report, _FIELDS[type(payload)])
    if known is None:
        return False
    same: bool = _entry(payload, known.time) == known
    return same or envelope.sequence <= report.sequence


def _entry(payload: Addressed, time: datetime) -> Any:
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
