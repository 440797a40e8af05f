from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.reasons import Reason
from dataset_builders import Preparer, requests, write_parquet


def written(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_the_rows_of_a_written_table_come_back_with_their_types(preparer: Preparer, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", requests(1200))
    frame = preparer.frame(tmp_path / "a.parquet")
    assert frame.train == requests(1200)


def test_declared_types_are_kept_or_become_the_nearest(preparer: Preparer, tmp_path: Path) -> None:
    moment = datetime(2026, 11, 21, 10, 15, 2, 5)
    path = written(
        tmp_path / "a.parquet",
        small=pa.array([1, None], pa.int8()),
        huge=pa.array([2**64 - 1, 1], pa.uint64()),
        exact=pa.array([Decimal("1.50"), None]),
        half=pa.array([0.5, float("nan")], pa.float32()),
        word=pa.array(["a", "b"]).dictionary_encode(),
        raw=pa.array(["é".encode(), None], pa.binary()),
        when=pa.array([moment, None], pa.timestamp("ns")),
        zoned=pa.array([moment, None], pa.timestamp("ms", tz="Europe/Oslo")),
        day=pa.array([date(2026, 1, 2), None]),
        nested=pa.array([[{"a": 1}], None]),
        nothing=pa.nulls(2),
    )
    frame = preparer.frame(path)
    assert frame.types == {
        "small": "integer",
        "huge": "string",
        "exact": "number",
        "half": "number",
        "word": "string",
        "raw": "string",
        "when": "timestamp",
        "zoned": "timestamp",
        "day": "timestamp",
        "nested": "string",
        "nothing": "string",
    }
    first, second = frame.train
    assert first["huge"] == str(2**64 - 1)
    assert (first["exact"], first["raw"], first["nested"]) == (1.5, "é", '[{"a": 1}]')
    assert (first["when"], first["day"]) == (moment, datetime(2026, 1, 2))
    assert first["zoned"].utcoffset() == datetime.now(UTC).utcoffset()
    assert second["half"] is None, "NaN is a missing value"


def test_a_row_whose_text_is_not_utf_8_is_rejected(preparer: Preparer, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", a=pa.array([b"good", b"b\xffd"]), b=pa.array(["x", "y"]))
    frame = preparer.frame(path)
    assert frame.rejected == {"InvalidUtf8": 1}
    assert frame.examples == ["row 2: a byte 0xff is not UTF-8 text"]


def test_a_truncated_file_is_an_error(preparer: Preparer, tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", requests(100))
    path = preparer.file("a.parquet", (tmp_path / "b.parquet").read_bytes()[:-20])
    error = preparer.error(path)
    assert error.reason is Reason.FORMAT_INVALID
    assert "a.parquet cannot be read as Parquet" in error.message


def test_a_file_that_is_damaged_inside_is_an_error(preparer: Preparer, tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", requests(100))
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    content[4:60] = bytes(56)
    error = preparer.error(preparer.file("a.parquet", bytes(content)))
    assert error.reason is Reason.FORMAT_INVALID


def test_a_table_without_rows_has_no_rows(preparer: Preparer, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", a=pa.array([], pa.string()))
    assert preparer.error(path).reason is Reason.NO_ROWS


def test_double_names_are_an_error(preparer: Preparer, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    assert "more than one column is called a" in preparer.error(tmp_path / "a.parquet").message
