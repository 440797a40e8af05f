"""Refusals are counted, and logged without flooding the log."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

import structlog

from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

LOG_SECONDS = 60.0
REMEMBERED = 1024


class RefusalLog:
    """Counts every refusal by cause, and logs each (cause, sender) at most once a minute."""

    def __init__(self, *, clock: Callable[[], float]):
        """`clock`: seconds that only rise."""
        self._clock = clock
        self._logged: OrderedDict[tuple[Cause, str], float] = OrderedDict()
        self.counts: Counter[Cause] = Counter()
        """Refusals since the start, by cause."""

    def add(self, refused: Refused, *, sender: str) -> None:
        """Count a refusal; `sender` is the best that is known of who sent the message."""
        self.counts[refused.cause] += 1
        now = self._clock()
        key = (refused.cause, sender)
        last = self._logged.get(key)
        if last is not None and now - last < LOG_SECONDS:
            return
        self._logged[key] = now
        self._logged.move_to_end(key)
        while len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        log.warning(
            "message refused",
            cause=refused.cause.value,
            status=refused.status,
            sender=sender,
            detail=refused.detail[:500],
            refused_so_far=self.counts[refused.cause],
        )
