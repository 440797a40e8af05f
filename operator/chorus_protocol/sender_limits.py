"""How many messages are taken: a token bucket for each sender and each namespace, in front of the API server.

A sender is known by what was checked of it (its pod, or what its token grants), never by what its message claims. The
buckets are this receiver's own: of two receivers each takes as many.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum
from typing import NamedTuple

from chorus_protocol.refusals import Cause, Refused

SENDERS = 8192
NAMESPACES = 1024


class Limit(NamedTuple):
    """What a bucket holds, and how many tokens it regains a second."""

    burst: int
    per_second: float


class Cost(Enum):
    """What a message takes a token for: the limit of its sender, and of all senders of its namespace together."""

    MESSAGE = (Limit(200, 20.0), Limit(6000, 600.0))
    """Any message of a pod of Chorus, or with a token that the operator made: taken before its body is read."""
    SERVICE_MESSAGE = (Limit(1000, 100.0), Limit(6000, 600.0))
    """Any message of a service's pod, which may serve many runs: taken before its body is read."""
    PROGRESS = (Limit(100, 10.0), Limit(3000, 300.0))
    """Progress: its pod and its run are read, both every few seconds at most while the sender is heard."""
    REPORT = (Limit(40, 1.0), Limit(400, 20.0))
    """A message that is stored: everything but progress. A run needs about five."""
    LOOKUP = (Limit(100, 2.0), Limit(400, 20.0))
    """A `subject` that is not remembered: its configuration or its Plugin is read."""


MALFORMED = Limit(40, 1.0)
"""Bodies of a sender that are no message. Who has sent more is refused before the next body is read."""


class TokenBuckets:
    """A bucket for each key, full at first. At most `size` are remembered: the least used go first."""

    def __init__(self, limit: Limit, *, size: int, seconds: Callable[[], float]):
        """`seconds`: seconds that only rise."""
        self.limit = limit
        self._seconds = seconds
        self._size = size
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: Hashable) -> float:
        """Tell in how many seconds there is a token; 0 when there is one now."""
        return max(0.0, (1.0 - self._tokens(key)) / self.limit.per_second)

    def take(self, key: Hashable) -> None:
        """Take a token; only when `wait` says 0."""
        self._buckets[key] = (self._tokens(key) - 1.0, self._seconds())
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._size:
            self._buckets.popitem(last=False)

    def _tokens(self, key: Hashable) -> float:
        known = self._buckets.get(key)
        if known is None:
            return float(self.limit.burst)
        tokens, then = known
        return min(float(self.limit.burst), tokens + (self._seconds() - then) * self.limit.per_second)


class SenderLimits:
    """Refuses (tooManyMessages) who sends more than the limits. Belongs to one event loop."""

    def __init__(self, *, seconds: Callable[[], float]):
        """`seconds`: seconds that only rise."""
        self._senders = {cost: TokenBuckets(cost.value[0], size=SENDERS, seconds=seconds) for cost in Cost}
        self._namespaces = {cost: TokenBuckets(cost.value[1], size=NAMESPACES, seconds=seconds) for cost in Cost}
        self._malformed = TokenBuckets(MALFORMED, size=SENDERS, seconds=seconds)

    def charge(self, cost: Cost, *, sender: Hashable, namespace: str) -> None:
        """Take a token of the sender's and one of its namespace's; Refused when either has none, and both keep theirs.

        So who sends too much does not use up what the others of its namespace share.
        """
        its_own, shared = self._senders[cost], self._namespaces[cost]
        if (wait := its_own.wait(sender)) > 0:
            raise _too_many("this sender", its_own.limit, wait)
        if (wait := shared.wait(namespace)) > 0:
            raise _too_many(f"namespace {namespace}", shared.limit, wait)
        its_own.take(sender)
        shared.take(namespace)

    def charge_malformed(self, *, sender: Hashable) -> None:
        """Take a token for a body that was no message, where there is one: it has been read already."""
        if self._malformed.wait(sender) <= 0:
            self._malformed.take(sender)

    def check_malformed(self, *, sender: Hashable) -> None:
        """Refused when the sender has sent too many bodies that were no messages; takes no token."""
        if (wait := self._malformed.wait(sender)) > 0:
            raise _too_many("this sender that are malformed", MALFORMED, wait)


def _too_many(whose: str, limit: Limit, wait: float) -> Refused:
    return Refused(
        Cause.TOO_MANY_MESSAGES,
        f"too many messages of {whose}: {limit.burst} are taken at once, and then {limit.per_second:g} a second; "
        f"send it again in {math.ceil(wait)} s",
        retry_after=wait,
    )
