"""Write a training frame: typed rows, split into training and evaluation, named by the digest of their content.

*Digest.* SHA-256 over, in this order: the line `chorus-frame-1`; the columns as canonical JSON, a list of
`[name, type]`; a line break; the evaluation fraction as a decimal in lowest terms (`0.05`); a line break; then for each
row, in the source's order, the 32 bytes of its own SHA-256. A row's SHA-256 is taken over its values, in the order of
their columns' names, as one JSON list without white space, in UTF-8: texts, whole numbers, numbers in Python's shortest
form, true and false, null for a missing value, timestamps as microseconds since 1970. So the same names, types, values
and order give the same digest whether they came from CSV, JSON lines, Parquet or SQLite.

*Split.* A row is held back for evaluation if the first 8 bytes of its SHA-256, as a fraction of 2**64, are below the
evaluation fraction. So neither chance nor order decides, equal rows stay on one side, and a row stays on its side when
others come or go. At least one row is always left for training; and of 20 rows or more, at least one is held back when
the fraction is above 0, as long as not all rows are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.frame.ingest import Column
from chorus_dataset.frame.profile import Profile
from chorus_dataset.frame.spool import Row, Spool
from chorus_dataset.readers.columns import ARROW_TYPES, Cell, converter
from chorus_protocol.messages import ColumnProfile

TRAIN_FILE = "train.parquet"
EVAL_FILE = "eval.parquet"
ENOUGH_ROWS = 20
_GROUP_CHARACTERS = 8 << 20
_GROUP_CELLS = 200_000
_RANGE = 2**64
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Written:
    """The frame that was written."""

    digest: str
    rows: int
    eval_rows: int
    columns: list[ColumnProfile]

    @property
    def name(self) -> str:
        """`df-` and the first 12 hex digits of the digest."""
        return f"df-{self.digest.removeprefix('sha256:')[:12]}"


def parse_fraction(text: str) -> Decimal:
    """Read `evalFraction`: a decimal from 0 up to, but not including, 1; else raise `BadConfiguration`."""
    try:
        fraction = Decimal(text)
    except ArithmeticError:
        fraction = Decimal(-1)
    if not fraction.is_finite() or not 0 <= fraction < 1:
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.evalFraction is {text!r}",
            hint='it must be a decimal from 0 up to, but not including, 1, such as "0.05"',
        )
    return fraction.normalize() if fraction else Decimal(0)


def row_hash(row: Sequence[Cell]) -> bytes:
    """SHA-256 of a row's typed values, which are in the order of their columns' names."""
    return hashlib.sha256(_ENCODE(row).encode()).digest()


def write_frame(
    spool: Spool, columns: Sequence[Column], *, fraction: Decimal, folder: Path, check: Callable[[], None]
) -> Written:
    """Write `train.parquet` and `eval.parquet` into `folder`; `check` is called for each block and may raise."""

    def attempt(threshold: int) -> tuple[Written, int, int]:
        return _write(spool, columns, fraction=fraction, threshold=threshold, folder=folder, check=check)

    threshold = int(fraction * _RANGE)
    written, lowest, highest = attempt(threshold)
    again = threshold
    if written.rows == 0:
        again = highest
    elif written.eval_rows == 0 and fraction > 0 and written.rows >= ENOUGH_ROWS and lowest < highest:
        again = lowest + 1
    if again != threshold:
        written, _, _ = attempt(again)
    return written


def _write(
    spool: Spool,
    columns: Sequence[Column],
    *,
    fraction: Decimal,
    threshold: int,
    folder: Path,
    check: Callable[[], None],
) -> tuple[Written, int, int]:
    """Write with a threshold; return what was written and the lowest and highest position of any row."""
    profile = Profile([(column.name, column.type) for column in columns])
    schema = pa.schema([pa.field(column.name, ARROW_TYPES[column.type]) for column in columns])
    names = json.dumps([[column.name, column.type] for column in columns], ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(f"chorus-frame-1\n{names}\n{fraction:f}\n".encode())
    by_name = sorted(range(len(columns)), key=lambda index: columns[index].name)
    lowest, highest = _RANGE, -1
    with (
        _Part(folder / TRAIN_FILE, schema, profile) as train,
        _Part(folder / EVAL_FILE, schema, profile) as held_back,
    ):
        for block in spool.blocks():
            check()
            for row in _typed(block, columns):
                hashed = row_hash([row[index] for index in by_name])
                digest.update(hashed)
                position = int.from_bytes(hashed[:8])
                lowest, highest = min(lowest, position), max(highest, position)
                (held_back if position < threshold else train).add(row)
    written = Written(f"sha256:{digest.hexdigest()}", train.rows, held_back.rows, profile.result())
    return written, lowest, highest


def _typed(block: list[Row], columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    """Turn spooled rows into rows of the frame: columns in order, values in their types."""
    series: list[list[Cell]] = []
    for column in columns:
        convert = converter(column.type, untyped=column.untyped)
        position = column.position
        series.append([convert(row[position]) if position < len(row) else None for row in block])
    return list(zip(*series, strict=True))


class _Part:
    """One of the two Parquet files."""

    def __init__(self, path: Path, schema: pa.Schema, profile: Profile) -> None:
        self._schema = schema
        self._profile = profile
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._pending: list[tuple[Cell, ...]] = []
        self._characters = 0
        self.rows = 0

    def add(self, row: tuple[Cell, ...]) -> None:
        self._pending.append(row)
        self.rows += 1
        self._characters += sum(len(cell) for cell in row if isinstance(cell, str))
        if self._characters >= _GROUP_CHARACTERS or len(self._pending) * len(row) >= _GROUP_CELLS:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        columns = zip(*self._pending, strict=True)
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, self._schema, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._profile.add(batch)
        self._writer.write_batch(batch)
        self._pending, self._characters = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
