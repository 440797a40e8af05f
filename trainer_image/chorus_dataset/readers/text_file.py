"""Open a text file whose encoding is told from its first bytes, and read lines of bounded length."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError

MAX_LINE = 16 << 20
"""Longest line and longest CSV field, in characters."""
_SAMPLE = 4096
_UTF_HINT = "save the file as UTF-8"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"PAR1", "a Parquet file", "set spec.dataset.format: parquet"),
    (b"SQLite format 3\0", "a SQLite database", "set spec.dataset.format: sqlite and a query"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "save the table as CSV in UTF-8"),
)


def open_text(path: Path, *, where: str, format_name: str) -> TextIO:
    """Open a text file for reading, with its line ends untouched.

    UTF-8 with or without a byte order mark, and UTF-16 and UTF-32 with one, are read. In UTF-8 a byte that is no text
    becomes an unpaired surrogate, so that only the row that holds it is lost. A file of another kind raises
    `FormatInvalid`.
    """
    with path.open("rb") as raw:
        sample = raw.read(_SAMPLE)
    for signature, what, hint in _SIGNATURES:
        if sample.startswith(signature):
            raise DataError(Reason.FORMAT_INVALID, f"{where} is {what}, not {format_name}", hint=hint)
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
            return path.open(encoding=encoding, errors=errors, newline="")
    if sample.count(0) > len(sample) // 10:
        raise DataError(
            Reason.FORMAT_INVALID,
            f"{where} is not UTF-8 text: it looks like UTF-16 without a byte order mark, or binary data",
            hint=_UTF_HINT,
        )
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")


def read_lines(file: TextIO, *, where: str) -> Iterator[str]:
    """Yield the lines of a file with their ends; a line above 16 Mi characters or bad UTF-16 raises `FormatInvalid`."""
    number = 0
    while True:
        try:
            line = file.readline(MAX_LINE)
        except UnicodeDecodeError as error:
            message = f"{where}, after line {number}: not valid {error.encoding}: {error.reason}"
            raise DataError(Reason.FORMAT_INVALID, message, hint=_UTF_HINT) from error
        if not line:
            return
        number += 1
        if len(line) == MAX_LINE:
            raise DataError(
                Reason.FORMAT_INVALID,
                f"{where}, line {number}: longer than {MAX_LINE >> 20} Mi characters",
                hint="check that the file is a table with one row a line",
            )
        yield line


def text_fault(text: str) -> tuple[str, str] | None:
    """Say what keeps a text out of a frame, as a reason and a cause; None if nothing does."""
    if "\0" in text:
        return "NulByte", "holds a NUL byte"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start])
            if 0xDC80 <= byte <= 0xDCFF:
                return "InvalidUtf8", f"byte 0x{byte - 0xDC00:02x} is not UTF-8 text"
            return "InvalidUtf8", "holds an unpaired surrogate"
    return None
