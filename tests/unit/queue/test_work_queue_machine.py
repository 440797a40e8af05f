"""Any order of additions, ends, failures and passing time keeps the promises of the work queue."""

from __future__ import annotations

import asyncio
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chorus_kube.errors import Conflict
from chorus_kube.work_queue import Key, WorkQueue
from simulated_time import SimulatedLoop

CONCURRENCY = 3
KEYS = [Key("Project", "ns", name, name) for name in "ab"] + [
    Key("TrainingRun", "ns", "a-1", "a"),
    Key("TrainingRun", "ns", "a-2", "a"),
    Key("TrainingRun", "ns", "b-1", "b"),
    Key("Plugin", "ns", "soft", ""),
]
Outcome = float | Exception | None


class QueueMachine(RuleBasedStateMachine):
    """The model: when each key must have been started at the latest, if a worker was free all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SimulatedLoop()
        self.active: dict[Key, asyncio.Future[Outcome]] = {}
        self.wanted: dict[Key, float] = {}
        """Keys that must still be started, and the time of the earliest wish."""
        self.ended: dict[Key, float] = {}
        """When each key was last done with."""
        self.queue = WorkQueue(self.reconcile, concurrency=CONCURRENCY, deadline=float("1e9"), jitter=random.Random(0))
        self.do(self.queue.start)

    def do(self, action: object, *arguments: object) -> None:
        async def main() -> None:
            action(*arguments)  # type: ignore[operator]
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(main())

    async def reconcile(self, key: Key) -> float | None:
        assert key not in self.active, "worked on twice at once"
        beside = self.beside(key)
        assert not beside or not any(each.excludes_group for each in (key, *beside)), "a Project beside one of its runs"
        assert key in self.wanted, "worked on without a wish"
        earlier = [other for other in self.wanted if other.group == key.group and self.ready(other) < self.ready(key)]
        assert all(self.queue._failures.get(other) for other in earlier), f"before {earlier}, which came due earlier"
        assert self.loop.time() >= self.wanted.pop(key) - 1e-6, "worked on too early"
        self.active[key] = self.loop.create_future()
        try:
            outcome = await self.active[key]
        finally:
            del self.active[key]
            self.ended[key] = self.loop.time()
        if isinstance(outcome, Exception):
            # A back-off's length is the queue's own business: any time from now on is right.
            self.wanted[key] = self.loop.time()
            raise outcome
        if outcome is not None:
            self.wish(key, outcome)
        return outcome

    def beside(self, key: Key) -> list[Key]:
        """Keys of the same group that are worked on."""
        return [active for active in self.active if active.group == key.group]

    def ready(self, key: Key) -> float:
        """Since or until when a key that is wanted cannot be started for its own sake."""
        return max(self.wanted[key], self.ended.get(key, 0.0))

    def is_free(self, key: Key) -> bool:
        """Tell whether nothing of its group keeps a key that is due from being started."""
        beside = self.beside(key)
        if not beside:
            return True
        before = [other for other in self.wanted if other.group == key.group and self.ready(other) <= self.ready(key)]
        return not any(each.excludes_group for each in (key, *beside, *before))

    def wish(self, key: Key, after: float) -> None:
        due = self.loop.time() + after
        self.wanted[key] = min(due, self.wanted.get(key, due))

    @rule(key=st.sampled_from(KEYS), after=st.sampled_from([0.0, 1.0, 7.5, 300.0]))
    def add(self, key: Key, after: float) -> None:
        self.wish(key, after)
        self.do(self.queue.add, key, after)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.active)))
        outcome = data.draw(st.sampled_from([None, 0.0, 5.0, RuntimeError("broken"), Conflict("changed")]))
        self.do(self.active[key].set_result, outcome)

    @rule(seconds=st.sampled_from([0.5, 10.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @invariant()
    def no_worker_idles_while_a_free_key_is_due(self) -> None:
        assert len(self.active) <= CONCURRENCY
        if len(self.active) < CONCURRENCY:
            now = self.loop.time()
            late = [
                key
                for key, due in self.wanted.items()
                if due < now and key not in self.active and self.is_free(key) and not self.queue._failures.get(key)
            ]
            assert not late, f"due and not started: {late}"

    @invariant()
    def statistics_agree(self) -> None:
        async def count() -> None:
            stats = self.queue.stats()
            assert stats.running == len(self.active)
            assert stats.ready + stats.delayed == len(self.wanted)

        self.loop.run_until_complete(count())

    def teardown(self) -> None:
        """Every wish is fulfilled in the end."""
        for _ in range(200):
            if not self.wanted and not self.active:
                break
            for future in list(self.active.values()):
                self.do(future.set_result, None)
            self.loop.run_until_complete(asyncio.sleep(400))
        try:
            assert not self.wanted
            assert not self.active
        finally:
            self.loop.run_until_complete(self.queue.stop(grace=0))
            self.loop.close()


QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase
