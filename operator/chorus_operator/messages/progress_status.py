"""The block `status.progress` of a run, as pure functions of what is there and what came in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from chorus_api.training_run import MAX_INSTANCES, InstanceProgress, Progress
from chorus_operator.messages.report import decimal
from chorus_protocol.messages import ProgressReport

MAX_METRICS = 32

Value = TypeVar("Value")


@dataclass(frozen=True)
class Unwritten:
    """What an instance of a sender has said since it was written last: its messages, laid over one another."""

    instance: str
    attempt: int
    sequence: int
    """Of the newest message."""
    payload: ProgressReport
    time: datetime
    """When the newest message came."""

    def then(self, newer: Unwritten) -> Unwritten:
        """Lay a newer message of the same instance over this."""
        if newer.attempt != self.attempt:
            return newer
        said = newer.payload.model_dump(exclude_none=True, exclude={"metrics"})
        metrics = _newest(self.payload.metrics, newer.payload.metrics)
        percent = max(self.payload.percent, newer.payload.percent)
        payload = self.payload.model_copy(update={**said, "metrics": metrics, "percent": percent})
        return Unwritten(newer.instance, newer.attempt, newer.sequence, payload, newer.time)


def merged_progress(known: Progress | None, said: Unwritten) -> Progress:
    """Lay a newer word over what is known of the same attempt; within an attempt percent never runs backwards."""
    if known is None or known.attempt != said.attempt:
        known = Progress(attempt=said.attempt, percent=0, time=said.time)
    payload = said.payload
    fields = {
        "step": payload.step,
        "total_steps": payload.total_steps,
        "epoch": None if payload.epoch is None else decimal(payload.epoch),
        "eta_seconds": payload.eta_seconds,
        "loss": None if payload.loss is None else decimal(payload.loss),
        "checkpoint_step": payload.checkpoint_step,
    }
    others = [each for each in known.instances if each.instance != said.instance]
    last = InstanceProgress(instance=said.instance, sequence=said.sequence)
    return known.model_copy(
        update={name: value for name, value in fields.items() if value is not None}
        | {
            "percent": max(known.percent, payload.percent),
            "metrics": _newest(known.metrics, {name: decimal(value) for name, value in payload.metrics.items()}),
            "instances": [*others, last][-MAX_INSTANCES:],
            "time": max(known.time, said.time),
        }
    )


def progress_to_write(stored: Progress | None, unwritten: Iterable[Unwritten]) -> Progress | None:
    """What to write over what is stored, which another receiver may have written; None when nothing is new.

    Within an instance the sequence numbers tell what is newer, between instances the times at which receivers heard it.
    """
    new = stored
    for said in sorted(unwritten, key=lambda each: each.time):
        if new is None or new.attempt < said.attempt:
            new = merged_progress(None, said)
        elif new.attempt == said.attempt and said.sequence > sequences_of(new).get(said.instance, -1):
            new = merged_progress(new, said) if _is_newest(new, said) else _noted(new, said)
    return None if new == stored else new


def sequences_of(progress: Progress) -> dict[str, int]:
    """Tell how far each instance has counted, the one that spoke last at the end."""
    return {each.instance: each.sequence for each in progress.instances}


def _is_newest(stored: Progress, said: Unwritten) -> bool:
    spoke_last = stored.instances[-1].instance if stored.instances else None
    return spoke_last == said.instance or stored.time <= said.time


def _noted(stored: Progress, said: Unwritten) -> Progress:
    """Note that a message was heard, so that it is known when it comes again: another instance has spoken since."""
    heard = {said.instance: said.sequence} | sequences_of(stored) | {said.instance: said.sequence}
    instances = [InstanceProgress(instance=name, sequence=number) for name, number in heard.items()]
    percent = max(stored.percent, said.payload.percent)
    return stored.model_copy(update={"percent": percent, "instances": instances[-MAX_INSTANCES:]})


def _newest(older: dict[str, Value], newer: dict[str, Value]) -> dict[str, Value]:
    """Lay metrics over older ones, as many as a status holds; the newest stay."""
    kept = [(name, value) for name, value in older.items() if name not in newer]
    return newer | dict(kept[: MAX_METRICS - len(newer)])
