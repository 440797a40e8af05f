from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.jsonl_file import JsonlReader
from dataset_builders import PROMPT_AND_RESPONSE, Preparer, jsonl_text, requests


def test_the_rows_of_a_written_table_come_back_with_their_types(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", jsonl_text(requests(10)))
    assert frame.train == requests(10)
    assert frame.types["level"] == "number"


def test_broken_lines_are_counted_and_not_fatal(preparer: Preparer) -> None:
    lines = ['{"a": 1}', '{"a": ', "[1]", '"text"', '{"a": NaN}', "", '{"a": 2}', '{"a": "\\ud800"}', "\xff{}"]
    frame = preparer.content("a.jsonl", "\n".join(lines).encode("latin-1"))
    assert frame.train == [{"a": 1}, {"a": 2}]
    assert frame.rejected == {"BrokenJson": 2, "InvalidUtf8": 2, "NotAnObject": 2}
    assert "line 2: Expecting value at character 6" in frame.examples
    assert "line 5: NaN is not JSON" in frame.examples
    assert "line 9: byte 0xff is not UTF-8 text" in frame.examples


def test_nested_values_are_kept_as_json_text(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", '{"a": [{"b": "ü"}, 2], "c": {"d": null}}\n')
    assert frame.train == [{"a": '[{"b": "ü"}, 2]', "c": '{"d": null}'}]


def test_columns_are_the_members_of_all_objects(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", '{"a": 1}\n{"b": "x", "a": 2}\n{"c": true}\n')
    assert frame.train == [
        {"a": 1, "b": None, "c": None},
        {"a": 2, "b": "x", "c": None},
        {"a": None, "b": None, "c": True},
    ]


def test_a_column_of_several_types_becomes_text(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", '{"a": 1}\n{"a": "x"}\n{"a": true}\n{"a": 1.0}\n')
    assert [row["a"] for row in frame.train] == ["1", "x", "true", "1.0"]


def test_whole_numbers_above_64_bits_become_text(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", f'{{"a": {2**64}}}\n{{"a": 1}}\n')
    assert [row["a"] for row in frame.train] == [str(2**64), "1"]


def test_a_nested_prompt_is_missing_where_the_member_is(preparer: Preparer) -> None:
    frame = preparer.content(
        "a.jsonl", '{"question": "a", "answer": "b"}\n{"question": "a"}\n', fields=PROMPT_AND_RESPONSE
    )
    assert frame.rejected == {"MissingResponse": 1}
    assert frame.examples == ["line 2: answer is missing"]


def test_a_column_that_no_object_has_is_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.jsonl", '{"Question": "a"}\n'), fields=PROMPT_AND_RESPONSE)
    assert error.reason is Reason.COLUMN_NOT_FOUND
    assert "spec.dataset.fields.prompt.column" in error.message
    assert error.hint == "did you mean 'Question'?"


def test_one_json_list_over_several_lines_is_an_error_with_a_hint(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.jsonl", '[\n{"a": 1}\n]\n'))
    assert error.reason is Reason.FORMAT_INVALID
    assert "jq" in error.hint


def test_more_than_500_columns_are_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.jsonl", json.dumps({f"c{n}": 1 for n in range(501)})))
    assert "more than 500 columns" in error.message


def test_deep_nesting_costs_one_row(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", '{"a": ' + "[" * 100_000 + "\n" + '{"a": 1}\n')
    assert frame.rejected == {"BrokenJson": 1}


def test_a_name_that_no_column_can_have_is_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.jsonl", json.dumps({"x" * 254: 1})))
    assert error.reason is Reason.FORMAT_INVALID
    assert "column 1 has no usable name" in error.message


EXAMPLES = settings(deadline=None, max_examples=50)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
)
NAMES = st.text("abcdefg", min_size=1, max_size=3)


@EXAMPLES
@given(rows=st.lists(st.dictionaries(NAMES, SCALAR, min_size=1), min_size=1), ascii_only=st.booleans())
def test_what_json_writes_is_read_again(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), newline="")
        with JsonlReader(path, where="a.jsonl") as reader:
            read = [row for _, row in reader.rows()]
            columns = reader.columns
    for written, row in zip(rows, read, strict=True):
        assert isinstance(row, list)
        assert {name: row[columns.index(name)] for name in written} == written


@EXAMPLES
@given(content=st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise_than_with_a_data_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        preparer = Preparer(Path(folder))
        try:
            frame = preparer.content("a.jsonl", b'{"a": 1}\n' + content)
        except DataError:
            return
        assert frame.manifest.rows + sum(frame.rejected.values()) == frame.manifest.read_rows


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(preparer: Preparer, encoding: str) -> None:
    assert preparer.content("a.jsonl", '{"a": "ü"}\r\n'.encode(encoding)).train == [{"a": "ü"}]
