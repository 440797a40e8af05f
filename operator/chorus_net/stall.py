"""Whether a peer takes what was written for it: a decision over sizes and times."""

from __future__ import annotations


class Unsent:
    """How many bytes wait for a peer, and since when there have been just so many."""

    def __init__(self) -> None:
        self._size = 0
        self._since = 0.0

    def stalled_seconds(self, size: int, *, now: float) -> float:
        """Note the size as it is now; give for how many seconds the peer has taken nothing, 0 when nothing waits."""
        if size == 0 or size != self._size:
            self._size, self._since = size, now
            return 0.0
        return now - self._since
