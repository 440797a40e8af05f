"""The keyed work queue between the watches and the reconcilers.

A key says only that something about an object may have changed. So keys can be merged: a key waits at most once, is
never worked on twice at once, and is worked on again when it was added meanwhile.

A Project's key excludes the keys of its runs, and waits for those that are worked on: its reconcile decides admission
over all runs together, and starts those that it admits, so that no run's own reconcile may act on one of them at the
same time. Keys of runs do not exclude each other, for a run's reconcile acts on that run alone. Keys of a Project and
its runs begin in the order in which they came due, so that neither kind starves the other.

Time is the event loop's, which tests simulate.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from chorus_kube.errors import Conflict, KubeError, Unavailable

DEADLINE_SECONDS = 60.0
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 120.0
MAX_CONFLICTS = 5
OUTCOMES = ("ok", "conflict", "failed", "late")

log = structlog.get_logger()


@dataclass(frozen=True, order=True)
class Key:
    """An object to look at. `project` is the Project it belongs to, in the same namespace; "" for a Plugin."""

    kind: str
    namespace: str
    name: str
    project: str

    @property
    def group(self) -> tuple[str, ...]:
        """A Project and its runs, or a Plugin alone."""
        return (self.namespace, self.project) if self.project else (self.namespace, self.kind, self.name)

    @property
    def excludes_group(self) -> bool:
        """Whether no other key of the group may be worked on at the same time."""
        return self.kind != "TrainingRun"


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Preparations at one key; returns in how many seconds to look again, or None for when something changes."""

Observe = Callable[[str, str, float], None]
"""Is told of each reconcile that ended: the kind of its key, its outcome, its seconds."""


@dataclass(frozen=True)
class Stats:
    """The queue at one moment."""

    ready: int
    """Keys that wait for a worker or for their group."""
    delayed: int
    """Keys whose time has not come."""
    running: int
    oldest_seconds: float
    """How long the key that has waited or run longest is due; 0 when there is none."""


