"""How far runs are: merged in memory, written to their statuses every few seconds, never durable.

A message lost here costs a moment of display; the next one says more. What must not be lost is in the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from chorus_api.messages import Envelope, ProgressReport
from chorus_api.training_run import Progress
from chorus_operator.kube.client import Kube, Manifest
from chorus_operator.kube.errors import Conflict, KubeError
from chorus_operator.kube.resources import TRAINING_RUNS
from chorus_operator.messages.report import decimal
from chorus_operator.messages.runs import current_attempt, is_final
from chorus_operator.messages.senders import TrainingPod

log = structlog.get_logger()

PROGRESS_MANAGER = "chorus-progress"
WRITE_SECONDS = 10.0
FORGET_SECONDS = 3600.0
MAX_METRICS = 32
MAX_CONFLICTS = 4
WRITES = ("written", "conflict", "failed")


def merged_progress(known: Progress | None, *, envelope: Envelope, payload: ProgressReport, now: datetime) -> Progress:
    """Lay a newer message over what is known of the same attempt; within an attempt percent never runs backwards."""
    if known is None or known.attempt != envelope.attempt:
        known = Progress(attempt=envelope.attempt, percent=0, time=now)
    metrics = {name: decimal(value) for name, value in payload.metrics.items()}
    older = {name: value for name, value in known.metrics.items() if name not in metrics}
    metrics |= dict(list(older.items())[: MAX_METRICS - len(metrics)])
    said = {
        "step": payload.step,
        "total_steps": payload.total_steps,
        "epoch": None if payload.epoch is None else decimal(payload.epoch),
        "eta_seconds": payload.eta_seconds,
        "loss": None if payload.loss is None else decimal(payload.loss),
        "checkpoint_step": payload.checkpoint_step,
    }
    return known.model_copy(
        update={name: value for name, value in said.items() if value is not None}
        | {"percent": max(known.percent, payload.percent), "metrics": metrics, "time": now}
    )


def progress_to_write(stored: Progress | None, ours: Progress) -> Progress | None:
    """What to write over what is stored, which another receiver may have written; None when ours is not newer."""
    if stored is None or stored.attempt < ours.attempt:
        return ours
    if stored.attempt > ours.attempt or stored.time > ours.time:
        return None
    if stored.step is not None and ours.step is not None and stored.step > ours.step:
        return None
    new = ours.model_copy(update={"percent": max(stored.percent, ours.percent)})
    return None if new == stored else new


@dataclass
class _Entry:
    pod: TrainingPod
    sequence: int
    progress: Progress
    seen: float
    dirty: bool = True
    next_write: float = 0.0
    timer: asyncio.TimerHandle | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ProgressBook:
    """The newest progress of each run. Belongs to one event loop."""

    def __init__(self, kube: Kube, *, clock: Callable[[], datetime], every: float = WRITE_SECONDS):
        """`clock`: the time that is written; `every`: least seconds between two writes of one run."""
        self._kube = kube
        self._clock = clock
        self._every = every
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by run uid, the longest silent first
        self._tasks: set[asyncio.Task[None]] = set()
        self.writes: Counter[str] = Counter()
        """Attempts to write so far, by `WRITES`."""

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, pod: TrainingPod, *, envelope: Envelope, payload: ProgressReport) -> bool:
        """Take one message in; False when it is older than what is known."""
        now = asyncio.get_running_loop().time()
        self._forget_silent(now)
        entry = self._entries.get(pod.run_uid)
        if entry is not None and pod.attempt < entry.pod.attempt:
            return False
        if entry is not None and entry.pod.uid == pod.uid and envelope.sequence <= entry.sequence:
            return False
        known = entry.progress if entry is not None else None
        progress = merged_progress(known, envelope=envelope, payload=payload, now=self._clock().replace(microsecond=0))
        if entry is None:
            entry = self._entries[pod.run_uid] = _Entry(pod, envelope.sequence, progress, now)
        if progress.percent == 100 and (known is None or known.percent < 100 or known.attempt != progress.attempt):
            self._hurry(entry)
        entry.pod, entry.sequence, entry.progress, entry.seen, entry.dirty = pod, envelope.sequence, progress, now, True
        self._entries.move_to_end(pod.run_uid)
        self._schedule(pod.run_uid, entry)
        return True

    def next_sequence(self, pod: TrainingPod) -> int:
        """Number a message that has no number of its own: it is newer than what is known of the pod."""
        entry = self._entries.get(pod.run_uid)
        return entry.sequence + 1 if entry is not None and entry.pod.uid == pod.uid else 1

    async def flush(self) -> None:
        """Write everything that is not written yet, now."""
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(self._write(uid) for uid, entry in list(self._entries.items()) if entry.dirty))

    def _forget_silent(self, now: float) -> None:
        while self._entries:
            uid, entry = next(iter(self._entries.items()))
            if now - entry.seen < FORGET_SECONDS:
                return
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()

    def _hurry(self, entry: _Entry) -> None:
        """Write the last word of a training at once: when its run has ended, nothing is written any more."""
        entry.next_write = 0.0
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def _schedule(self, uid: str, entry: _Entry) -> None:
        if entry.timer is None:
            entry.timer = asyncio.get_running_loop().call_at(entry.next_write, self._begin, uid)

    def _begin(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is None:
            return
        entry.timer = None
        entry.next_write = asyncio.get_running_loop().time() + self._every
        task = asyncio.get_running_loop().create_task(self._write(uid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is None:
            return
        async with entry.lock:
            if not entry.dirty:
                return
            entry.dirty = False
            try:
                await self._store(uid, entry)
            except KubeError as error:
                self.writes["failed"] += 1
                log.info(
                    "progress is written later", run=entry.pod.run, namespace=entry.pod.namespace, error=str(error)
                )
                entry.dirty = True
        if entry.dirty and uid in self._entries:
            self._schedule(uid, entry)

    async def _store(self, uid: str, entry: _Entry) -> None:
        pod = entry.pod
        for _ in range(MAX_CONFLICTS):
            run = await self._kube.get(TRAINING_RUNS, namespace=pod.namespace, name=pod.run)
            if run is None or run["metadata"]["uid"] != uid or is_final(run) or current_attempt(run) > pod.attempt:
                if entry.pod is pod:
                    self._forget(uid)
                return
            new = progress_to_write(_progress_of(run), entry.progress)
            if new is None:
                return
            try:
                await self._kube.apply_status(
                    TRAINING_RUNS,
                    namespace=pod.namespace,
                    name=pod.run,
                    status_part={"progress": new.model_dump(mode="json", exclude_none=True)},
                    manager=PROGRESS_MANAGER,
                    resource_version=run["metadata"]["resourceVersion"],
                )
            except Conflict:
                self.writes["conflict"] += 1
                continue
            self.writes["written"] += 1
            return
        entry.dirty = True  # written all the time by others: at the next turn


def _progress_of(run: Manifest) -> Progress | None:
    stored = run.get("status", {}).get("progress")
    if stored is None:
        return None
    try:
        return Progress.model_validate(stored)
    except ValidationError:
        return None
