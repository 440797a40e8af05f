"""Types of columns: told from every value, so that they depend on the whole table and on no sample of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import pyarrow as pa

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing

Cell = str | int | float | bool | None
"""A value of the source. Timestamps are integers: microseconds since 1970."""
ColumnType = Literal["string", "integer", "number", "boolean", "timestamp", "timestamp_utc"]

MAX_COLUMNS = 500
MAX_NAME = 253
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", tz="UTC"),
}
_MISSING_WORDS = frozenset({"na", "n/a", "nan", "null", "none", "#n/a"})
_INTEGER = re.compile(r"\s*(?:0|-?[1-9]\d*)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?\s*", re.ASCII)
# 007 and +31 are codes and phone numbers, not quantities.
_CODE = re.compile(r"\s*(?:-?0\d|\+)", re.ASCII)
_INT64 = range(-(2**63), 2**63)

_BOOLEAN_SEEN, _INTEGER_SEEN, _NUMBER_SEEN, _TEXT_SEEN = 1, 2, 4, 8
_TYPE_OF_SEEN: dict[int, ColumnType] = {
    _BOOLEAN_SEEN: "boolean",
    _INTEGER_SEEN: "integer",
    _NUMBER_SEEN: "number",
    _INTEGER_SEEN | _NUMBER_SEEN: "number",
}


def check_names(names: Sequence[str], *, where: str) -> None:
    """Raise `FormatInvalid` for column names that a frame cannot have: double, empty, too long, too many."""
    if len(names) > MAX_COLUMNS:
        raise DataError(
            Reason.FORMAT_INVALID,
            f"{where}: more than {MAX_COLUMNS} columns",
            hint="leave out the columns that the plugins do not need",
        )
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubles:
        raise DataError(
            Reason.FORMAT_INVALID,
            f"{where}: more than one column is called {listing([name[:MAX_NAME] for name in doubles])}",
            hint="give every column a name of its own",
        )
    for position, name in enumerate(names, start=1):
        if not name or len(name) > MAX_NAME or not _is_clean(name):
            raise DataError(
                Reason.FORMAT_INVALID,
                f"{where}: column {position} has no usable name: {name[:60]!r}",
                hint=f"a name has 1 to {MAX_NAME} characters of valid Unicode",
            )


class TypeTracker:
    """Collects what the values of each column are, by position; columns may be added while rows are read.

    With `untyped` (CSV) every value is text, and its type is told from its form. With `words` too, words such as `NA`
    are missing values in columns whose other values are all numbers or all true or false.
    """

    def __init__(self, *, untyped: bool, words: bool = True) -> None:
        self._untyped = untyped
        self._words = _MISSING_WORDS if words else frozenset()
        self._seen: list[int] = []

    def add(self, row: Sequence[Cell]) -> None:
        """Look at one row."""
        while len(self._seen) < len(row):
            self._seen.append(0)
        tell: Callable[[Cell], int] = partial(_tell_text, words=self._words) if self._untyped else _tell_value
        for position, value in enumerate(row):
            if value is not None and self._seen[position] < _TEXT_SEEN:
                self._seen[position] |= tell(value)

    def types(self, count: int) -> list[ColumnType]:
        """Types of the first `count` columns."""
        seen = self._seen + [0] * count
        return [_TYPE_OF_SEEN.get(seen[position], "string") for position in range(count)]


def converter(kind: ColumnType, *, untyped: bool) -> Callable[[Cell], Cell]:
    """Return the function that turns a value of the source into a value of a column of this type."""
    if untyped:
        return {"integer": _text_to_integer, "number": _text_to_number, "boolean": _text_to_boolean}.get(kind, _same)
    return {"string": as_text, "number": _to_number}.get(kind, _same)


def as_text(value: Cell) -> str | None:
    """Write a value as text; truth values as JSON has them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _is_clean(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def _tell_value(value: Cell) -> int:
    if isinstance(value, str):
        return _TEXT_SEEN
    if isinstance(value, bool):
        return _BOOLEAN_SEEN
    if isinstance(value, int):
        return _INTEGER_SEEN if value in _INT64 else _TEXT_SEEN
    return _NUMBER_SEEN


def _tell_text(value: Cell, words: frozenset[str]) -> int:
    text = str(value)
    if _INTEGER.fullmatch(text):
        # Digits that no 64-bit number holds are an identifier; as a floating number it would lose its end.
        return _INTEGER_SEEN if len(text.strip()) <= 20 and int(text) in _INT64 else _TEXT_SEEN
    if _NUMBER.fullmatch(text) and not _CODE.match(text) and math.isfinite(float(text)):
        return _NUMBER_SEEN
    word = text.strip().casefold()
    if word in words:
        return 0
    return _BOOLEAN_SEEN if word in ("true", "false") else _TEXT_SEEN


def _is_missing(value: Cell) -> bool:
    return value is None or str(value).strip().casefold() in _MISSING_WORDS


def _same(value: Cell) -> Cell:
    return value


def _to_number(value: Cell) -> Cell:
    return None if value is None else float(value)


def _text_to_integer(value: Cell) -> Cell:
    return None if _is_missing(value) else int(str(value))


def _text_to_number(value: Cell) -> Cell:
    return None if _is_missing(value) else float(str(value))


def _text_to_boolean(value: Cell) -> Cell:
    return None if _is_missing(value) else str(value).strip().casefold() == "true"
