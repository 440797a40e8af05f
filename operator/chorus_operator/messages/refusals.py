"""Why a message was not taken: a closed set of reasons, counted, and logged without flooding the log."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

log = structlog.get_logger()

LOG_SECONDS = 60.0
REMEMBERED = 1024


class Cause(StrEnum):
    """Why a message was refused."""

    NO_TOKEN = "noToken"
    BAD_TOKEN = "badToken"
    NOT_A_POD = "notAPod"
    WRONG_POD = "wrongPod"
    WRONG_RUN = "wrongRun"
    WRONG_ATTEMPT = "wrongAttempt"
    WRONG_IDS = "wrongIds"
    TOO_LARGE = "tooLarge"
    TOO_SLOW = "tooSlow"
    INCOMPLETE = "incomplete"
    WRONG_CONTENT_TYPE = "wrongContentType"
    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknownType"
    TOO_MANY_MESSAGES = "tooManyMessages"
    NOT_YET = "notYet"
    UNAVAILABLE = "unavailable"


_STATUS = {
    Cause.NO_TOKEN: 401,
    Cause.BAD_TOKEN: 401,
    Cause.NOT_A_POD: 403,
    Cause.WRONG_POD: 403,
    Cause.WRONG_RUN: 403,
    Cause.WRONG_ATTEMPT: 403,
    Cause.WRONG_IDS: 403,
    Cause.TOO_LARGE: 413,
    Cause.TOO_SLOW: 408,
    Cause.INCOMPLETE: 400,
    Cause.WRONG_CONTENT_TYPE: 415,
    Cause.MALFORMED: 422,
    Cause.UNKNOWN_TYPE: 422,
    Cause.TOO_MANY_MESSAGES: 429,
    Cause.NOT_YET: 503,
    Cause.UNAVAILABLE: 503,
}


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a message."""

    field: str
    problem: str


class Refused(Exception):
    """A message that is not taken. `status` is the HTTP status; a sender tries again on 408, 429 and 5xx alone.

    `retry_after`: seconds that the sender shall wait before that, where they are known.
    """

    def __init__(
        self,
        cause: Cause,
        detail: str,
        *,
        fields: tuple[FieldProblem, ...] = (),
        retry_after: float | None = None,
    ):
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.fields = fields
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return _STATUS[self.cause]


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