class WorkQueue:
    """Calls `reconcile` for each key that is due. Belongs to one event loop; not safe across threads."""

    def __init__(
        self,
        reconcile: Reconcile,
        *,
        concurrency: int = 16,
        deadline: float = DEADLINE_SECONDS,
        jitter: random.Random | None = None,
        observe: Observe | None = None,
    ):
        """`concurrency`: keys worked on at once; `deadline`: seconds that one reconcile may take."""
        self._reconcile = reconcile
        self._concurrency = concurrency
        self._deadline = deadline
        self._jitter = jitter or random.Random()
        self._observe = observe
        self._due: dict[Key, float] = {}  # keys that wait, and since or until when
        self._timers: list[tuple[float, int, Key]] = []  # a heap over _due; entries that disagree with it are void
        self._ties = itertools.count()
        self._waiting: dict[tuple[str, ...], deque[Key]] = {}  # keys that are due, by group
        self._groups: dict[tuple[str, ...], None] = {}  # groups whose first key that is due may begin
        self._running: dict[Key, float] = {}  # keys that are worked on, and since when they were due
        self._busy: Counter[tuple[str, ...]] = Counter()  # keys that are worked on, by group
        self._excluded: set[tuple[str, ...]] = set()  # groups of which one key is worked on that excludes the others
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: Counter[Key] = Counter()
        self._conflicts: Counter[Key] = Counter()
        self._alarm: asyncio.TimerHandle | None = None
        self._started = False
        self._stopped = False
        self.outcomes: Counter[str] = Counter()
        """Reconciles ended so far, by `OUTCOMES`."""

    def add(self, key: Key, after: float = 0) -> None:
        """Have the key worked on in `after` seconds; the earliest wish wins. Added while it runs, it runs again."""
        if self._stopped:
            return
        due = self._now() + after
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        if key not in self._running:
            heapq.heappush(self._timers, (due, next(self._ties), key))
            self._pump()

    def start(self) -> None:
        """Begin to work; keys added before wait until now."""
        self._started = True
        self._pump()

    async def stop(self, *, grace: float = 5.0) -> None:
        """Take no more keys, give running reconciles `grace` seconds to end, then cancel them."""
        self._stopped = True
        if self._alarm is not None:
            self._alarm.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def stats(self) -> Stats:
        """Count what waits and what runs."""
        now = self._now()
        waiting = [key for keys in self._waiting.values() for key in keys]
        since = [self._due[key] for key in waiting] + list(self._running.values())
        return Stats(
            ready=len(waiting),
            delayed=len(self._due) - len(waiting),
            running=len(self._running),
            oldest_seconds=max((now - moment for moment in since), default=0.0),
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _pump(self) -> None:
        """Move keys whose time has come to their groups, start what may start, set the alarm for the next."""
        if not self._started or self._stopped:
            return
        now = self._now()
        while self._timers and (self._timers[0][0] <= now or self._is_void(self._timers[0])):
            timer = heapq.heappop(self._timers)
            if not self._is_void(timer):
                self._make_ready(timer[2])
        while self._groups and len(self._running) < self._concurrency:
            self._begin(next(iter(self._groups)))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._timers:
            self._alarm = asyncio.get_running_loop().call_at(self._timers[0][0], self._pump)

    def _is_void(self, timer: tuple[float, int, Key]) -> bool:
        due, _, key = timer
        return self._due.get(key) != due or key in self._running or key in self._waiting.get(key.group, ())

    def _make_ready(self, key: Key) -> None:
        waiting = self._waiting.setdefault(key.group, deque())
        waiting.append(key)
        if len(waiting) == 1:
            self._offer(key.group)

    def _offer(self, group: tuple[str, ...]) -> None:
        """Have the first key of a group begin when there is room for it, if it may."""
        waiting = self._waiting.get(group)
        if not waiting or group in self._excluded or (waiting[0].excludes_group and self._busy[group]):
            return
        self._groups[group] = None

    def _begin(self, group: tuple[str, ...]) -> None:
        del self._groups[group]
        waiting = self._waiting[group]
        key = waiting.popleft()
        if not waiting:
            del self._waiting[group]
        self._running[key] = self._due.pop(key)
        self._busy[group] += 1
        if key.excludes_group:
            self._excluded.add(group)
        self._offer(group)
        task = asyncio.get_running_loop().create_task(self._work(key), name=f"reconcile {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, key: Key) -> None:
        after: float | None = None
        try:
            after = await self._outcome(key)
        finally:
            del self._running[key]
            self._end(key.group)
            wish = self._due.get(key)  # added meanwhile
            if after is not None and (wish is None or self._now() + after < wish):
                wish = self._due[key] = self._now() + after
            if wish is not None:
                heapq.heappush(self._timers, (wish, next(self._ties), key))
            self._pump()

    def _end(self, group: tuple[str, ...]) -> None:
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
        self._excluded.discard(group)
        self._offer(group)

    async def _outcome(self, key: Key) -> float | None:
        """Reconcile once; return in how many seconds to do it again, by success or back-off."""
        began = self._now()
        try:
            async with asyncio.timeout(self._deadline):
                after = await self._reconcile(key)
        except Conflict as error:
            self._ended(key, "conflict", began)
            self._conflicts[key] += 1
            if self._conflicts[key] <= MAX_CONFLICTS:
                return 0.0
            return self._back_off(key, error)  # somebody writes it all the time, or a precondition is wrong
        except TimeoutError as error:
            self._ended(key, "late", began)
            return self._back_off(key, error)
        except Exception as error:
            self._ended(key, "failed", began)
            return self._back_off(key, error)
        self._ended(key, "ok", began)
        self._failures.pop(key, None)
        self._conflicts.pop(key, None)
        return after

    def _ended(self, key: Key, outcome: str, began: float) -> None:
        self.outcomes[outcome] += 1
        if self._observe is not None:
            self._observe(key.kind, outcome, self._now() - began)

    def _back_off(self, key: Key, error: Exception) -> float:
        self._failures[key] += 1
        failures = self._failures[key]
        wait = min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 32), LONGEST_BACKOFF) * self._jitter.uniform(0.5, 1.0)
        if isinstance(error, Unavailable) and error.retry_after is not None:
            wait = max(wait, error.retry_after)
        log.warning(
            "reconcile failed",
            kind=key.kind,
            namespace=key.namespace,
            name=key.name,
            failures=failures,
            again_in_seconds=round(wait, 2),
            error=f"took longer than {self._deadline:g} s" if isinstance(error, TimeoutError) else str(error),
            exc_info=None if isinstance(error, KubeError | TimeoutError) else error,
        )
        return wait
