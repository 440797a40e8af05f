"""The work queue: merging, exclusion, back-off, fairness. All in simulated time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest

from chorus_kube.errors import Conflict, Unavailable
from chorus_kube.work_queue import LONGEST_BACKOFF, MAX_CONFLICTS, Key, WorkQueue
from simulated_time import simulate

RUN = Key("TrainingRun", "default", "run-1", "home")
OTHER_RUN = Key("TrainingRun", "default", "run-2", "home")
PROJECT = Key("Project", "default", "home", "home")
STRANGER = Key("Project", "default", "other", "other")
THIRD_RUN = Key("TrainingRun", "default", "run-3", "home")
PLUGIN = Key("Plugin", "default", "soft", "")
OTHER_PLUGIN = Key("Plugin", "default", "decoder", "")


class Work:
    """A reconciler that takes `seconds` and answers what it is told to."""

    def __init__(self, seconds: float = 1.0, answer: Callable[[Key, int], float | None] = lambda key, count: None):
        self.seconds = seconds
        self.answer = answer
        self.starts: list[tuple[float, Key]] = []
        self.active: set[Key] = set()
        self.most_active = 0

    async def __call__(self, key: Key) -> float | None:
        assert key not in self.active
        beside = [active for active in self.active if active.group == key.group]
        assert not any(each.excludes_group for each in (key, *beside)) or not beside
        self.starts.append((asyncio.get_running_loop().time(), key))
        self.active.add(key)
        self.most_active = max(self.most_active, len(self.active))
        try:
            await asyncio.sleep(self.seconds)
            return self.answer(key, sum(key == started for _, started in self.starts))
        finally:
            self.active.discard(key)


def queue_for(work: Work, **options: float) -> WorkQueue:
    queue = WorkQueue(work, jitter=random.Random(1), **options)  # type: ignore[arg-type]
    queue.start()
    return queue


def test_a_key_added_often_is_worked_on_once() -> None:
    async def main() -> None:
        queue = WorkQueue(work)
        for _ in range(100):
            queue.add(RUN)
        queue.start()
        await asyncio.sleep(10)

    work = Work()
    simulate(main())
    assert work.starts == [(0.0, RUN)]


def test_a_key_added_while_it_is_worked_on_is_worked_on_again_afterwards() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(0.5)
        queue.add(RUN)
        queue.add(RUN)
        await asyncio.sleep(10)

    work = Work(seconds=1)
    simulate(main())
    assert work.starts == [(0.0, RUN), (1.0, RUN)]


def test_a_project_excludes_its_runs_which_do_not_exclude_each_other_and_others_do_not_wait_for_them() -> None:
    async def main() -> None:
        queue = queue_for(work)
        for key in (RUN, OTHER_RUN, PROJECT, STRANGER, PLUGIN, OTHER_PLUGIN):
            queue.add(key)
        await asyncio.sleep(0.5)
        queue.add(THIRD_RUN)
        await asyncio.sleep(10)

    work = Work(seconds=1)
    simulate(main())
    at_once = {RUN, OTHER_RUN, STRANGER, PLUGIN, OTHER_PLUGIN}
    assert set(work.starts) == {*((0.0, key) for key in at_once), (1.0, PROJECT), (2.0, THIRD_RUN)}
    assert len(work.starts) == 7


def test_a_project_is_not_kept_waiting_by_runs_that_come_due_after_it() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(0.1)
        queue.add(PROJECT)
        for _ in range(20):
            queue.add(OTHER_RUN)
            queue.add(THIRD_RUN)
            await asyncio.sleep(0.3)

    work = Work(seconds=1)
    simulate(main())
    assert next(time for time, key in work.starts if key == PROJECT) == 1.0


def test_equal_names_in_two_namespaces_are_two_projects() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(PROJECT)
        queue.add(Key("Project", "elsewhere", "home", "home"))
        await asyncio.sleep(0.5)

    work = Work(seconds=1)
    simulate(main())
    assert len(work.starts) == 2


def test_no_more_keys_than_allowed_are_worked_on_at_once() -> None:
    async def main() -> None:
        queue = queue_for(work, concurrency=3)
        for number in range(10):
            queue.add(Key("Project", "default", f"p{number}", f"p{number}"))
        await asyncio.sleep(20)

    work = Work(seconds=1)
    simulate(main())
    assert work.most_active == 3
    assert [time for time, _ in work.starts] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize(("first", "second"), [(5.0, 2.0), (2.0, 5.0)])
def test_the_earliest_wish_wins(first: float, second: float) -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN, after=first)
        queue.add(RUN, after=second)
        await asyncio.sleep(20)

    work = Work()
    simulate(main())
    assert work.starts == [(2.0, RUN)]


def test_a_reconciler_says_when_to_look_again_and_a_change_comes_first() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(35)
        queue.add(RUN)
        await asyncio.sleep(20)

    work = Work(seconds=0, answer=lambda key, count: 30.0)
    simulate(main())
    assert [time for time, _ in work.starts] == [0.0, 30.0, 35.0]


def test_a_failing_key_backs_off_further_each_time_up_to_a_bound_and_starts_anew_after_a_success() -> None:
    def answer(key: Key, count: int) -> float | None:
        if count <= 12:
            raise RuntimeError("broken")
        return None

    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(3600)
        assert queue.outcomes == {"failed": 12, "ok": 1}
        assert queue._failures == {}

    work = Work(seconds=0, answer=answer)
    simulate(main())
    times = [time for time, _ in work.starts]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 13
    assert 0.25 <= waits[0] <= 0.5
    assert waits[5] > waits[1]
    assert LONGEST_BACKOFF / 2 <= waits[-1] <= LONGEST_BACKOFF


def test_a_failing_key_holds_nobody_up() -> None:
    def answer(key: Key, count: int) -> float | None:
        if key == STRANGER:
            raise RuntimeError("broken")
        return None

    async def main() -> None:
        queue = queue_for(work, concurrency=1)
        queue.add(STRANGER)
        queue.add(RUN)
        await asyncio.sleep(0.1)

    work = Work(seconds=0, answer=answer)
    simulate(main())
    assert (0.0, RUN) in work.starts


def test_a_conflict_is_tried_again_at_once_and_endless_conflicts_back_off() -> None:
    def answer(key: Key, count: int) -> float | None:
        raise Conflict("changed")

    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(0.1)

    work = Work(seconds=0, answer=answer)
    simulate(main())
    assert len(work.starts) == MAX_CONFLICTS + 1


def test_an_overloaded_api_server_gets_the_pause_it_asks_for() -> None:
    def answer(key: Key, count: int) -> float | None:
        if count == 1:
            raise Unavailable("slow down", status=429, retry_after=17)
        return None

    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(60)

    work = Work(seconds=0, answer=answer)
    simulate(main())
    assert [time for time, _ in work.starts] == [0.0, 17.0]


def test_a_reconcile_that_hangs_is_cut_off_and_tried_again() -> None:
    async def main() -> None:
        queue = queue_for(work, deadline=60)
        queue.add(RUN)
        await asyncio.sleep(62)
        assert queue.outcomes == {"late": 1}

    work = Work(seconds=1000)
    simulate(main())
    assert len(work.starts) == 2


def test_stopping_lets_running_work_end_and_starts_no_more() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        queue.add(PROJECT)
        await asyncio.sleep(0.5)
        await queue.stop(grace=5)
        queue.add(STRANGER)
        await asyncio.sleep(10)
        assert asyncio.get_running_loop().time() == pytest.approx(11.0)
        assert queue.outcomes == {"ok": 1}

    work = Work(seconds=1)
    simulate(main())
    assert work.starts == [(0.0, RUN)]


def test_stopping_cancels_what_outlasts_the_grace() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        await asyncio.sleep(0.5)
        await queue.stop(grace=5)
        assert asyncio.get_running_loop().time() == pytest.approx(5.5)

    work = Work(seconds=1000)
    simulate(main())
    assert work.active == set()


def test_an_observer_is_told_the_kind_the_outcome_and_the_seconds_of_each_reconcile() -> None:
    def answer(key: Key, count: int) -> float | None:
        if key == RUN and count == 1:
            raise Conflict("changed", status=409)
        if key == PLUGIN and count == 1:
            raise Unavailable("away", status=503)
        return None

    async def main() -> None:
        queue = WorkQueue(
            Work(seconds=2, answer=answer), observe=lambda *told: seen.append(told), jitter=random.Random(1)
        )
        queue.start()
        for key in (RUN, PLUGIN):
            queue.add(key)
        await asyncio.sleep(60)

    seen: list[tuple[str, str, float]] = []
    simulate(main())
    assert sorted(seen) == [
        ("Plugin", "failed", 2.0),
        ("Plugin", "ok", 2.0),
        ("TrainingRun", "conflict", 2.0),
        ("TrainingRun", "ok", 2.0),
    ]


def test_statistics_tell_what_waits_and_for_how_long() -> None:
    async def main() -> None:
        queue = queue_for(work)
        queue.add(RUN)
        queue.add(PROJECT)
        queue.add(STRANGER, after=100)
        await asyncio.sleep(4)
        stats = queue.stats()
        assert (stats.ready, stats.running, stats.delayed) == (1, 1, 1)
        assert stats.oldest_seconds == pytest.approx(4.0)
        await asyncio.sleep(50)
        assert queue.stats().oldest_seconds == 0

    work = Work(seconds=10)
    simulate(main())
