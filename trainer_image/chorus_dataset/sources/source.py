"""Open the source of a Project's data: fetch it if need be, and take the reader of its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from chorus_api.project import DataFormat
from chorus_api.reasons import Reason
from chorus_api.run_config import PrepareConfig
from chorus_dataset.errors import DataError
from chorus_dataset.readers.csv_file import CsvReader
from chorus_dataset.readers.jsonl_file import JsonlReader
from chorus_dataset.readers.parquet_file import ParquetReader
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.source_file import SourceFile
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.secret import SourceSecret
from chorus_dataset.sources.sqlite_file import SqliteReader

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


def open_dataset(
    config: PrepareConfig, *, volume: Path, work_dir: Path, egress: Egress, check: Callable[[], None]
) -> Reader:
    """Open what a configuration names: a file that is there, one to fetch into `work_dir`, or a database.

    `check` is called now and then and may raise.
    """
    secret = SourceSecret(Path(config.secret_dir) if config.secret_dir else None, name=config.secret_name)
    if config.database_key is not None:
        from chorus_dataset.sources.database import open_database

        return open_database(
            config.database_key,
            secret=secret,
            ca_key=config.ca_key,
            ca_secret=SourceSecret(Path(config.ca_dir) if config.ca_dir else None, name=config.ca_secret_name),
            where=config.source_name,
            volume=volume,
            query=config.query,
            query_seconds=config.query_seconds,
            work_dir=work_dir,
            egress=egress,
            check=check,
        )
    path, root, kind = Path(config.source_path), config.source_root, config.format
    if config.uri is not None:
        from chorus_dataset.sources.download import Limits, download
        from chorus_dataset.sources.remote import file_name

        # Before the file is fetched, which may take long.
        kind = format_of(file_name(config.uri.url), config.format)
        path, root = work_dir / "fetched", None
        limits = Limits(config.fetch_bytes, config.fetch_seconds)
        download(config.uri, secret=secret, target=path, egress=egress, limits=limits, check=check)
    return open_source(
        path,
        root=Path(root) if root is not None else None,
        name=config.source_name,
        format=kind,
        query=config.query,
        query_seconds=config.query_seconds,
        missing_values=config.missing_values,
        work_dir=work_dir,
        check=check,
    )


def open_source(
    path: Path,
    *,
    root: Path | None,
    name: str,
    format: DataFormat | None,
    query: str | None,
    query_seconds: float,
    missing_values: Sequence[str] | None,
    work_dir: Path,
    check: Callable[[], None],
) -> Reader:
    """Open a file for reading. `root`: where it must lie, None for anywhere; `name` is what people call it.

    `check` is called now and then and may raise.
    """
    kind = format_of(name, format)
    if query is not None and kind != "sqlite":
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.query is set, but {name} is {kind}",
            hint="remove spec.dataset.query, or set spec.dataset.format: sqlite",
        )
    if missing_values is not None and kind not in ("csv", "jsonl"):
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.missingValues is set, but {name} is {kind}",
            hint="remove spec.dataset.missingValues: it is for csv and jsonl",
        )
    missing = None if missing_values is None else frozenset(missing_values)
    if kind == "sqlite":
        return SqliteReader(
            path, root=root, where=name, query=query, seconds=query_seconds, work_dir=work_dir, check=check
        )
    with SourceFile(path, root=root, where=name) as file, file.path() as opened:
        readers: dict[DataFormat, Callable[[], Reader]] = {
            "csv": lambda: CsvReader(opened, where=name, missing=missing),
            "jsonl": lambda: JsonlReader(opened, where=name, missing=missing),
            "parquet": lambda: ParquetReader(opened, where=name),
        }
        if file.size == 0:
            raise DataError(
                Reason.NO_ROWS, f"the file {name} is empty", hint="check that the file was written completely"
            )
        try:
            return readers[kind]()
        except OSError as error:
            raise DataError(Reason.FILE_NOT_FOUND, f"the file {name} cannot be read: {error.strerror}") from error
