"""The one error type of data: what is wrong, in a word for machines and in a sentence and a hint for people."""

from __future__ import annotations

from collections.abc import Sequence

from chorus_api.reasons import ExitCode, Reason

_EXIT_CODES = {
    Reason.BAD_CONFIGURATION: ExitCode.BAD_CONFIGURATION,
    Reason.FORMAT_UNKNOWN: ExitCode.BAD_CONFIGURATION,
    Reason.QUERY_INVALID: ExitCode.BAD_CONFIGURATION,
    Reason.TABLE_NOT_FOUND: ExitCode.BAD_CONFIGURATION,
    Reason.SOURCE_REFUSED: ExitCode.BAD_CONFIGURATION,
    Reason.ACCESS_DENIED: ExitCode.BAD_CONFIGURATION,
    Reason.SECRET_NOT_FOUND: ExitCode.INTERNAL,
    Reason.SOURCE_UNREACHABLE: ExitCode.INTERNAL,
    Reason.COLUMN_NOT_FOUND: ExitCode.BAD_CONFIGURATION,
    Reason.SCRATCH_FULL: ExitCode.BAD_CONFIGURATION,
    Reason.BASE_MODEL_NOT_FOUND: ExitCode.BAD_CONFIGURATION,
    Reason.PREPARATION_FAILED: ExitCode.INTERNAL,
    Reason.PUBLISH_FAILED: ExitCode.INTERNAL,
    Reason.VOLUME_FULL: ExitCode.INTERNAL,
    Reason.INTERNAL_ERROR: ExitCode.INTERNAL,
}


class DataError(Exception):
    """Something is wrong with the data or with what was asked of it.

    `message` names the field, file or row; `hint` says what to do about it. With `retryable` the same work can succeed
    later without any change.
    """

    def __init__(self, reason: Reason, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.retryable = retryable

    @property
    def exit_code(self) -> int:
        """Exit code of the pod: 64 for the configuration, 70 for Chorus and its surroundings, 65 for the data."""
        return _EXIT_CODES.get(self.reason, ExitCode.BAD_DATA)

    @property
    def detail(self) -> str:
        """Message and hint in one text."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Write names for a message: the first `limit`, and how many more there are."""
    shown = ", ".join(names[:limit]) or "none"
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
