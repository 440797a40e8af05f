from __future__ import annotations

import math
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from chorus_api.reasons import Reason
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.errors import DataError
from chorus_dataset.readers.source_file import SourceFile
from chorus_dataset.sources.query import check_query
from chorus_dataset.sources.sqlite_file import SqliteReader, copy_database
from dataset_builders import Preparer, requests, write_sqlite

ALL = "SELECT * FROM asked"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "home.db"
    write_sqlite(path, requests(30))
    return path


def test_the_rows_of_a_written_table_come_back_with_their_types(preparer: Preparer, database: Path) -> None:
    frame = preparer.frame(database, query=ALL)
    # SQLite knows no truth values.
    assert frame.train == [{**row, "urgent": int(row["urgent"])} for row in requests(30)]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT question FROM asked WHERE room < 3 ORDER BY room DESC;", 3),
        ("WITH some AS (SELECT * FROM asked LIMIT 5) SELECT question FROM some", 5),
        ("VALUES (1, 'a'), (2, 'b')", 2),
        ("SELECT 1 AS a UNION ALL SELECT 2", 2),
        ("SELECT value FROM json_each('[1, 2, 3]')", 3),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7) SELECT i FROM n", 7),
        ("SELECT upper(question) AS loud, group_concat(room) AS rooms FROM asked GROUP BY urgent", 2),
        ("/* all */ SELECT name FROM sqlite_master -- tables", 1),
    ],
)
def test_any_one_select_is_taken(preparer: Preparer, database: Path, query: str, rows: int) -> None:
    assert preparer.frame(database, query=query).manifest.rows == rows


@pytest.mark.parametrize(
    "query",
    [
        "",
        "  ",
        "SELECT 1; SELECT 2",
        "DELETE FROM asked",
        "UPDATE asked SET room = 1",
        "INSERT INTO asked (room) VALUES (1)",
        "DROP TABLE asked",
        "CREATE TABLE copy AS SELECT * FROM asked",
        "PRAGMA table_info(asked)",
        "SELECT * FROM pragma_table_info('asked')",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "EXPLAIN SELECT 1",
        "SELECT load_extension('evil')",
        "SELECT writefile('a', 'b')",
        "SELECT FROM WHERE",
        "SELECT question FROM asked; DROP TABLE asked",
        "SELECT randomblob(2000000000)",
        "SELECT zeroblob(500000000)",
    ],
)
def test_whatever_is_not_one_select_or_does_more_than_read_is_refused(
    preparer: Preparer, database: Path, query: str
) -> None:
    before = database.read_bytes()
    error = preparer.error(database, query=query)
    assert error.reason is Reason.QUERY_INVALID
    assert "spec.dataset.query" in error.message
    assert error.hint
    assert error.exit_code == 64
    assert database.read_bytes() == before


def test_a_missing_query_is_named(preparer: Preparer, database: Path) -> None:
    error = preparer.error(database, query=None)
    assert error.reason is Reason.QUERY_INVALID
    assert "spec.dataset.query is missing" in error.message


def test_a_missing_table_is_named_with_those_that_there_are(preparer: Preparer, database: Path) -> None:
    error = preparer.error(database, query="SELECT * FROM asks")
    assert error.reason is Reason.TABLE_NOT_FOUND
    assert "home.db has no table 'asks'; it has: asked" in error.message
    assert error.hint == "did you mean 'asked'?"


def test_a_missing_column_is_named(preparer: Preparer, database: Path) -> None:
    error = preparer.error(database, query="SELECT reply FROM asked")
    assert "no such column: reply" in error.message


def test_two_columns_of_one_name_are_an_error(preparer: Preparer, database: Path) -> None:
    error = preparer.error(database, query="SELECT room, room FROM asked")
    assert "more than one column is called room" in error.message


def test_a_query_that_selects_nothing_has_no_rows(preparer: Preparer, database: Path) -> None:
    assert preparer.error(database, query=f"{ALL} WHERE room < 0").reason is Reason.NO_ROWS


def test_a_query_that_never_ends_is_stopped(preparer: Preparer, database: Path) -> None:
    error = preparer.error(database, query=ENDLESS, query_seconds=0)
    assert error.reason is Reason.QUERY_TIMEOUT
    assert "took more than 0 s over home.db" in error.message


def test_a_query_stops_when_the_pod_is_stopped(preparer: Preparer, database: Path) -> None:
    stop = StopFlag()
    stop.request()
    with pytest.raises(Stopped):
        preparer.frame(database, query=ENDLESS, check=stop.check)


