"""The one line of a log that says why a program ended: bounded, and free of what progress bars leave."""

from __future__ import annotations

import re

MAX_CHARACTERS = 120
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Iteration)?(: .*)?")
"""The line of an exception, at the left margin after the frames of a traceback."""


def error_line(log: str) -> str:
    """Give the exception's line of the last traceback, else the last line that is not blank; empty without one.

    Of a line that a carriage return rewrites only what it shows at last counts. At most 120 characters.
    """
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in log.split("\n")]
    starts = [number for number, line in enumerate(lines) if line.strip() == _TRACEBACK]
    for line in lines[starts[-1] + 1 :] if starts else ():
        if line and not line[0].isspace() and _EXCEPTION.fullmatch(line):
            return _cut(line)
    return _cut(next((line.strip() for line in reversed(lines) if line.strip()), ""))


def _cut(line: str) -> str:
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 1]}…"
