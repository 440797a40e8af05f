"""A frame for plugins that cannot read Parquet."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chorus_api.run_config import TerminationRecord
from chorus_dataset.convert import BATCH_ROWS, convert, main

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROWS = [
    {"species": "Adelie", "mass": 3750, "bill": 39.1, "wild": True, "seen": MOMENT, "note": 'has "quotes", and\nlines'},
    {"species": "Gentoo", "mass": None, "bill": None, "wild": False, "seen": None, "note": None},
]


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    folder = tmp_path / "frame"
    folder.mkdir()
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, folder / "train.parquet")
    pq.write_table(table.slice(0, 0), folder / "eval.parquet")
    (folder / "frame.json").write_text("{}")
    return folder


def test_csv_has_a_header_and_an_empty_field_for_what_is_missing(frame: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    convert("csv", frame=frame, target=target)
    with (target / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(ROWS[0]),
        ["Adelie", "3750", "39.1", "true", MOMENT.isoformat(), 'has "quotes", and\nlines'],
        ["Gentoo", "", "", "false", "", ""],
    ]
    assert (target / "eval.csv").read_text() == ",".join(ROWS[0]) + "\n"
    assert (target / "frame.json").read_text() == "{}"


def test_json_lines_leave_out_what_is_missing(frame: Path, tmp_path: Path) -> None:
    assert main(["jsonl", str(frame), str(tmp_path), f"--termination-log={tmp_path}/last-word"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [ROWS[0] | {"seen": MOMENT.isoformat()}, {"species": "Gentoo", "wild": False}]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_frame_that_outgrows_the_plugins_scratch_names_the_field_to_raise(tmp_path: Path, format: str) -> None:
    frame, target, last_word = tmp_path / "frame", tmp_path / "out", tmp_path / "last-word"
    frame.mkdir()
    target.mkdir()
    table = pa.table({"note": ["the same words again and again"] * (5 * BATCH_ROWS)})
    pq.write_table(table, frame / "train.parquet")
    pq.write_table(table.slice(0, 10), frame / "eval.parquet")
    (frame / "frame.json").write_text("{}")
    where = [format, str(frame), str(target), f"--termination-log={last_word}"]
    assert main([*where, "--most-bytes=200000"]) == 64
    said = TerminationRecord.model_validate_json(last_word.read_bytes())
    assert (said.reason, said.retryable) == ("ScratchFull", False)
    assert "spec.scratch.size of the Plugin" in said.hint
    assert (target / f"train.{format}").stat().st_size < 200_000 + 2 * BATCH_ROWS * 64
    assert main([*where, "--most-bytes=9000000"]) == 0