def test_the_time_that_others_take_is_not_the_querys(database: Path, tmp_path: Path) -> None:
    clock = [0.0]
    work = tmp_path / "work"
    work.mkdir()
    reader = SqliteReader(
        database,
        where="home.db",
        query="WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n",
        seconds=10,
        work_dir=work,
        check=lambda: None,
        monotonic=lambda: clock[0],
    )
    with reader:
        for _ in reader.rows():
            clock[0] += 1.0
    assert clock[0] == 20_000


def test_rows_that_are_only_in_the_write_ahead_log_are_read(preparer: Preparer, tmp_path: Path) -> None:
    path = tmp_path / "home.db"
    write_sqlite(path, requests(5))
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO asked (question) VALUES ('from the log')")
    writer.commit()
    folder = tmp_path / "read-only"
    folder.mkdir()
    for suffix in ("", "-wal"):
        (folder / f"home.db{suffix}").write_bytes((tmp_path / f"home.db{suffix}").read_bytes())
        (folder / f"home.db{suffix}").chmod(0o444)
    folder.chmod(0o555)
    writer.close()
    frame = preparer.frame(folder / "home.db", query="SELECT question FROM asked")
    assert frame.train[-1] == {"question": "from the log"}
    assert sorted(os.listdir(folder)) == ["home.db", "home.db-wal"]


def test_a_database_that_changes_while_it_is_copied_is_copied_again(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[None] = []
    real = shutil.copyfileobj

    def copy_while_written(source: BinaryIO, target: BinaryIO, length: int) -> None:
        real(source, target, length)
        copies.append(None)
        if len(copies) == 1:
            write_sqlite(database, requests(3), table="late")

    monkeypatch.setattr(shutil, "copyfileobj", copy_while_written)
    with SourceFile(database, root=None, where="home.db") as source:
        copy = copy_database(source, tmp_path, where="home.db")
    assert len(copies) == 2
    assert copy.read_bytes() == database.read_bytes()


def test_a_database_that_never_rests_is_an_error_to_be_retried(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfileobj

    def copy_while_written(source: BinaryIO, target: BinaryIO, length: int) -> None:
        real(source, target, length)
        os.utime(database, ns=(0, database.stat().st_mtime_ns + 1))

    monkeypatch.setattr(shutil, "copyfileobj", copy_while_written)
    with SourceFile(database, root=None, where="home.db") as source:
        with pytest.raises(DataError, match="was written to during each") as caught:
            copy_database(source, tmp_path, where="home.db")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"question,answer\n" * 20, "not a SQLite database"),
        (b"", "is empty"),
        (b"SQLite format 3\0", "not a SQLite database"),
    ],
)
def test_a_file_of_another_kind_is_an_error(preparer: Preparer, content: bytes, what: str) -> None:
    error = preparer.error(preparer.file("a.db", content), query=ALL)
    assert error.reason is Reason.FORMAT_INVALID
    assert what in error.message


def test_a_truncated_database_is_an_error(preparer: Preparer, database: Path) -> None:
    whole = database.read_bytes()
    error = preparer.error(preparer.file("cut.db", whole[:-1000]), query=ALL)
    assert error.reason is Reason.FORMAT_INVALID
    assert f"truncated: it has {len(whole) - 1000:,} of {len(whole):,} bytes" in error.message


def test_a_damaged_database_is_an_error(preparer: Preparer, tmp_path: Path) -> None:
    write_sqlite(tmp_path / "a.db", requests(2000))
    content = bytearray((tmp_path / "a.db").read_bytes())
    content[4096 : len(content) - 4096] = b"\x55" * (len(content) - 8192)
    error = preparer.error(preparer.file("bad.db", bytes(content)), query=ALL)
    assert error.reason is Reason.FORMAT_INVALID
    assert "damaged" in error.message


def test_text_that_is_not_utf_8_costs_its_row(preparer: Preparer, database: Path) -> None:
    query = "SELECT CAST(x'66ff' AS TEXT) AS a UNION ALL SELECT 'good' UNION ALL SELECT x'00'"
    frame = preparer.frame(database, query=query)
    assert frame.rejected == {"InvalidUtf8": 1, "NulByte": 1}
    assert frame.train == [{"a": "good"}]


def test_a_column_of_several_types_becomes_text(preparer: Preparer, database: Path) -> None:
    frame = preparer.frame(database, query="VALUES (1), ('x'), (1.5), (NULL)")
    assert [row["column1"] for row in frame.train] == ["1", "x", "1.5", None]


