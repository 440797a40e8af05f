"""Read Parquet in small batches, keeping the types that it declares."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.columns import Cell, ColumnType, check_names
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 500


class ParquetReader(Reader):
    """A Parquet file. Nested values become JSON text, dates and times timestamps, NaN a missing value."""

    def __init__(self, path: Path, *, where: str) -> None:
        super().__init__(where)
        try:
            # Without these two a whole row group would be held in memory.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._invalid(error) from error
        schema = self._file.schema_arrow
        check_names(schema.names, where=where)
        self.columns = list(schema.names)
        self.declared = {field.name: kind for field in schema if (kind := declared_type(field.type)) is not None}

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the rows."""
        number = 0
        metadata = self._file.metadata
        total = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * metadata.num_rows // max(total, 1)))
        try:
            for batch in self._file.iter_batches(batch_size=size):
                columns = [cells(column) for column in batch.columns]
                for row in zip(*columns, strict=True):
                    number += 1
                    yield number, list(row)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._invalid(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _invalid(self, error: Exception) -> DataError:
        return DataError(
            Reason.FORMAT_INVALID,
            f"{self.where} cannot be read as Parquet: {str(error).splitlines()[0]}",
            hint="check that the whole file was copied and that spec.dataset.format is right",
        )


def declared_type(kind: pa.DataType) -> ColumnType | None:
    """Type that a column of this Arrow type has in the frame; None where there are only missing values."""
    if pa.types.is_dictionary(kind):
        return declared_type(kind.value_type)
    if pa.types.is_null(kind):
        return None
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "timestamp_utc" if getattr(kind, "tz", None) else "timestamp"
    return "string"


def cells(column: pa.Array) -> list[Cell]:
    """Turn an Arrow array into values."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    declared = declared_type(kind)
    if declared in ("timestamp", "timestamp_utc"):
        moment = column.cast(pa.timestamp("us", tz="UTC" if declared == "timestamp_utc" else None), safe=False)
        values: list[Cell] = moment.cast(pa.int64()).to_pylist()
        return values
    if declared == "number":
        numbers = column.cast(pa.float64()).to_pylist()
        return [None if number is None or math.isnan(number) else number for number in numbers]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        # By way of bytes: files exist whose text is not UTF-8, and only such a row shall be lost.
        column = column.cast(pa.large_string()).view(pa.large_binary())
        kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in column.to_pylist()]
    if declared == "string":
        return [_text(value) for value in column.to_pylist()]
    plain: list[Cell] = column.to_pylist()
    return plain


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
