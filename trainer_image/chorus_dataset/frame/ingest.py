"""Read a source into a spool: every row is checked, mapped and counted, and the columns' types are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.frame.mapping import Mapping
from chorus_dataset.frame.spool import Spool
from chorus_dataset.readers.columns import Cell, ColumnType, TypeTracker
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject, Rejects
from chorus_dataset.readers.text_file import text_fault

CHECK_ROWS = 512


@dataclass(frozen=True)
class Column:
    """A column of the frame: where it is in a spooled row, and how its values are to be read."""

    name: str
    type: ColumnType
    position: int
    untyped: bool


@dataclass(frozen=True)
class Ingested:
    """What was read; the rows are in the spool: the mapped texts first, then the source's columns."""

    columns: list[Column]
    read_rows: int
    rejects: Rejects


def ingest(
    reader: Reader, *, mapping: Mapping, spool: Spool, max_rows: int | None, check: Callable[[], None]
) -> Ingested:
    """Read at most `max_rows` rows. Raises `DataError` where there is no row that can be used.

    `check` is called every few hundred rows and may raise.
    """
    rejects = Rejects()
    types = TypeTracker(untyped=reader.untyped, words=reader.missing is None)
    if reader.columns:
        mapping.check_columns(reader.columns, where=reader.where)
    read = 0
    for number, item in reader.rows():
        row = item if isinstance(item, Reject) else _accept(item, reader=reader, mapping=mapping)
        read += 1
        if isinstance(row, Reject):
            rejects.add(f"{reader.unit} {number}", row)
        else:
            types.add(item)
            spool.append([*row, *item])
        if read % CHECK_ROWS == 0:
            check()
        if read == max_rows:
            break
    _check_result(reader, mapping=mapping, spool=spool, read=read, rejects=rejects)
    return Ingested(_columns(reader, mapping=mapping, types=types), read_rows=read, rejects=rejects)


def _accept(row: list[Cell], *, reader: Reader, mapping: Mapping) -> list[str] | Reject:
    for position, cell in enumerate(row):
        if isinstance(cell, str) and (fault := text_fault(cell)):
            return Reject(fault[0], f"{reader.columns[position]} {fault[1]}")
    texts = mapping.apply(reader.columns, row)
    if isinstance(texts, Reject):
        return texts
    for role, text in zip(mapping.roles, texts, strict=True):
        # A text taken out of JSON can hold what the cell itself did not: \u0000.
        if fault := text_fault(text):
            return Reject(fault[0], f"{role} {fault[1]}")
    return texts


def _check_result(reader: Reader, *, mapping: Mapping, spool: Spool, read: int, rejects: Rejects) -> None:
    if read == 0:
        raise DataError(Reason.NO_ROWS, f"{reader.where} has no rows", hint="check the source, and the query if any")
    if reader.columns:
        mapping.check_columns(reader.columns, where=reader.where)
    if spool.rows == 0:
        raise DataError(
            Reason.ALL_ROWS_REJECTED,
            f"none of {read:,} rows of {reader.where} can be used: {rejects.summary()}",
            hint="correct the data, or spec.dataset.fields",
        )


def _columns(reader: Reader, *, mapping: Mapping, types: TypeTracker) -> list[Column]:
    inferred = types.types(len(reader.columns))
    offset = len(mapping.roles)
    kept = [
        Column(name, reader.declared.get(name, inferred[index]), offset + index, reader.untyped)
        for index, name in enumerate(reader.columns)
        if name not in mapping.roles
    ]
    return kept + [Column(role, "string", index, False) for index, role in enumerate(mapping.roles)]
