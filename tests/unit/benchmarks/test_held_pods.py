"""How long the harness' kubelet lets a pod run, in simulated time: by one timer, since thousands are held at once."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.kubelet import Container, hold
from simulated_time import simulate


async def held_for(seconds: float, *, after: float = 0.0, deleted_after: float | None = None) -> float:
    """How long a container is held whose program has ended `after` so many seconds."""
    container = Container({}, {}, Path(), ThreadPoolExecutor(1))
    loop = asyncio.get_running_loop()
    began = loop.time()
    if deleted_after is not None:
        loop.call_later(deleted_after, container.stopping.set)
    await asyncio.sleep(after)
    await hold(container, until=began + seconds)
    return loop.time() - began


@pytest.mark.parametrize(
    ("seconds", "after", "deleted_after", "took"),
    [
        pytest.param(5, 0, None, 5, id="until the time is over"),
        pytest.param(5, 3, None, 5, id="not longer for what its program took"),
        pytest.param(5, 8, None, 8, id="not at all when its program took longer"),
        pytest.param(0, 0, None, 0, id="not at all where nothing is held"),
        pytest.param(5, 0, 2, 2, id="until its pod is deleted"),
        pytest.param(math.inf, 0, 7200, 7200, id="until its pod is deleted, without an end of its own"),
    ],
)
def test_a_container_is_held(seconds: float, after: float, deleted_after: float | None, took: float) -> None:
    assert simulate(held_for(seconds, after=after, deleted_after=deleted_after)) == pytest.approx(took)
