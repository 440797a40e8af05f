"""The plan of batches: every example once an epoch, the same again for the same seed, however steps are cut."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from chorus_trainer.plan import Plan

lengths = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=120)
sizes = st.integers(1, 6)


def _steps(plan: Plan, epoch: int) -> list[list[int]]:
    """The examples of each optimizer step, as Trainer groups micro-batches."""
    batches = list(plan.epoch(epoch))
    count = plan.accumulation
    return [list(chain(*batches[at : at + count])) for at in range(0, len(batches), count)]


@given(lengths=lengths, batch=sizes, accumulation=sizes, epoch=st.integers(0, 5))
def test_an_epoch_has_every_example_once_in_the_promised_number_of_steps(
    lengths: list[tuple[int, int]], batch: int, accumulation: int, epoch: int
) -> None:
    plan = Plan(lengths=lengths, batch_size=batch, accumulation=accumulation, seed=3)
    batches = list(plan.epoch(epoch))
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch)
    assert all(len(one) == batch for one in batches[:-1])
    assert len(_steps(plan, epoch)) == plan.steps_per_epoch


@given(lengths=lengths, batch=sizes, accumulation=sizes)
def test_steps_hold_the_same_examples_however_they_are_cut(
    lengths: list[tuple[int, int]], batch: int, accumulation: int
) -> None:
    cut = Plan(lengths=lengths, batch_size=batch, accumulation=accumulation, seed=3)
    whole = Plan(lengths=lengths, batch_size=batch * accumulation, accumulation=1, seed=3)
    assert [sorted(step) for step in _steps(cut, 1)] == [sorted(step) for step in _steps(whole, 1)]


def test_epochs_and_seeds_differ_and_the_same_ones_do_not() -> None:
    lengths = [(number % 17 + 1, number % 5 + 1) for number in range(64)]
    plan = Plan(lengths=lengths, batch_size=4, accumulation=2, seed=3)
    other = Plan(lengths=lengths, batch_size=4, accumulation=2, seed=4)
    assert list(plan.epoch(0)) == list(plan.epoch(0))
    assert list(plan.epoch(0)) != list(plan.epoch(1))
    assert list(plan.epoch(0)) != list(other.epoch(0))


def test_examples_of_like_length_meet() -> None:
    lengths = [(number * 37 % 101 + 1, number * 53 % 97 + 1) for number in range(512)]
    plan = Plan(lengths=lengths, batch_size=8, accumulation=1, seed=3)

    def padded(batches: list[list[int]]) -> int:
        return sum(len(one) * max(lengths[n][axis] for n in one) for one in batches for axis in (0, 1))

    unsorted = [list(range(at, at + 8)) for at in range(0, 512, 8)]
    assert padded(list(plan.epoch(0))) < 0.8 * padded(unsorted)
