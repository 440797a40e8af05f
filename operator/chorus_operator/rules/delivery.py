"""How it stands with a message to a service, and when to try again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0


@dataclass(frozen=True)
class Delivery:
    """What became of a message so far. It is remembered by one process alone: after a restart it is sent again."""

    tries: int = 0
    under_way: bool = False
    delivered: bool = False
    error: str = ""
    time: datetime | None = None
    """When the last try ended."""

    def seconds_until_due(self, now: datetime) -> float:
        """Seconds until the next try, which come to be 30 between two."""
        if self.time is None:
            return 0.0
        pause = min(FIRST_BACKOFF * 2.0 ** min(self.tries - 1, 10), LONGEST_BACKOFF)
        return max(pause - (now - self.time).total_seconds(), 0.0)
