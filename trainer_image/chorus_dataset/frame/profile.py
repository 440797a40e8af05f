"""Describe the columns of a frame while it is written: missing and distinct values, range, mean, frequent values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from chorus_dataset.readers.columns import ColumnType
from chorus_protocol.messages import CategoryCount, ColumnProfile

MAX_DISTINCT = 1000
MAX_SHOWN = 60
FEW_VALUES = 50
"""A column with more different values has no categories."""
MAX_CATEGORIES = 20
_CATEGORICAL = ("string", "integer", "boolean")
_NUMBERS = ("integer", "number")


class ColumnStatistics:
    """What is known of one column so far."""

    def __init__(self, name: str, kind: ColumnType) -> None:
        self._name = name
        self._type = kind
        self._nulls = 0
        self._longest: int | None = None
        self._least: Any = None
        self._greatest: Any = None
        self._present = 0
        self._sum = 0.0
        # Hashes and not the values themselves: a thousand long texts would fill the memory.
        self._distinct: set[int] | None = set()
        self._counts: dict[int, tuple[str, int]] | None = {} if kind in _CATEGORICAL else None

    def add(self, column: pa.Array) -> None:
        """Look at the next values."""
        self._nulls += column.null_count
        if column.null_count == len(column):
            return
        bounds = pc.min_max(column).as_py()
        least, greatest = bounds["min"], bounds["max"]
        self._least = least if self._least is None else min(self._least, least)
        self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)
        if self._type == "string":
            longest = pc.max(pc.utf8_length(column)).as_py()
            self._longest = max(self._longest or 0, longest)
        if self._type in _NUMBERS:
            self._present += len(column) - column.null_count
            self._sum += pc.sum(column.cast(pa.float64(), safe=False)).as_py()
        if self._counts is not None:
            self._count(column)
        if self._distinct is not None:
            self._distinct.update(hash(value) for value in pc.unique(column).to_pylist() if value is not None)
            if len(self._distinct) > MAX_DISTINCT:
                self._distinct = None

    def _count(self, column: pa.Array) -> None:
        assert self._counts is not None
        for entry in pc.value_counts(column).to_pylist():
            value = entry["values"]
            if value is None:
                continue
            text, count = self._counts.get(hash(value), (_shown(value) or "", 0))
            self._counts[hash(value)] = (text, count + entry["counts"])
            if len(self._counts) > FEW_VALUES:
                self._counts = None
                return

    def _categories(self) -> list[CategoryCount] | None:
        if not self._counts:
            return None
        order = sorted(self._counts.values(), key=lambda each: (-each[1], each[0]))
        return [CategoryCount(value=text, count=count) for text, count in order[:MAX_CATEGORIES]]

    def _mean(self) -> float | None:
        mean = self._sum / self._present if self._present else math.nan
        return mean if math.isfinite(mean) else None

    def result(self) -> ColumnProfile:
        """Give what is known."""
        kind: Literal["string", "integer", "number", "boolean", "timestamp"]
        kind = "timestamp" if self._type == "timestamp_utc" else self._type
        return ColumnProfile(
            name=self._name,
            type=kind,
            nulls=self._nulls,
            distinct=None if self._distinct is None else len(self._distinct),
            min=_shown(self._least),
            max=_shown(self._greatest),
            mean=self._mean(),
            categories=self._categories(),
            max_length=self._longest,
        )


class Profile:
    """Statistics of all columns."""

    def __init__(self, columns: Sequence[tuple[str, ColumnType]]) -> None:
        self._columns = [ColumnStatistics(name, kind) for name, kind in columns]

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at the next rows."""
        for statistics, column in zip(self._columns, batch.columns, strict=True):
            statistics.add(column)

    def result(self) -> list[ColumnProfile]:
        """Give what is known of each column, in order."""
        return [statistics.result() for statistics in self._columns]


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
