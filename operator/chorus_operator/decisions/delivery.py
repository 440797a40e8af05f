"""How it stands with a message to a service, and when to try again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
REMEMBERED = 16_384
_GROWTHS = 32  # more doublings than any bound needs, and no overflow


def backoff(failures: int, *, first: float, longest: float) -> float:
    """Seconds to wait after so many failed tries in a row: `first`, doubled for each further one, to `longest`."""
    return min(first * 2.0 ** min(max(failures - 1, 0), _GROWTHS), longest)


@dataclass(frozen=True)
class Delivery:
    """What became of a message so far. It is remembered by one process alone: after a restart it is sent again."""

    failures: int = 0
    """Tries that have failed since the last one that did not."""
    under_way: bool = False
    """Whether it waits for its turn or is being sent."""
    queued: bool = False
    """Whether it waits for its turn, behind other messages of its namespace or to its host."""
    delivered: bool = False
    error: str = ""
    """Why the last try failed."""
    time: datetime | None = None
    """When the last try ended."""

    def seconds_until_due(self, now: datetime) -> float:
        """Seconds until TRAINING_DATA is tried again, which come to be 30 between two tries."""
        if self.time is None:
            return 0.0
        pause = backoff(self.failures, first=FIRST_BACKOFF, longest=LONGEST_BACKOFF)
        return max(pause - (now - self.time).total_seconds(), 0.0)


class Deliveries:
    """Remembers what became of messages, by namespace and by what they are about.

    When there are too many, the oldest of the namespace that has most is forgotten: a namespace with thousands of
    Plugins makes nothing of another be forgotten. What is under way is kept, or it would be sent twice at once.
    """

    def __init__(self, *, size: int = REMEMBERED):
        """`size`: how many are remembered, beside those under way."""
        self._size = size
        self._known: dict[str, OrderedDict[str, Delivery]] = {}
        self._count = 0

    def known(self, namespace: str, about: str) -> Delivery:
        """Tell how it stands with the message about something; as never sent when it is not remembered."""
        of_namespace = self._known.get(namespace)
        return of_namespace.get(about, Delivery()) if of_namespace is not None else Delivery()

    def record(self, namespace: str, about: str, delivery: Delivery) -> None:
        """Remember how it stands now."""
        of_namespace = self._known.setdefault(namespace, OrderedDict())
        self._count += about not in of_namespace
        of_namespace[about] = delivery
        of_namespace.move_to_end(about)
        if self._count > self._size:
            self._forget_one()

    def _forget_one(self) -> None:
        for namespace in sorted(self._known, key=lambda name: len(self._known[name]), reverse=True):
            of_namespace = self._known[namespace]
            for about, delivery in of_namespace.items():
                if not delivery.under_way:
                    del of_namespace[about]
                    self._count -= 1
                    if not of_namespace:
                        del self._known[namespace]
                    return
