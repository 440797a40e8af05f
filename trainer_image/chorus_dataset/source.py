"""Open the source of a Project's data with the reader of its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from chorus_api.project import DataFormat
from chorus_api.reasons import Reason
from chorus_dataset.csv_file import CsvReader
from chorus_dataset.errors import DataError
from chorus_dataset.jsonl_file import JsonlReader
from chorus_dataset.parquet_file import ParquetReader
from chorus_dataset.reader import Reader
from chorus_dataset.sqlite_file import SqliteReader

ENDINGS: dict[str, DataFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
}


def format_of(name: str, given: DataFormat | None) -> DataFormat:
    """Return the format that was given, or tell it from the name's ending; `FormatUnknown` if that says nothing."""
    if given is not None:
        return given
    ending = PurePosixPath(name).suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            Reason.FORMAT_UNKNOWN,
            f"the format of {name} cannot be told from its ending {ending!r}",
            hint="set spec.dataset.format to csv, jsonl, parquet or sqlite",
        )
    return ENDINGS[ending]


def open_source(
    path: Path,
    *,
    name: str,
    format: DataFormat | None,
    query: str | None,
    query_seconds: float,
    work_dir: Path,
    check: Callable[[], None],
) -> Reader:
    """Open the source for reading. `name` is what people call it; `check` is called now and then and may raise."""
    kind = format_of(name, format)
    if query is not None and kind != "sqlite":
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.query is set, but {name} is {kind}",
            hint="remove spec.dataset.query, or set spec.dataset.format: sqlite",
        )
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise DataError(Reason.FILE_NOT_FOUND, f"the file {name} {what}", hint="check the path of spec.dataset.source")
    if kind == "sqlite":
        return SqliteReader(path, where=name, query=query, seconds=query_seconds, work_dir=work_dir, check=check)
    readers: dict[DataFormat, Callable[[], Reader]] = {
        "csv": lambda: CsvReader(path, where=name),
        "jsonl": lambda: JsonlReader(path, where=name),
        "parquet": lambda: ParquetReader(path, where=name),
    }
    if path.stat().st_size == 0:
        raise DataError(Reason.NO_ROWS, f"the file {name} is empty", hint="check that the file was written completely")
    try:
        return readers[kind]()
    except OSError as error:
        raise DataError(Reason.FILE_NOT_FOUND, f"the file {name} cannot be read: {error.strerror}") from error
