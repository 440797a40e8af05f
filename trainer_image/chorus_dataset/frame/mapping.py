"""Make prompt and response out of a row: a column's text, or one member of the best element of a JSON list."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from chorus_api.nearest import nearest
from chorus_api.project import BestElement, Fields, FieldSource
from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing
from chorus_dataset.readers.columns import Cell, as_text
from chorus_dataset.readers.rejects import Reject

Role = Literal["prompt", "response"]


class Mapping:
    """The mapping of a Project: which of prompt and response there are, and how each is made.

    A column of the source that is called `prompt` or `response` gives way to the mapped one of that name.
    """

    def __init__(self, fields: Fields | None) -> None:
        sources: list[tuple[Role, FieldSource | None]] = (
            [("prompt", fields.prompt), ("response", fields.response)] if fields is not None else []
        )
        self._fields = [(role, source) for role, source in sources if source is not None]
        self._positions: dict[str, int] = {}

    @property
    def roles(self) -> list[str]:
        """Names of the columns that the mapping makes."""
        return [role for role, _ in self._fields]

    def check_columns(self, columns: Sequence[str], *, where: str) -> None:
        """Raise `ColumnNotFound`, naming the field, if a column is not there."""
        for role, source in self._fields:
            if source.column not in columns:
                meant = nearest(source.column, columns)
                raise DataError(
                    Reason.COLUMN_NOT_FOUND,
                    f"spec.dataset.fields.{role}.column: {where} has no column {source.column!r};"
                    f" it has: {listing(columns)}",
                    hint=f"did you mean {meant!r}?" if meant else "use one of these columns, or select it in the query",
                )

    def apply(self, columns: Sequence[str], row: Sequence[Cell]) -> list[str] | Reject:
        """Make the mapped texts of a row; the row may be shorter than the columns."""
        texts: list[str] = []
        for role, source in self._fields:
            text = _make(role, source, self._cell(source.column, columns, row))
            if isinstance(text, Reject):
                return text
            texts.append(text)
        return texts

    def _cell(self, column: str, columns: Sequence[str], row: Sequence[Cell]) -> Cell:
        position = self._positions.get(column)
        if position is None:
            if column not in columns:
                return None
            position = self._positions[column] = list(columns).index(column)
        return row[position] if position < len(row) else None


def _make(role: Role, source: FieldSource, cell: Cell) -> str | Reject:
    word = role.capitalize()
    text = as_text(cell)
    if text is None:
        return Reject(f"Missing{word}", f"{source.column} is missing")
    if source.best is not None:
        taken = best_element(text, column=source.column, best=source.best)
        if isinstance(taken, Reject):
            return taken
        if taken is None:
            return Reject(f"Missing{word}", f"{source.column}: the best element has no text {source.best.take!r}")
        text = taken
    return text if text.strip() else Reject(f"Blank{word}", f"{source.column} holds only white space")


def best_element(text: str, *, column: str, best: BestElement) -> str | Reject | None:
    """Take a member of the element whose `by` is highest, of the first one among equals.

    Elements that are no objects or have no finite number there are passed over. None if the member is missing in the
    best element or is no text or number.
    """
    try:
        elements = json.loads(text)
    except json.JSONDecodeError as error:
        return Reject("BrokenJson", f"{column}: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return Reject("BrokenJson", f"{column}: {error}")
    if not isinstance(elements, list):
        return Reject("NotAList", f"{column} holds JSON that is no list")
    if not elements:
        return Reject("EmptyList", f"{column} is an empty list")
    rated = [each for each in elements if isinstance(each, dict) and _is_number(each.get(best.by))]
    if not rated:
        return Reject("NoBestElement", f"{column}: no element has a number {best.by!r}")
    taken = max(rated, key=lambda each: each[best.by]).get(best.take)
    return as_text(taken) if isinstance(taken, str) or _is_number(taken) else None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)