def test_what_the_grammar_checker_cannot_read_is_left_to_sqlite() -> None:
    query = "SELECT FROM WHERE"
    assert check_query(query, dialect="sqlite", where="home.db is a SQLite database") == query


# What one call may cost

ENDLESS_CALLS = {
    "a text that is padded": "SELECT printf('%.1000000000c', 'x')",
    "a text that is looked for": "SELECT instr(hex(zeroblob(15000000)), hex(zeroblob(1000000)) || '1')",
    "a text that is replaced": "SELECT replace(hex(zeroblob(15000000)), hex(zeroblob(1000000)) || '1', '')",
    "characters that are trimmed": "SELECT trim(hex(zeroblob(9000000)), replace(hex(zeroblob(9999)), '0', '1') || '0')",
    "a pattern": "SELECT hex(zeroblob(15000000)) LIKE '%' || hex(zeroblob(20000)) || '1%'",
    "a view of the file's owner": "SELECT * FROM slow",
}


@pytest.mark.parametrize("query", ENDLESS_CALLS.values(), ids=ENDLESS_CALLS)
def test_the_time_limit_of_a_query_holds_inside_one_call(preparer: Preparer, database: Path, query: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE VIEW slow AS SELECT printf('%.1000000000c', 'x') AS text")
    connection.close()
    began = time.monotonic()
    error = preparer.error(database, query=query, query_seconds=1)
    assert error.reason is Reason.QUERY_TIMEOUT
    assert time.monotonic() - began < 10


def test_a_query_stops_inside_one_call_when_the_pod_is_stopped(preparer: Preparer, database: Path) -> None:
    stop = StopFlag()
    checks: list[None] = []

    def check() -> None:
        checks.append(None)
        if len(checks) > 5:
            stop.request()
        stop.check()

    with pytest.raises(Stopped):
        preparer.frame(database, query=ENDLESS_CALLS["a text that is looked for"], check=check)


SORTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
SORTS = {
    "one sort": f"{SORTED} SELECT hex(randomblob(500)) AS x FROM n ORDER BY x",
    "two sorts, each within the limit": f"{SORTED} SELECT a.x FROM (SELECT hex(randomblob(250)) AS x FROM n ORDER BY x)"
    " AS a, (SELECT hex(randomblob(250)) AS y FROM n ORDER BY y) AS b ORDER BY a.x || b.y",
    "a table in between": f"{SORTED}, t AS MATERIALIZED (SELECT hex(randomblob(500)) AS x FROM n)"
    " SELECT count(*) FROM t, t AS u",
}


@pytest.mark.parametrize("query", SORTS.values(), ids=SORTS)
def test_sorting_that_would_fill_the_disk_ends_and_names_query_and_limit(
    database: Path, tmp_path: Path, query: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_all(database, tmp_path, query=query.format(rows=300_000), spill_bytes=50 << 20)
    assert caught.value.reason is Reason.QUERY_INVALID
    assert "spec.dataset.query wrote more than 50 MiB of temporary files over home.db" in caught.value.message
    assert list((tmp_path / "work" / "temporary").iterdir()) == []


def test_more_rows_than_the_cache_holds_are_sorted(database: Path, tmp_path: Path) -> None:
    query = f"{SORTED.format(rows=30_000)} SELECT i, hex(randomblob(200)) AS x FROM n ORDER BY x"
    rows = read_all(database, tmp_path, query=query, spill_bytes=None)
    assert sorted(row[0] for row in rows) == list(range(1, 30_001))
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)


def test_texts_numbers_and_bytes_come_out_of_the_other_process_as_they_are(database: Path, tmp_path: Path) -> None:
    query = "SELECT 'é😀', 9223372036854775807, -1e308, 9e999, NULL, x'66ff', 0.1, ''"
    [row] = read_all(database, tmp_path, query=query, spill_bytes=None)
    assert row == ["é😀", 9223372036854775807, -1e308, math.inf, None, "f\udcff", 0.1, ""]


def test_no_process_is_left_of_a_query_that_was_given_up(database: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_all(database, tmp_path, query=ENDLESS, spill_bytes=None, seconds=0.3)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if b"sqlite_query" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []


def read_all(
    database: Path, folder: Path, *, query: str, spill_bytes: int | None, seconds: float = 60
) -> list[list[Any]]:
    """Run a query and give its rows."""
    work = folder / "work"
    work.mkdir()
    with SqliteReader(
        database,
        where="home.db",
        query=query,
        seconds=seconds,
        work_dir=work,
        check=lambda: None,
        spill_bytes=spill_bytes,
    ) as reader:
        return [row for _, row in reader.rows() if isinstance(row, list)]
