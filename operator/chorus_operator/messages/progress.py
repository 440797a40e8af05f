"""How far runs are: merged in memory, written to their statuses every few seconds, never durable.

A message lost here costs a moment of display; the next one says more. What must not be lost is in the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from chorus_api.training_run import MAX_INSTANCES, Progress
from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import Conflict, KubeError, NotFound
from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.decisions.run.shown import of_progress
from chorus_operator.messages.known import KnownObjects, NothingKnown
from chorus_operator.messages.pod_senders import TrainingPod
from chorus_operator.messages.progress_status import Unwritten, progress_to_write, sequences_of
from chorus_operator.messages.run_locks import RunLocks
from chorus_operator.messages.runs import current_attempt, is_final
from chorus_protocol.messages import Envelope, ProgressReport

log = structlog.get_logger()

PROGRESS_MANAGER = "chorus-progress"
WRITE_SECONDS = 10.0
FORGET_SECONDS = 3600.0
MAX_CONFLICTS = 4
WRITES = ("written", "conflict", "failed")


@dataclass
class _Entry:
    pod: TrainingPod
    seen: float
    sequences: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """How far each instance has counted in the attempt, as far as this receiver knows; the one that spoke last last."""
    unwritten: dict[str, Unwritten] = field(default_factory=dict)  # by instance
    percent: int = 0
    next_write: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def note(self, instance: str, sequence: int) -> None:
        """Note how far an instance has counted; of too many the longest silent is forgotten."""
        self.sequences[instance] = max(sequence, self.sequences.get(instance, 0))
        self.sequences.move_to_end(instance)
        while len(self.sequences) > MAX_INSTANCES:
            self.sequences.popitem(last=False)

    def begin(self, pod: TrainingPod) -> None:
        """Begin a newer attempt."""
        self.pod, self.percent = pod, 0
        self.sequences.clear()
        self.unwritten.clear()


class ProgressBook:
    """The newest progress of each run. Belongs to one event loop."""

    def __init__(
        self,
        kube: Kube,
        *,
        clock: Callable[[], datetime],
        known: KnownObjects | None = None,
        locks: RunLocks | None = None,
        every: float = WRITE_SECONDS,
    ):
        """`clock`: the time that is written; `every`: least seconds between two writes of one run."""
        self._kube = kube
        self._known = known or NothingKnown()
        self._locks = locks or RunLocks()
        self._clock = clock
        self._every = every
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by run uid, the longest silent first
        self._tasks: set[asyncio.Task[None]] = set()
        self.writes: Counter[str] = Counter()
        """Attempts to write so far, by `WRITES`."""

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, pod: TrainingPod, *, envelope: Envelope, payload: ProgressReport) -> bool:
        """Take one message in; False when it is known, or older than what its instance has said."""
        now = asyncio.get_running_loop().time()
        self._forget_silent(now)
        entry, instance = self._entries.get(pod.run_uid), envelope.instance or pod.instance
        if entry is not None and pod.attempt < entry.pod.attempt:
            return False
        if entry is None:
            entry = self._entries[pod.run_uid] = _Entry(pod, now)
        elif pod.attempt > entry.pod.attempt:
            entry.begin(pod)
        if envelope.sequence <= entry.sequences.get(instance, -1):
            return False
        time = self._clock().replace(microsecond=0)
        said = Unwritten(instance, envelope.attempt, envelope.sequence, payload, time)
        before = entry.unwritten.pop(instance, None)
        entry.unwritten[instance] = said if before is None else before.then(said)
        if len(entry.unwritten) > MAX_INSTANCES:  # the API server is away, and somebody invents instances
            del entry.unwritten[next(iter(entry.unwritten))]
        entry.note(instance, envelope.sequence)
        if payload.percent == 100 and entry.percent < 100:
            self._hurry(entry)
        entry.pod, entry.seen, entry.percent = pod, now, max(entry.percent, payload.percent)
        self._entries.move_to_end(pod.run_uid)
        self._schedule(pod.run_uid, entry)
        return True

    def next_sequence(self, pod: TrainingPod, instance: str) -> int:
        """Number a message that has no number of its own, by the time: so that two receivers number alike."""
        entry = self._entries.get(pod.run_uid)
        known = entry.sequences.get(instance, 0) if entry is not None else 0
        return max(known + 1, int(self._clock().timestamp() * 1000))

    async def flush(self) -> None:
        """Write everything that is not written yet, now."""
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(self._write(uid) for uid, entry in list(self._entries.items()) if entry.unwritten))

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
        async with self._locks.of(uid):
            batch = list(entry.unwritten.values())
            if not batch:
                return
            try:
                await self._store(uid, entry, batch)
            except KubeError as error:
                self.writes["failed"] += 1
                log.info(
                    "progress is written later", run=entry.pod.run, namespace=entry.pod.namespace, error=str(error)
                )
        if entry.unwritten and uid in self._entries:
            self._schedule(uid, entry)

    async def _store(self, uid: str, entry: _Entry, batch: Sequence[Unwritten]) -> None:
        pod = entry.pod
        known = self._known.get(TRAINING_RUNS, pod.namespace, pod.run)
        if known is not None and _takes(known, uid, pod):
            new = progress_to_write(_progress_of(known), batch)
            if new is not None and await self._apply(known, entry, batch, new):
                return
        for _ in range(MAX_CONFLICTS):
            run = await self._kube.get(TRAINING_RUNS, namespace=pod.namespace, name=pod.run)
            if run is None or not _takes(run, uid, pod):
                if entry.pod is pod:
                    self._forget(uid)
                return
            new = progress_to_write(stored := _progress_of(run), batch)
            if new is None:
                self._written(entry, batch, stored)
                return
            if await self._apply(run, entry, batch, new):
                return
        # Written all the time by others: at the next turn.

    async def _apply(self, run: Manifest, entry: _Entry, batch: Sequence[Unwritten], new: Progress) -> bool:
        """Write progress over a state of the run; False when it has changed, or is gone."""
        percent, loss = of_progress(new)
        short = {"percent": percent} | ({"loss": loss} if loss is not None else {})
        try:
            await self._kube.apply_status(
                TRAINING_RUNS,
                namespace=run["metadata"]["namespace"],
                name=run["metadata"]["name"],
                status_part={"progress": new.model_dump(mode="json", exclude_none=True), "shown": short},
                manager=PROGRESS_MANAGER,
                resource_version=run["metadata"]["resourceVersion"],
            )
        except (Conflict, NotFound):
            self.writes["conflict"] += 1
            return False
        self.writes["written"] += 1
        self._written(entry, batch, new)
        return True

    def _written(self, entry: _Entry, batch: Sequence[Unwritten], stored: Progress | None) -> None:
        """Strike off what is written, but for what has come since; and learn what other receivers have heard."""
        for said in batch:
            if entry.unwritten.get(said.instance) is said:
                del entry.unwritten[said.instance]
        if stored is not None and stored.attempt == entry.pod.attempt:
            for instance, sequence in sequences_of(stored).items():
                entry.note(instance, sequence)


def _takes(run: Manifest, uid: str, pod: TrainingPod) -> bool:
    """Tell whether a run is the pod's and goes on, at its attempt."""
    return run["metadata"]["uid"] == uid and not is_final(run) and current_attempt(run) <= pod.attempt


def _progress_of(run: Manifest) -> Progress | None:
    stored = run.get("status", {}).get("progress")
    if stored is None:
        return None
    try:
        return Progress.model_validate(stored)
    except ValidationError:
        return None
