"""Whether a peer takes what was written for it: a decision over sizes and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chorus_net import limits as at


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


class Sized(Protocol):
    """Something that may know how long it is."""

    @property
    def content_length(self) -> int | None:
        """How many bytes; None when nobody knows."""


@dataclass(frozen=True)
class Answer:
    """An answer that a peer is to take, and when it was given."""

    response: Sized
    begun: float

    def is_late(self, *, now: float) -> bool:
        """Tell whether all of it should have been taken by now."""
        allowed = at.ANSWER_SECONDS + (self.response.content_length or 0) / at.ANSWER_BYTES_PER_SECOND
        return now - self.begun > allowed
