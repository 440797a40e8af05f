from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.frame.write import parse_fraction
from chorus_protocol.messages import FrameManifest
from dataset_builders import Preparer, Table, csv_text, jsonl_text, requests, write_parquet, write_sqlite

EXAMPLES = settings(deadline=None, max_examples=25)
KNOWN_DIGEST = "sha256:a00d2923edf247eabce2c350fa410eb5d96d6f7d23f83ec9948b3149a1524358"
PLAIN = ("question", "answer", "room", "level", "note")  # without truth values, which SQLite has not


def plain(count: int) -> list[dict[str, Any]]:
    return [{name: row[name] for name in PLAIN} for row in requests(count)]


@dataclass(frozen=True)
class Read:
    """A frame that was read before its directory went."""

    manifest: FrameManifest
    train: list[dict[str, Any]]
    eval: list[dict[str, Any]]


def prepared(rows: Table, fraction: str) -> Read:
    with tempfile.TemporaryDirectory() as folder:
        frame = Preparer(Path(folder)).content("a.jsonl", jsonl_text(rows), eval_fraction=fraction)
        return Read(frame.manifest, frame.train, frame.eval)


def test_equal_content_has_an_equal_digest_whatever_its_format(preparer: Preparer, tmp_path: Path) -> None:
    rows = plain(50)
    write_parquet(tmp_path / "a.parquet", rows)
    write_sqlite(tmp_path / "a.db", rows)
    frames = [
        preparer.content("a.csv", csv_text(rows), eval_fraction="0.2"),
        preparer.content("a.jsonl", jsonl_text(rows), eval_fraction="0.2"),
        preparer.frame(tmp_path / "a.parquet", eval_fraction="0.20"),
        preparer.frame(tmp_path / "a.db", query="SELECT * FROM asked", eval_fraction="2e-1"),
    ]
    assert len({frame.manifest.digest for frame in frames}) == 1
    assert len({frame.folder for frame in frames}) == 1
    assert frames[0].manifest.eval_rows > 0


@pytest.mark.parametrize(
    "other",
    [
        [*requests(30)[1:], requests(30)[0]],  # order
        requests(29),  # rows
        [{**row, "level": str(row["level"])} for row in requests(30)],  # types
        [dict(reversed(row.items())) for row in requests(30)],  # order of columns
        [{**row, "question": f"{row['question']} "} for row in requests(30)],  # values
    ],
)
def test_other_content_has_another_digest(other: Table) -> None:
    assert prepared(other, "0.1").manifest.digest != prepared(requests(30), "0.1").manifest.digest


def test_another_fraction_has_another_digest() -> None:
    assert prepared(requests(30), "0.1").manifest.digest != prepared(requests(30), "0.11").manifest.digest


def test_the_name_is_the_beginning_of_the_digest() -> None:
    manifest = prepared(requests(30), "0.1").manifest
    assert manifest.name == f"df-{manifest.digest.removeprefix('sha256:')[:12]}"


def test_the_digest_of_a_known_table_never_changes() -> None:
    assert prepared(requests(30), "0.1").manifest.digest == KNOWN_DIGEST


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
ROWS = st.lists(
    st.fixed_dictionaries({"a": st.integers(0, 10**6), "b": TEXT}),
    min_size=1,
    max_size=40,
)


def counted(rows: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(sorted(row.items())) for row in rows)


@EXAMPLES
@given(rows=ROWS, fraction=st.sampled_from(["0", "0.05", "0.5", "0.99", "1e-9"]))
def test_every_row_is_on_one_side_and_both_sides_have_what_they_need(rows: list[dict[str, Any]], fraction: str) -> None:
    frame = prepared(rows, fraction)
    assert counted(frame.train) + counted(frame.eval) == counted(rows)
    assert (len(frame.train), len(frame.eval)) == (frame.manifest.rows, frame.manifest.eval_rows)
    assert frame.manifest.rows >= 1
    if fraction == "0":
        assert frame.manifest.eval_rows == 0
    elif len(rows) >= 20 and len(counted(rows)) > 1:
        assert frame.manifest.eval_rows >= 1
    assert not counted(frame.train) & counted(frame.eval), "equal rows stay on one side"


