"""The training frame as the trainer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chorus_trainer import frame
from chorus_trainer.errors import BadData, NotApplicable
from chorus_trainer.frame import Pair


def _write(directory: Path, name: str = "train", **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns), directory / f"{name}.parquet")


def test_the_first_rows_with_both_texts_are_read(tmp_path: Path) -> None:
    _write(tmp_path, prompt=["a", None, " ", "b", "c"], response=["1", "2", "3", "4", "5"], other=[1, 2, 3, 4, 5])
    _write(tmp_path, "eval", prompt=["d", "e"], response=["6", None])
    frame.check(tmp_path)
    read = frame.read(tmp_path, max_samples=2)
    assert read.train == [Pair("a", "1"), Pair("b", "4")]
    assert read.evaluation == [Pair("d", "6")]
    assert read.skipped == 3


def test_a_frame_need_not_have_evaluation_rows(tmp_path: Path) -> None:
    _write(tmp_path, prompt=["a"], response=["1"])
    assert frame.read(tmp_path, max_samples=9).evaluation == []


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    _write(tmp_path, question=["a"], answer=["1"])
    with pytest.raises(NotApplicable, match="no column prompt and response; it has question, answer"):
        frame.check(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path, prompt=["a"], response=["1"])
    (tmp_path / "eval.parquet").write_bytes(b"nothing")
    with pytest.raises(BadData, match=r"eval\.parquet cannot be read"):
        frame.read(tmp_path, max_samples=9)
