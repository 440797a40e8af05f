"""Why a message was not taken: a closed set of reasons, each with its HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
