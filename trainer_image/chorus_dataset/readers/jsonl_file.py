"""Read JSON lines: one object a line; what is nested inside it stays JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.columns import MAX_COLUMNS, Cell, check_names
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject
from chorus_dataset.readers.text_file import open_text, read_lines, text_fault


class JsonlReader(Reader):
    """A file of JSON lines. The columns are the members of all objects, in order of their first appearance.

    `missing`: see `Reader`; None: only null is missing.
    """

    unit = "line"

    def __init__(self, path: Path, *, where: str, missing: frozenset[str] | None = None) -> None:
        super().__init__(where)
        self.missing = missing
        self._positions: dict[str, int] = {}
        self._file = open_text(path, where=where, format_name="JSON lines")

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the objects; blank lines are skipped but counted."""
        for number, line in enumerate(read_lines(self._file, where=self.where), start=1):
            if not (text := line.strip()):
                continue
            if number == 1 and text.startswith("[") and not text.endswith("]"):
                raise DataError(
                    Reason.FORMAT_INVALID,
                    f"{self.where} is one JSON list over several lines, not JSON lines",
                    hint="write one object a line: jq -c '.[]'",
                )
            yield number, self._read(text)
        check_names(self.columns, where=self.where)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, text: str) -> list[Cell] | Reject:
        if fault := text_fault(text):
            return Reject(*fault)
        try:
            value = json.loads(text, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            return Reject("BrokenJson", f"{error.msg} at character {error.colno}")
        except (ValueError, RecursionError) as error:
            return Reject("BrokenJson", str(error))
        if not isinstance(value, dict):
            return Reject("NotAnObject", f"holds a {type(value).__name__}, not an object")
        row: list[Cell] = [None] * len(self.columns)
        for name, member in value.items():
            position = self._positions.get(name)
            if position is None:
                position = self._add_column(name)
                row.append(None)
            row[position] = None if self._is_missing(member) else _cell(member)
        return row

    def _is_missing(self, member: Any) -> bool:
        return self.missing is not None and isinstance(member, str) and member.strip() in self.missing

    def _add_column(self, name: str) -> int:
        if len(self.columns) == MAX_COLUMNS:
            check_names([*self.columns, name], where=self.where)
        self.columns.append(name)
        self._positions[name] = len(self.columns) - 1
        return len(self.columns) - 1


def _cell(member: Any) -> Cell:
    if member is None or isinstance(member, str | int | float | bool):
        return member
    return json.dumps(member, ensure_ascii=False)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
