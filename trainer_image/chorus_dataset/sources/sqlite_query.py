"""One SELECT over a SQLite database, in a process of its own: `python -m chorus_dataset.sources.sqlite_query`.

A limit of time holds only if it can end a single call: SQLite asks nobody while it pads a text, looks for one in
another or sorts. So `sqlite_file` kills this process. It imports as little as possible, for it is started often.

It reads `Asked` as JSON from its standard input, and writes parts to its standard output: four bytes of length,
big-endian, and so much JSON. The parts: `tables`, then `columns`, then any number of `rows`, then `end`; or `error` and
`code` in place of what should follow. It is JSON because this process reads what strangers wrote, so that its parent
must not run what it says.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import sys
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Self

HEAP_BYTES = 192 << 20
CELL_BYTES = 64 << 20
QUERY_BYTES = 1 << 20
LENGTH_BYTES = 4
_PART_ROWS = 200
_PART_BYTES = 4 << 20
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})

Value = str | int | float | None


@dataclass(frozen=True)
class Asked:
    """What this process is asked for: a query over a file that it may write to, and limits that the kernel holds."""

    path: str
    query: str
    file_bytes: int
    """Size of one file that sorting writes."""
    cpu_seconds: int

    def to_json(self) -> bytes:
        """Write it for the standard input."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def main() -> None:
    """Run the query. The exit code is 0 also after an error that was told."""
    asked = Asked.from_json(sys.stdin.buffer.read())
    out = sys.stdout.buffer
    try:
        _run(asked, out)
    except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
        code = getattr(error, "sqlite_errorname", "")
        _write(out, {"error": str(error) or type(error).__name__, "code": code})
    # Without closing the database: that would apply the write-ahead log to a copy that nobody needs any more.
    out.flush()
    os._exit(0)


def _run(asked: Asked, out: BinaryIO) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (asked.cpu_seconds, asked.cpu_seconds))
    connection = _connect(asked.path)
    _write(out, {"tables": _tables(connection)})
    _restrict(connection)
    # Only now: applying the write-ahead log may have written to a file of any size.
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked.file_bytes, asked.file_bytes))
    cursor = connection.execute(asked.query)
    _write(out, {"columns": [column[0] for column in cursor.description] if cursor.description is not None else None})
    rows: list[list[Value]] = []
    cost = 0
    for row in cursor:
        values = [_value(value) for value in row]
        rows.append(values)
        cost += sum(len(value) if isinstance(value, str) else 8 for value in values)
        if len(rows) == _PART_ROWS or cost > _PART_BYTES:
            _write(out, {"rows": rows})
            rows, cost = [], 0
    _write(out, {"rows": rows})
    _write(out, {"end": True})


def _connect(path: str) -> sqlite3.Connection:
    """Open for writing, so that SQLite can apply the write-ahead log and a journal to the copy."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
    connection.execute("PRAGMA cache_size = -8000")
    # Files, in SQLITE_TMPDIR, for what does not fit into the heap.
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    return [name for (name,) in found]


def _restrict(connection: sqlite3.Connection) -> None:
    # Table functions declare their columns when they are first used, which the authorizer would not allow.
    for function in ("json_each", "json_tree"):
        connection.execute(f"SELECT 1 FROM {function}('[]')")  # noqa: S608
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, QUERY_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _value(value: str | int | float | bytes | None) -> Value:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _write(out: BinaryIO, part: dict[str, Any]) -> None:
    text = json.dumps(part).encode()
    out.write(len(text).to_bytes(LENGTH_BYTES, "big") + text)
    out.flush()


if __name__ == "__main__":
    main()
