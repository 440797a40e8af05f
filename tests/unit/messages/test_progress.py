"""Progress: merged, never backwards, written seldom, never over something newer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.training_run import Progress
from chorus_kube.errors import Conflict, Unavailable
from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.messages.pod_senders import TrainingPod
from chorus_operator.messages.progress import ProgressBook
from chorus_operator.messages.progress_status import Unwritten, merged_progress, progress_to_write
from chorus_protocol.messages import Envelope, MessageType, ProgressReport
from fakes import Call, FakeKube
from message_builders import ended, training_run
from simulated_time import simulate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def envelope(sequence: int = 1, attempt: int = 1, instance: str | None = None) -> Envelope:
    kind = MessageType.PROGRESS
    return Envelope(
        id="i", source="s", type=kind, subject_uid="u", attempt=attempt, sequence=sequence, instance=instance
    )


def said(percent: int, **fields: Any) -> ProgressReport:
    return ProgressReport(project_id=1, plugin_id=2, percent=percent, **fields)


def unwritten(
    payload: ProgressReport, *, attempt: int = 1, sequence: int = 1, instance: str = "one", after: float = 0
) -> Unwritten:
    return Unwritten(instance, attempt, sequence, payload, NOW + timedelta(seconds=after))


def merge(known: Progress | None, payload: ProgressReport, **how: Any) -> Progress:
    return merged_progress(known, unwritten(payload, **how))


# The pure part


def test_a_message_adds_to_what_is_known() -> None:
    first = merge(None, said(10, step=5, total_steps=50, loss=2.5, metrics={"a": 1.0}))
    second = merge(first, said(20, step=10, eta_seconds=30, metrics={"b": 0.25}))
    assert (second.percent, second.step, second.total_steps, second.eta_seconds) == (20, 10, 50, 30)
    assert (second.loss, second.metrics) == ("2.5", {"b": "0.25", "a": "1"})


def test_percent_never_runs_backwards_within_an_attempt_and_starts_anew_with_the_next() -> None:
    high = merge(None, said(60))
    assert merge(high, said(10)).percent == 60
    assert merge(high, said(10), attempt=2).percent == 10


def test_metrics_stay_bounded_and_the_newest_win() -> None:
    known = merge(None, said(1, metrics={f"a{n}": 0.0 for n in range(32)}))
    metrics = merge(known, said(2, metrics={f"b{n}": 1.0 for n in range(10)})).metrics
    assert len(metrics) == 32
    assert sum(name.startswith("b") for name in metrics) == 10


def test_nothing_is_written_over_a_newer_attempt_or_a_newer_word_of_the_same_instance() -> None:
    stored = merge(None, said(50, step=5), attempt=2, sequence=7)
    assert progress_to_write(stored, [unwritten(said(60), attempt=1, sequence=9, after=5)]) is None
    for sequence in (6, 7):
        assert progress_to_write(stored, [unwritten(said(60), attempt=2, sequence=sequence, after=5)]) is None
    newer = progress_to_write(stored, [unwritten(said(60, step=4), attempt=2, sequence=8, after=5)])
    assert newer is not None
    assert (newer.percent, newer.step) == (60, 4)
    assert progress_to_write(None, [unwritten(said(1))]) == merge(None, said(1))


def test_between_instances_what_a_receiver_heard_later_counts() -> None:
    stored = merge(None, said(50, step=500, loss=0.5), instance="one", sequence=900, after=10)
    later = progress_to_write(stored, [unwritten(said(2, step=1), instance="two", after=11)])
    assert later is not None
    assert (later.percent, later.step, later.time) == (50, 1, NOW + timedelta(seconds=11))
    earlier = progress_to_write(stored, [unwritten(said(60, step=1), instance="two", after=9)])
    assert earlier is not None
    assert (earlier.percent, earlier.step, earlier.time) == (60, 500, stored.time)
    assert progress_to_write(earlier, [unwritten(said(60, step=1), instance="two", after=20)]) is None, "it is known"


def test_of_many_instances_the_ones_that_spoke_last_are_remembered() -> None:
    stored = None
    for number in range(20):
        stored = progress_to_write(stored, [unwritten(said(1), instance=f"i-{number}", after=number)])
    assert stored is not None
    assert [each.instance for each in stored.instances] == [f"i-{number}" for number in range(12, 20)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100)), min_size=1, max_size=20))
def test_percent_rises_within_each_attempt_in_any_order_of_messages(messages: list[tuple[int, int]]) -> None:
    known = None
    for attempt, percent in messages:
        before, known = known, merge(known, said(percent), attempt=attempt)
        assert before is None or before.attempt != known.attempt or known.percent >= before.percent


# The book


def setting(**status: Any) -> tuple[FakeKube, TrainingPod, ProgressBook]:
    kube = FakeKube()
    run = kube.put(training_run(**status))
    pod = TrainingPod("default", "pod-1", "pod-uid", "home-soft-1", run["metadata"]["uid"], 1, 1, 2)

    def clock() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    return kube, pod, ProgressBook(kube, clock=clock)  # type: ignore[arg-type]


def written(kube: FakeKube) -> Any:
    run = kube.find(TRAINING_RUNS, "home-soft-1")
    assert run is not None
    return run["status"].get("progress")


def writes(kube: FakeKube) -> int:
    return sum(call.verb == "apply_status" for call in kube.calls)


def test_the_first_message_is_written_at_once_and_the_rest_every_ten_seconds() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        for second in range(100):
            book.offer(pod, envelope=envelope(second + 1), payload=said(second))
            await asyncio.sleep(0.5)
            if second == 0:
                assert written(kube)["percent"] == 0
            await asyncio.sleep(0.5)
        await asyncio.sleep(20)
        assert writes(kube) == 11
        assert written(kube)["percent"] == 99

    simulate(main())


def test_the_last_word_of_a_training_is_written_at_once() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        book.offer(pod, envelope=envelope(1), payload=said(3))
        await asyncio.sleep(1)
        book.offer(pod, envelope=envelope(2), payload=said(40))
        book.offer(pod, envelope=envelope(3), payload=said(100))
        await asyncio.sleep(0.1)
        assert written(kube)["percent"] == 100
        book.offer(pod, envelope=envelope(4), payload=said(100, loss=0.5))
        await asyncio.sleep(1)
        assert writes(kube) == 2, "what comes after it waits again"

    simulate(main())


def test_of_a_training_of_three_seconds_the_first_and_the_last_word_are_written() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        for tenth in range(31):
            book.offer(pod, envelope=envelope(tenth + 1), payload=said(min(100, 4 * tenth)))
            await asyncio.sleep(0.1)
        assert (writes(kube), written(kube)["percent"]) == (2, 100)

    simulate(main())


def test_a_message_that_is_known_or_older_is_ignored() -> None:
    async def main() -> None:
        _, pod, book = setting()
        assert book.offer(pod, envelope=envelope(5), payload=said(50))
        assert not book.offer(pod, envelope=envelope(5), payload=said(50))
        assert not book.offer(pod, envelope=envelope(4), payload=said(90))
        assert book.offer(pod, envelope=envelope(6), payload=said(60))

    simulate(main())


def test_everything_known_is_written_at_the_end() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        book.offer(pod, envelope=envelope(1), payload=said(1))
        await asyncio.sleep(1)
        book.offer(pod, envelope=envelope(2), payload=said(2))
        await book.flush()
        assert written(kube)["percent"] == 2
        await book.flush()
        assert writes(kube) == 2

    simulate(main())


def test_an_ended_run_is_not_changed_and_is_forgotten() -> None:
    async def main() -> None:
        kube, pod, book = setting(conditions=[ended("False")])
        book.offer(pod, envelope=envelope(), payload=said(1))
        await asyncio.sleep(1)
        assert writes(kube) == 0
        assert len(book) == 0

    simulate(main())


def test_a_run_that_is_gone_or_another_of_the_same_name_is_forgotten() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        kube.remove(TRAINING_RUNS, "home-soft-1")
        kube.put(training_run())
        book.offer(pod, envelope=envelope(), payload=said(1))
        await asyncio.sleep(1)
        assert writes(kube) == 0
        assert len(book) == 0

    simulate(main())


def test_a_run_at_a_newer_attempt_is_not_told_of_the_older_one() -> None:
    async def main() -> None:
        kube, pod, book = setting(attempt=2)
        book.offer(pod, envelope=envelope(), payload=said(1))
        await asyncio.sleep(1)
        assert writes(kube) == 0

    simulate(main())


def test_a_write_that_fails_is_made_up_for() -> None:
    async def main() -> None:
        kube, pod, book = setting()

        def refuse(call: Call) -> None:
            raise Unavailable("away")

        kube.before = refuse
        book.offer(pod, envelope=envelope(), payload=said(7))
        await asyncio.sleep(5)
        kube.before = lambda call: None
        await asyncio.sleep(10)
        assert written(kube)["percent"] == 7

    simulate(main())


def test_a_conflict_is_read_again_and_written() -> None:
    async def main() -> None:
        kube, pod, book = setting()
        conflicts = iter([True, True])

        def conflict(call: Call) -> None:
            if call.verb == "apply_status" and next(conflicts, False):
                raise Conflict("changed")

        kube.before = conflict
        book.offer(pod, envelope=envelope(), payload=said(7))
        await asyncio.sleep(1)
        assert written(kube)["percent"] == 7

    simulate(main())


def test_silent_runs_are_forgotten_after_an_hour() -> None:
    async def main() -> None:
        _, pod, book = setting()
        book.offer(pod, envelope=envelope(), payload=said(1))
        await asyncio.sleep(3601)
        other = TrainingPod("default", "pod-2", "pod-2", "other", "other-uid", 1, 1, 2)
        book.offer(other, envelope=envelope(), payload=said(1))
        assert len(book) == 1

    simulate(main())
