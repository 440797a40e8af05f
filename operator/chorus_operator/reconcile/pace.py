"""How often a status is written that many things change."""

from __future__ import annotations

from collections.abc import Callable

from chorus_kube.cache import Cache

SIZE = 16384
LONGEST = 60.0


class Pace:
    """Knows when the status of an object was written last."""

    def __init__(self, *, seconds: Callable[[], float]) -> None:
        """`seconds`: a clock that only rises."""
        self._seconds = seconds
        self._written: Cache[str, float] = Cache(size=SIZE, clock=seconds)

    def seconds_left(self, uid: str, *, every: float) -> float:
        """Seconds until `every` seconds have passed since the last write; 0 when it may be written now.

        `every`: LONGEST at most.
        """
        written = self._written.get(uid)
        return 0.0 if written is None else max(0.0, written + every - self._seconds())

    def begin(self, uid: str) -> None:
        """Note that the status is being written."""
        self._written.put(uid, self._seconds(), seconds=LONGEST)
