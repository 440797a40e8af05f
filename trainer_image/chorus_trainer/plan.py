"""Which examples make which batch: a pure function of the seed and the epoch, so that a run can go on anywhere.

What an optimizer step sees depends on the step's size alone, not on how it is cut into micro-batches: 1x4, 2x2 and
4x1 train on the same. Examples of like length meet, which saves padding: the shuffled examples are sorted by length
within windows, cut into steps, the steps are shuffled again, and within a step the micro-batches are sorted too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WINDOW_STEPS = 32
"""Optimizer steps in a window: wide enough to find examples of like length, narrow enough to keep chance in it."""
TARGET_BUCKET = 8
"""Target lengths this close count as like; the source's length decides among them."""


@dataclass(frozen=True)
class Plan:
    """Batches of `lengths` (source, target of each example)."""

    lengths: Sequence[tuple[int, int]]
    batch_size: int
    accumulation: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last one may be smaller."""
        return -(-len(self.lengths) // (self.batch_size * self.accumulation))

    def epoch(self, epoch: int) -> Iterator[list[int]]:
        """The epoch's micro-batches, as numbers of examples. `accumulation` of them make an optimizer step."""
        chance = random.Random(f"{self.seed}/{epoch}")
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        size = self.batch_size * self.accumulation
        window = size * WINDOW_STEPS
        full, rest = order[: len(order) - len(order) % size], order[len(order) - len(order) % size :]
        for start in range(0, len(full), window):
            by_length = sorted(full[start : start + window], key=self._key)
            steps = [by_length[at : at + size] for at in range(0, len(by_length), size)]
            chance.shuffle(steps)
            for step in steps:
                yield from self._cut(step)
        yield from self._cut(sorted(rest, key=self._key))

    def _cut(self, step: list[int]) -> Iterator[list[int]]:
        for at in range(0, len(step), self.batch_size):
            yield step[at : at + self.batch_size]

    def _key(self, number: int) -> tuple[int, int, int]:
        source, target = self.lengths[number]
        return target // TARGET_BUCKET, source, number
