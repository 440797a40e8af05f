"""Read the result of one SELECT over a SQLite database, from a copy, with limits on what the query may do and cost.

The query runs in a process of its own (`sqlite_query`), which is killed when it takes too long or too much.
"""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.files import make_dir
from chorus_dataset.readers.columns import Cell, check_names
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject
from chorus_dataset.readers.source_file import SourceFile
from chorus_dataset.sources.query import check_query, table_missing
from chorus_dataset.sources.sqlite_process import OutOfSpace, OutOfTime, QueryProcess
from chorus_dataset.sources.sqlite_query import CELL_BYTES, HEAP_BYTES
from chorus_dataset.untrusted import Refused

_MAGIC = b"SQLite format 3\0"
_SIDE_FILES = ("-wal", "-journal")
"""Files that hold a part of the data. The shared-memory index `-shm` is not one: SQLite builds it anew from `-wal`."""
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_COPY_TRIES = 5
_BLOCK = 1 << 20
_SPILL_BYTES = 1 << 30


def copy_database(source: SourceFile, folder: Path, *, where: str) -> Path:
    """Copy a database with the files that belong to it, and return the copy.

    The source is on a read-only volume, where SQLite cannot open a database in WAL mode. A copy during which the files
    changed is made again; `FormatInvalid` (retryable) if they never rest, and when one of them is no regular file or
    the journal names a super-journal.
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
            _check_journal(target.with_name(f"{target.name}-journal"), where=where)
            return target
    raise DataError(
        Reason.FORMAT_INVALID,
        f"{where} was written to during each of {_COPY_TRIES} tries to copy it",
        hint="prepare from a copy or when nothing writes",
        retryable=True,
    )


def _check_journal(copy: Path, *, where: str) -> None:
    """Raise `FormatInvalid` for a journal that names a super-journal.

    SQLite deletes the super-journal when it has rolled the journal back, wherever it is, before any limit on the query
    holds. It takes a name from nowhere but the end of the journal, and only if the last eight bytes are the magic.
    """
    if not copy.exists():
        return
    with copy.open("rb") as file:
        file.seek(max(0, copy.stat().st_size - len(_JOURNAL_MAGIC)))
        end = file.read()
    if end == _JOURNAL_MAGIC:
        raise DataError(
            Reason.FORMAT_INVALID,
            f"the -journal file of {where} names a super-journal: it is of a transaction over several databases",
            hint="let its own program open and close the database, or copy the database without its journal",
        )


class SqliteReader(Reader):
    """The rows of a query.

    `seconds` limits the time that SQLite itself takes, also within one call; `check` may raise to stop the query.
    `spill_bytes` limits what sorting may write to `work_dir`: by default twice the database and 1 GiB.
    """

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
        spill_bytes: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root`: the directory that the file must lie below, None for anywhere."""
        super().__init__(where)
        checked = check_query(query, dialect="sqlite", where=f"{where} is a SQLite database")
        self._seconds = seconds
        with SourceFile(path, root=root, where=where) as source:
            self._check_file(source)
            copy = copy_database(source, work_dir, where=where)
        self._spill_bytes = _SPILL_BYTES + 2 * copy.stat().st_size if spill_bytes is None else spill_bytes
        self._process = QueryProcess(
            copy,
            query=checked,
            seconds=seconds,
            spill_bytes=self._spill_bytes,
            spill_dir=make_dir(work_dir / "temporary"),
            check=check,
            monotonic=monotonic,
        )
        try:
            self._tables: list[str] = []
            self._tables = self._part("tables")
            columns = self._part("columns")
            if columns is None:
                raise DataError(
                    Reason.QUERY_INVALID,
                    "spec.dataset.query is not a SELECT",
                    hint="write one SELECT in spec.dataset.query",
                )
            self.columns = columns
            check_names(self.columns, where=f"spec.dataset.query over {self.where}")
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the rows of the result."""
        number = 0
        while (rows := self._part("rows", last="end")) is not True:
            for row in rows:
                number += 1
                yield number, row

    def close(self) -> None:
        """End the query, wherever it is."""
        self._process.close()

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

    def _part(self, name: str, *, last: str = "") -> Any:
        """Wait for the next part, called `name`, or `last` if nothing follows it; `DataError` if none comes."""
        try:
            part = self._process.part()
        except OutOfTime:
            raise DataError(
                Reason.QUERY_TIMEOUT,
                f"spec.dataset.query took more than {self._seconds:g} s over {self.where}",
                hint="select fewer rows, or give the database an index that the query can use",
            ) from None
        except OutOfSpace:
            raise self._too_much_sorting() from None
        except (EOFError, ValueError, RecursionError) as error:
            raise self._too_much_memory(f"its process ended early ({error})") from error
        if "error" in part:
            raise self._translate(str(part["error"]), str(part.get("code")))
        if name in part or last in part:
            return part.get(name, part.get(last))
        raise self._too_much_memory("its process said something else than it was asked for")

    def _too_much_memory(self, said: str) -> DataError:
        return DataError(
            Reason.QUERY_INVALID,
            f"spec.dataset.query needs too much memory over {self.where}: {said}",
            hint=f"a value may have at most {CELL_BYTES >> 20} MiB, a query {HEAP_BYTES >> 20} MiB",
        )

    def _too_much_sorting(self) -> DataError:
        return DataError(
            Reason.QUERY_INVALID,
            f"spec.dataset.query wrote more than {self._spill_bytes >> 20:,} MiB of temporary files over {self.where}",
            hint="sort, group and join fewer rows, or give the database an index in the order that is asked for",
        )

    def _translate(self, text: str, code: str) -> DataError:
        if "out of memory" in text or "too big" in text or text == "MemoryError":
            return self._too_much_memory(text)
        if code == "SQLITE_IOERR_WRITE":  # of one file, by the kernel
            return self._too_much_sorting()
        if code == "SQLITE_FULL":
            return DataError(
                Reason.PREPARATION_FAILED,
                f"spec.dataset.query over {self.where} found no room on the Project's volume for temporary files",
                hint="sort fewer rows, or have the Project's claim enlarged",
            )
        if "no such table" in text:
            return table_missing(text.rpartition(": ")[2], self._tables, where=self.where)
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
