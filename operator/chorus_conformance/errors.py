"""The one error of the kit itself: the check cannot be made. What is wrong with a plugin is a verdict, no error."""

from __future__ import annotations


class CannotCheck(Exception):
    """What keeps the check from being made; `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
