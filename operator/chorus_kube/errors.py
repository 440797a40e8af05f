"""What the API server may answer, as one error type for each decision that a caller can take."""

from __future__ import annotations

from typing import Any

import orjson


class KubeError(Exception):
    """The API server refused a request, or could not be reached.

    `status` is the HTTP status (0: no answer), `reason` the API server's word for the cause, `details` its details.
    """

    def __init__(self, message: str, *, status: int = 0, reason: str = "", details: dict[str, Any] | None = None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.details = details or {}


class NotFound(KubeError):
    """The object is not there."""


class Conflict(KubeError):
    """The object has changed since it was read: read it again."""


class AlreadyExists(KubeError):
    """An object of this name exists."""


class Invalid(KubeError):
    """The object breaks its schema or a rule; the message names the field. Trying again does not help."""


class Forbidden(KubeError):
    """Access control, quota or admission says no, or the namespace is going away."""


class Gone(KubeError):
    """The list position has expired: list again from the start."""


class Unavailable(KubeError):
    """The API server is away, overloaded or broken. Trying again later helps; `retry_after` is its wish, in seconds."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message, status=status, reason=reason, details=details)
        self.retry_after = retry_after


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    405: Invalid,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def from_response(what: str, *, status: int, body: bytes, retry_after: str | None) -> KubeError:
    """Turn an HTTP answer that is not 2xx into the error of its kind; `what` says what was asked."""
    return from_status(what, status=status, answer=_parse(body), body=body, retry_after=retry_after)


def from_status(
    what: str, *, status: int, answer: dict[str, Any], body: bytes = b"", retry_after: str | None = None
) -> KubeError:
    """Turn a Status, or what came in its place, into the error of its kind; `body`: what to quote without a message."""
    reason = str(answer.get("reason") or "")
    found = answer.get("details")
    details: dict[str, Any] = found if isinstance(found, dict) else {}
    text = f"{what}: {answer.get('message') or body[:500].decode(errors='replace') or f'HTTP {status}'}"
    if status == 404 and answer.get("kind") == "Status" and details.get("name"):
        return NotFound(text, status=status, reason=reason, details=details)
    if status == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(text, status=status, reason=reason, details=details)
    if status in _BY_STATUS:
        return _BY_STATUS[status](text, status=status, reason=reason, details=details)
    # A 404 that names no object means that the kind is not served (yet), which says nothing about the object.
    wait = _seconds(retry_after)
    if wait is None:
        wait = _seconds(details.get("retryAfterSeconds"))
    return Unavailable(text, status=status, reason=reason, details=details, retry_after=wait)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _seconds(value: object) -> float | None:
    """Read a Retry-After in seconds; its date form is not used by the API server and is ignored."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None
