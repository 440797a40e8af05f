"""A story of reconciles that is told again and again, each time broken at another call to the API server.

Until it is broken it is the undisturbed story, step for step: so each telling begins with a copy of the world as it was
before the step in which it is broken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import pytest

from fakes import Call
from world import World

W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class _Step(Generic[W]):
    """A step, and the world before it."""

    before: W
    tell: Callable[[W], object]

    @property
    def calls_before(self) -> int:
        return len(self.before.kube.calls)


class Story(Generic[W]):
    """Steps that were told once, undisturbed."""

    def __init__(self, world: W, steps: Sequence[Callable[[W], object]]) -> None:
        """`world`: what it is at first; nothing else may be told by a step than what it finds there."""
        self.end = world
        self._steps: list[_Step[W]] = []
        for step in steps:
            self._steps.append(_Step(copy.deepcopy(world), step))
            step(world)

    @property
    def writes(self) -> list[int]:
        """Numbers of the calls that change something. Kills between two of them leave the same."""
        return [number for number, call in enumerate(self.end.kube.calls, start=1) if call.writes]

    @property
    def calls(self) -> list[int]:
        """Numbers of all calls, reads too."""
        return list(range(1, len(self.end.kube.calls) + 1))

    def broken_at(self, position: int, error: Callable[[W], Exception], *, when: Literal["before", "after"]) -> W:
        """Tell it with the call of that number broken, once, before it arrives or after it is done."""
        first = max(number for number, step in enumerate(self._steps) if step.calls_before < position)
        world = copy.deepcopy(self._steps[first].before)
        left = iter([True])

        def hook(call: Call) -> None:
            if len(world.kube.calls) >= position and next(left, False):
                raise error(world)

        setattr(world.kube, when, hook)
        for step in self._steps[first:]:
            step.tell(world)
        return world


def thinned(calls: list[int], step: int) -> list[Any]:
    """Each `step`-th call in every test run; all the others in `make chaos`."""
    return [
        position if number % step == 0 else pytest.param(position, marks=pytest.mark.chaos)
        for number, position in enumerate(calls)
    ]
