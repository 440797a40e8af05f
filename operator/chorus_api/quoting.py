"""Numbers and truth values where strings are required: YAML takes 3 and true for something else than "3" and "true"."""

from __future__ import annotations

import json


def needs_quotes(value: float | bool) -> str:
    """Say that a value must be a string, and how to write it so."""
    kind = "a boolean" if isinstance(value, bool) else "a number"
    return f'must be a string, not {kind}: write it in quotes ("{json.dumps(value)}")'


def needs_no_quotes(text: str) -> str | None:
    """Say that a text must be a whole number, and how to write it so; None for a text that is no such number."""
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    return f"must be an integer, not a string: write it without quotes ({text.strip()})"