@EXAMPLES
@given(rows=ROWS, seed=st.integers())
def test_the_split_depends_on_content_and_not_on_order(rows: list[dict[str, Any]], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert counted(prepared(rows, "0.3").eval) == counted(prepared(shuffled, "0.3").eval)


@EXAMPLES
@given(rows=ROWS)
def test_preparing_twice_gives_the_same_frame(rows: list[dict[str, Any]]) -> None:
    assert prepared(rows, "0.3").manifest == prepared(rows, "0.3").manifest


def test_a_row_stays_on_its_side_when_others_come() -> None:
    few, many = prepared(requests(100), "0.2"), prepared(requests(300), "0.2")
    assert {row["question"] for row in few.eval} < {row["question"] for row in many.eval}


def test_the_split_does_not_depend_on_the_order_of_columns() -> None:
    turned = [dict(reversed(row.items())) for row in requests(100)]
    questions = [{row["question"] for row in prepared(rows, "0.2").eval} for rows in (requests(100), turned)]
    assert questions[0] == questions[1]


def test_about_the_fraction_is_held_back() -> None:
    assert 60 <= prepared(requests(1000), "0.08").manifest.eval_rows <= 100


@pytest.mark.parametrize("text", ["2", "1", "-0.1", "NaN", "Infinity", "much", ""])
def test_a_fraction_outside_its_range_is_an_error_that_names_the_field(text: str) -> None:
    with pytest.raises(DataError, match=r"spec\.dataset\.evalFraction") as caught:
        parse_fraction(text)
    assert caught.value.reason is Reason.BAD_CONFIGURATION


@pytest.mark.parametrize(("text", "value"), [("0", "0"), ("0.050", "0.05"), ("5e-2", "0.05"), ("0e5", "0")])
def test_a_fraction_has_one_form(text: str, value: str) -> None:
    assert f"{parse_fraction(text):f}" == f"{Decimal(value):f}"


def test_the_profile_says_what_the_columns_hold(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", jsonl_text(requests(10)), info={"season": "winter"})
    columns = {column.name: column for column in frame.manifest.columns}
    assert (columns["room"].min, columns["room"].max, columns["room"].distinct) == ("0", "9", 10)
    assert (columns["level"].min, columns["level"].max) == ("0.0", "1.125")
    assert (columns["urgent"].min, columns["urgent"].max, columns["urgent"].distinct) == ("false", "true", 2)
    assert (columns["note"].nulls, columns["note"].distinct, columns["note"].max_length) == (5, 5, 6)
    assert columns["question"].max_length == len("turn on lamp 0")
    assert columns["room"].max_length is None
    assert frame.manifest.info == {"season": "winter"}


def test_distinct_values_are_counted_up_to_a_thousand(preparer: Preparer) -> None:
    rows = [{"many": number, "few": number % 1000} for number in range(1001)]
    many, few = preparer.content("a.jsonl", jsonl_text(rows)).manifest.columns
    assert (many.distinct, few.distinct) == (None, 1000)


def test_at_most_max_rows_are_read(preparer: Preparer) -> None:
    content = "a,b\n1,2\n3\n4,5\n6,7\n"
    frame = preparer.content("a.csv", content, max_rows=3)
    assert (frame.manifest.read_rows, frame.manifest.rows, frame.rejected) == (3, 2, {"RaggedRow": 1})


def test_rows_of_many_blocks_keep_their_order(preparer: Preparer) -> None:
    rows = [{"number": number, "text": f"{number} " * 500} for number in range(4000)]
    frame = preparer.content("a.jsonl", jsonl_text(rows))
    assert [row["number"] for row in frame.train] == list(range(4000))
