"""What all readers of tables have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from chorus_dataset.readers.columns import Cell, ColumnType
from chorus_dataset.readers.rejects import Reject


class Reader(AbstractContextManager["Reader"], ABC):
    """A table that is read once, row by row, in bounded memory.

    `columns` may grow while rows are read (JSON lines); a row holds the columns known by then. `declared` are the types
    that the format itself gives. With `untyped` all values are text whose type is still to be told. `missing` are the
    texts that the user says are missing values, None for the format's own rule. `unit` is what a row's number counts:
    rows, or lines of the file.
    """

    unit = "row"
    untyped = False

    def __init__(self, where: str) -> None:
        self.where = where
        self.columns: list[str] = []
        self.declared: dict[str, ColumnType] = {}
        self.missing: frozenset[str] | None = None

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield each row's number, from 1, with its values or the reason why it cannot be used."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
