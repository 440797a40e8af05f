"""Read the result of one SELECT over a SQLite database, from a copy, with limits on what the query may do and cost."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from chorus_api.reasons import Reason
from chorus_dataset.columns import Cell, check_names
from chorus_dataset.errors import DataError
from chorus_dataset.query import check_query, table_missing
from chorus_dataset.reader import Reader
from chorus_dataset.rejects import Reject
from chorus_dataset.source_file import SourceFile
from chorus_dataset.untrusted import Refused

T = TypeVar("T")
_MAGIC = b"SQLite format 3\0"
_SIDE_FILES = ("-wal", "-journal")
"""Files that hold a part of the data. The shared-memory index `-shm` is not one: SQLite builds it anew from `-wal`."""
_COPY_TRIES = 5
_BLOCK = 1 << 20
_HEAP_BYTES = 192 << 20
_CELL_BYTES = 64 << 20
_STEPS = 10_000
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


def copy_database(source: SourceFile, folder: Path, *, where: str) -> Path:
    """Copy a database with the files that belong to it, and return the copy.

    The source is on a read-only volume, where SQLite cannot open a database in WAL mode. A copy during which the files
    changed is made again; `FormatInvalid` (retryable) if they never rest, and when one of them is no regular file.
    """
    target = folder / "source.sqlite"
    suffixes = ("", *_SIDE_FILES)
    for _ in range(_COPY_TRIES):
        before = [source.version(suffix) for suffix in suffixes]
        for suffix in suffixes:
            copy = target.with_name(target.name + suffix)
            copy.unlink(missing_ok=True)
            try:
                with source.open(suffix) as file, copy.open("xb") as copied:
                    shutil.copyfileobj(file, copied, _BLOCK)
            except FileNotFoundError:
                continue
            except Refused as error:
                message = f"{where}{suffix} {error.strerror}"
                raise DataError(Reason.FORMAT_INVALID, message, hint="keep only the database's own there") from error
        if before == [source.version(suffix) for suffix in suffixes]:
            return target
    raise DataError(
        Reason.FORMAT_INVALID,
        f"{where} was written to during each of {_COPY_TRIES} tries to copy it",
        hint="prepare from a copy or when nothing writes",
        retryable=True,
    )


class SqliteReader(Reader):
    """The rows of a query. `seconds` limits the time that SQLite itself takes; `check` may raise to stop the query."""

    def __init__(
        self,
        path: Path,
        *,
        where: str,
        query: str | None,
        seconds: float,
        work_dir: Path,
        check: Callable[[], None],
        root: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root`: the directory that the file must lie below, None for anywhere."""
        super().__init__(where)
        self._query = check_query(query, dialect="sqlite", where=f"{where} is a SQLite database")
        self._seconds = seconds
        self._check = check
        self._monotonic = monotonic
        self._spent = 0.0
        self._since = 0.0
        self._interruption: BaseException | None = None
        with SourceFile(path, root=root, where=where) as source:
            self._check_file(source)
            copy = copy_database(source, work_dir, where=where)
        self._connection = self._connect(copy)
        try:
            self._execute()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the rows of the result."""
        number = 0
        while True:
            rows = self._timed(lambda: self._cursor.fetchmany(200))
            if not rows:
                return
            for row in rows:
                number += 1
                yield number, [_cell(value) for value in row]

    def close(self) -> None:
        """Close the copy."""
        self._connection.close()

    def _check_file(self, source: SourceFile) -> None:
        size = source.size
        with source.open() as file:
            header = file.read(100)
        if len(header) < 100 or not header.startswith(_MAGIC):
            raise DataError(
                Reason.FORMAT_INVALID,
                f"{self.where} is not a SQLite database" if size else f"{self.where} is empty",
                hint="check the path of spec.dataset.source, and spec.dataset.format",
            )
        page = struct.unpack(">H", header[16:18])[0]
        pages = struct.unpack(">I", header[28:32])[0]
        expected = pages * (65536 if page == 1 else page)
        # The count is valid only if the two counters agree; with a write-ahead log the file may lag behind.
        if header[24:28] == header[92:96] and size < expected and source.version("-wal") is None:
            raise DataError(
                Reason.FORMAT_INVALID,
                f"{self.where} is truncated: it has {size:,} of {expected:,} bytes",
                hint="copy the whole file again",
            )

    def _connect(self, copy: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(copy, isolation_level=None)
        try:
            # Opened for writing first, so that SQLite can apply the write-ahead log and a journal to the copy.
            connection.execute(f"PRAGMA hard_heap_limit = {_HEAP_BYTES}")
            connection.execute("PRAGMA cache_size = -8000")
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute("PRAGMA trusted_schema = OFF")
            self.tables = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
                    " ORDER BY name"
                )
            ]
            # Table functions declare their columns when they are first used, which the authorizer would not allow.
            for function in ("json_each", "json_tree"):
                connection.execute(f"SELECT 1 FROM {function}('[]')")  # noqa: S608
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise self._translate(error) from error
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _CELL_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(self._tick, _STEPS)
        return connection

    def _execute(self) -> None:
        self._cursor = self._timed(lambda: self._connection.execute(self._query))
        if self._cursor.description is None:
            raise DataError(
                Reason.QUERY_INVALID,
                "spec.dataset.query is not a SELECT",
                hint="write one SELECT in spec.dataset.query",
            )
        self.columns = [column[0] for column in self._cursor.description]
        check_names(self.columns, where=f"spec.dataset.query over {self.where}")

    def _timed(self, work: Callable[[], T]) -> T:
        self._since = self._monotonic()
        try:
            return work()
        except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
            raise self._interruption or self._translate(error) from error
        finally:
            self._spent += self._monotonic() - self._since

    def _tick(self) -> int:
        """Called by SQLite every few thousand steps; 1 stops the query."""
        try:
            self._check()
        except Exception as error:  # whatever it is, it is raised again outside of SQLite
            self._interruption = error
            return 1
        if self._spent + self._monotonic() - self._since > self._seconds:
            self._interruption = DataError(
                Reason.QUERY_TIMEOUT,
                f"spec.dataset.query took more than {self._seconds:g} s over {self.where}",
                hint="select fewer rows, or give the database an index that the query can use",
            )
            return 1
        return 0

    def _translate(self, error: BaseException) -> DataError:
        text = str(error) or type(error).__name__
        if isinstance(error, MemoryError) or "out of memory" in text or "too big" in text:
            return DataError(
                Reason.QUERY_INVALID,
                f"spec.dataset.query needs too much memory over {self.where}: {text}",
                hint=f"a value may have at most {_CELL_BYTES >> 20} MiB, a query {_HEAP_BYTES >> 20} MiB",
            )
        if "no such table" in text:
            return table_missing(text.rpartition(": ")[2], self.tables, where=self.where)
        if "not a database" in text or "malformed" in text or "disk I/O error" in text:
            return DataError(
                Reason.FORMAT_INVALID,
                f"{self.where} is damaged or truncated: {text}",
                hint="copy the whole file again; sqlite3 FILE 'PRAGMA integrity_check' says more",
            )
        if "not authorized" in text or "prohibited" in text or "one statement at a time" in text:
            return DataError(
                Reason.QUERY_INVALID,
                f"spec.dataset.query may only read: {text}",
                hint="write one SELECT without PRAGMA, ATTACH or functions that load code",
            )
        return DataError(Reason.QUERY_INVALID, f"spec.dataset.query over {self.where}: {text}", hint="check the query")


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _cell(value: str | int | float | bytes | None) -> Cell:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
