"""Keep rows on disk between reading them, when their types are not yet known, and writing the frame."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from chorus_dataset.readers.columns import Cell

BLOCK_CHARACTERS = 2 << 20
BLOCK_CELLS = 50_000
_HEADER = struct.Struct("<QQ")  # bytes in the file, bytes of JSON
_CODEC = "lz4"

Row = list[Cell]


class Spool:
    """An unnamed temporary file in `folder` with rows in compressed blocks; it is gone when the spool is closed."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)
        self._block: list[Row] = []
        self._characters = 0
        self._cells = 0
        self.rows = 0

    def append(self, row: Row) -> None:
        """Add a row. Rows may have different lengths."""
        self._block.append(row)
        self.rows += 1
        self._cells += len(row)
        self._characters += sum(len(cell) for cell in row if isinstance(cell, str))
        if self._cells >= BLOCK_CELLS or self._characters >= BLOCK_CHARACTERS:
            self._write_block()

    def blocks(self) -> Iterator[list[Row]]:
        """Read the rows again, in order, block by block. May be called more than once, but not while appending."""
        self._write_block()
        self._file.seek(0)
        while header := self._file.read(_HEADER.size):
            stored, length = _HEADER.unpack(header)
            text = pa.decompress(self._file.read(stored), decompressed_size=length, codec=_CODEC, asbytes=True)
            yield json.loads(text)

    def _write_block(self) -> None:
        if not self._block:
            return
        text = json.dumps(self._block, ensure_ascii=False, separators=(",", ":")).encode()
        stored = pa.compress(text, codec=_CODEC, asbytes=True)
        self._file.write(_HEADER.pack(len(stored), len(text)))
        self._file.write(stored)
        self._block, self._characters, self._cells = [], 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
