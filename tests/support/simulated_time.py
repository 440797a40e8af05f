"""An event loop whose time jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Hours pass in no time. When nothing is scheduled and nothing can happen any more, it says so and ends."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: SimulatedLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        happened = super().select(0)
        if happened or timeout == 0:
            return happened
        if timeout is None:
            happened = super().select(2)  # another thread may still call in
            if not happened:
                raise RuntimeError("simulated time stands still: everything waits and nothing is scheduled")
            return happened
        self._loop.now += timeout
        return []


def simulate(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)
