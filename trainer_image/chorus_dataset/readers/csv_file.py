"""Read CSV: with or without a byte order mark, any line end, quoted line breaks; rows that do not fit are rejected."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.columns import Cell, check_names
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject
from chorus_dataset.readers.text_file import MAX_LINE, open_text, read_lines, text_fault

_QUOTED = re.compile(r'"[^"]*"')


def separator_of(header: str) -> str:
    """Tell the separator from the header line: a comma; or a semicolon, tab or bar where the line has no comma."""
    bare = _QUOTED.sub("", header)
    return "," if "," in bare else max(";\t|,", key=bare.count) if any(c in bare for c in ";\t|") else ","


class CsvReader(Reader):
    """A CSV file with a header row; blank lines are skipped.

    `missing`: see `Reader`; None: only an empty field is missing.
    """

    untyped = True

    def __init__(self, path: Path, *, where: str, missing: frozenset[str] | None = None) -> None:
        super().__init__(where)
        self.missing = missing
        self._file = open_text(path, where=where, format_name="CSV")
        try:
            lines = read_lines(self._file, where=where)
            first = next((line for line in lines if line.strip()), "")
            if not first:
                raise DataError(Reason.NO_ROWS, f"{where} is empty", hint="it needs a header row and rows")
            csv.field_size_limit(MAX_LINE)
            self._reader = csv.reader(itertools.chain([first], lines), delimiter=separator_of(first), strict=True)
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the rows after the header."""
        width = len(self.columns)
        number = 0
        while True:
            start = self._reader.line_num + 1
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                yield number, self._broken(error, number=number, line=start)
                continue
            if not fields:
                continue
            number += 1
            if len(fields) != width:
                yield number, Reject("RaggedRow", f"{len(fields)} fields, the header has {width} (line {start})")
            else:
                yield number, [None if self._is_missing(field) else field for field in fields]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_missing(self, field: str) -> bool:
        return not field if self.missing is None else field.strip() in self.missing

    def _read_header(self) -> None:
        try:
            names = [name.strip() for name in next(self._reader)]
        except csv.Error as error:
            raise DataError(
                Reason.FORMAT_INVALID, f"{self.where}, header row: {error}", hint="check the quotes of the first line"
            ) from error
        for name in names:
            if fault := text_fault(name):
                raise DataError(
                    Reason.FORMAT_INVALID, f"{self.where}, header row: {fault[1]}", hint="save the file as UTF-8"
                )
        # Tables written with row names have a first column without a name.
        names = [name or f"column_{position}" for position, name in enumerate(names, start=1)]
        check_names(names, where=f"{self.where}, header row")
        self.columns = names

    def _broken(self, error: csv.Error, *, number: int, line: int) -> Reject:
        """Reject a row with broken quotes; raise where the rest of the file would be taken for one field."""
        cause = str(error)
        if "unexpected end of data" in cause or "field larger than field limit" in cause:
            raise DataError(
                Reason.FORMAT_INVALID,
                f"{self.where}, row {number} (line {line}): a quoted field is never closed",
                hint="close the quote, or write a quote inside a field as two",
            )
        return Reject("BrokenQuotes", f"{cause} (line {line})")
