"""Read the training frame, and tell what each column is good for: a number, a category, or nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_classifier.faults import BadData, NotApplicable

MIN_ROWS = 20
MOST_CLASSES = 100
MOST_CATEGORIES = 50
Matrix = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Features:
    """The columns that are learned from, in the order in which the model takes them."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    left_out: tuple[str, ...]
    """Columns with one value only, or with so many texts that they name rows rather than kinds."""

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers first, then categories."""
        return self.numbers + self.categories


@dataclass(frozen=True)
class Rows:
    """Rows with a known outcome. Missing numbers are NaN, missing categories None."""

    features: Matrix
    outcomes: Matrix

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.outcomes)


@dataclass(frozen=True)
class Frame:
    """What there is to learn from and to be judged by."""

    outcome: str
    features: Features
    train: Rows
    evaluation: Rows
    without_outcome: int
    """Rows that were passed over because their outcome is missing."""

    @property
    def classes(self) -> list[str]:
        """The outcomes of the training rows, sorted."""
        return sorted(set(self.train.outcomes))


def read(folder: Path, *, outcome: str | None) -> Frame:
    """Read a frame whose column `outcome` is to be predicted. Raises NotApplicable, or BadData for a single class."""
    train, evaluation = (pq.read_table(folder / f"{part}.parquet") for part in ("train", "eval"))
    if not outcome:
        raise NotApplicable("spec.dataset.info has no key 'outcome': set it to the name of the column to predict")
    if outcome not in train.column_names:
        raise NotApplicable(f"info.outcome names the column {outcome!r}; there are {', '.join(train.column_names)}")
    known, left = _with_outcome(train, outcome)
    judged, left_too = _with_outcome(evaluation, outcome)
    if known.num_rows < MIN_ROWS:
        raise NotApplicable(f"{known.num_rows} training rows have a value in {outcome!r}; {MIN_ROWS} are needed")
    features = _features(known, outcome)
    frame = Frame(
        outcome=outcome,
        features=features,
        train=_rows(known, outcome, features),
        evaluation=_rows(judged, outcome, features),
        without_outcome=left + left_too,
    )
    if len(frame.classes) < 2:
        raise BadData(f"column {outcome!r} holds one value only, {frame.classes[0]!r}: there is nothing to tell apart")
    if len(frame.classes) > MOST_CLASSES:
        raise NotApplicable(f"column {outcome!r} holds {len(frame.classes)} values: this plugin tells {MOST_CLASSES}")
    if not features.names:
        raise NotApplicable(f"no column but {outcome!r} can be learned from; {', '.join(features.left_out)} cannot")
    return frame


def _with_outcome(table: pa.Table, outcome: str) -> tuple[pa.Table, int]:
    kept = table.filter(table[outcome].is_valid())
    return kept, table.num_rows - kept.num_rows


def _features(table: pa.Table, outcome: str) -> Features:
    numbers, categories, left_out = [], [], []
    for name in table.column_names:
        if name == outcome:
            continue
        distinct = len(table[name].drop_null().unique())
        if distinct < 2:
            left_out.append(name)
        elif not pa.types.is_string(table.schema.field(name).type):
            numbers.append(name)
        elif distinct <= min(MOST_CATEGORIES, table.num_rows // 2):
            categories.append(name)
        else:
            left_out.append(name)
    return Features(tuple(numbers), tuple(categories), tuple(left_out))


def _rows(table: pa.Table, outcome: str, features: Features) -> Rows:
    columns = [_numbers(table[name]) for name in features.numbers]
    columns += [table[name].to_pylist() for name in features.categories]
    matrix = np.empty((table.num_rows, len(columns)), dtype=object)
    for position, values in enumerate(columns):
        matrix[:, position] = values
    outcomes = [as_label(value) for value in table[outcome].to_pylist()]
    return Rows(matrix, np.array(outcomes, dtype=object))


def _numbers(column: pa.ChunkedArray) -> Sequence[float]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [math.nan if value is None else float(value) for value in column.to_pylist()]


def as_label(value: object) -> str:
    """Write an outcome as the text that the model predicts; truth values as JSON has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
