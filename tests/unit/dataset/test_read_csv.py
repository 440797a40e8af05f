from __future__ import annotations

import codecs
import csv
import io
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.csv_file import CsvReader
from chorus_dataset.readers.text_file import MAX_LINE
from dataset_builders import PROMPT_AND_RESPONSE, Preparer, csv_text, requests

EXAMPLES = settings(deadline=None, max_examples=50)
QA = "question,answer\nhow?,so\nwhy?,because\n"


def test_a_byte_order_mark_is_no_part_of_the_first_name(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", codecs.BOM_UTF8 + QA.encode())
    assert list(frame.types) == ["question", "answer"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(preparer: Preparer, end: str) -> None:
    frame = preparer.content("a.csv", QA.replace("\n", end))
    assert frame.train == [{"question": "how?", "answer": "so"}, {"question": "why?", "answer": "because"}]


def test_quoted_fields_keep_line_breaks_quotes_and_commas(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", 'question,answer\n"one\r\ntwo","a ""b"", c"\n')
    assert frame.train == [{"question": "one\r\ntwo", "answer": 'a "b", c'}]


def test_ragged_rows_are_counted_with_their_rows_and_lines(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", 'question,answer\n"a\nb",c\nonly one\n1,2,3\nd,e\n')
    assert frame.manifest.rows == 2
    assert frame.manifest.read_rows == 4
    assert frame.rejected == {"RaggedRow": 2}
    assert frame.examples == [
        "row 2: 1 fields, the header has 2 (line 4)",
        "row 3: 3 fields, the header has 2 (line 5)",
    ]


def test_double_names_are_an_error_that_names_them(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", "id,text,id,text\n1,2,3,4\n"))
    assert error.reason is Reason.FORMAT_INVALID
    assert "a.csv, header row: more than one column is called id, text" in error.message


def test_a_first_column_without_a_name_gets_one(preparer: Preparer) -> None:
    assert list(preparer.content("a.csv", ",text\n1,a\n").types) == ["column_1", "text"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_told_from_the_header(preparer: Preparer, separator: str) -> None:
    frame = preparer.content("a.csv", f'question{separator}"an,swer"\nhow?{separator}so, so\n')
    assert frame.train == [{"question": "how?", "an,swer": "so, so"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_utf_16_and_32_are_read_by_their_byte_order_marks(preparer: Preparer, encoding: str) -> None:
    frame = preparer.content("a.csv", "question,answer\nwie?,schön 😀\n".encode(encoding))
    assert frame.train == [{"question": "wie?", "answer": "schön 😀"}]


def test_utf_16_without_a_mark_is_an_error_with_a_hint(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", QA.encode("utf-16-le")))
    assert error.reason is Reason.FORMAT_INVALID
    assert "UTF-16 without a byte order mark" in error.message
    assert "UTF-8" in error.hint


def test_broken_utf_16_is_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", QA.encode("utf-16") + b"\x00\xd8"))
    assert error.reason is Reason.FORMAT_INVALID
    assert "not valid utf-16" in error.message


def test_only_the_rows_with_bytes_of_another_encoding_are_lost(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", "question,answer\nhow?,so\nwie?,schön\n".encode("latin-1"))
    assert frame.manifest.rows == 1
    assert frame.rejected == {"InvalidUtf8": 1}
    assert frame.examples == ["row 2: answer byte 0xf6 is not UTF-8 text"]


def test_a_header_of_another_encoding_is_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", "größe\n1\n".encode("latin-1")))
    assert "header row: byte 0xf6 is not UTF-8" in error.message


def test_rows_with_nul_bytes_are_rejected_and_not_repaired(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", "question,answer\nhow?,so\nw\0hy?,because\n")
    assert frame.rejected == {"NulByte": 1}
    assert frame.examples == ["row 2: question holds a NUL byte"]


def test_a_quote_in_the_wrong_place_costs_one_row(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", 'question,answer\n"a"b,c\nd,e\n')
    assert frame.rejected == {"BrokenQuotes": 1}
    assert frame.train == [{"question": "d", "answer": "e"}]


def test_a_quote_that_is_never_closed_is_an_error_that_names_the_line(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", 'question,answer\na,b\n"c,d\ne,f\n'))
    assert error.reason is Reason.FORMAT_INVALID
    assert "row 2 (line 3): a quoted field is never closed" in error.message


def test_long_texts_emoji_and_right_to_left_texts_come_through(preparer: Preparer) -> None:
    rows = [
        {"question": "a" * 100_000, "answer": "שלום עולם"},
        {"question": "👩‍👩‍👧‍👦 كيف", "answer": "x" * 100_000},
    ]
    assert preparer.content("a.csv", csv_text(rows), fields=PROMPT_AND_RESPONSE).train == [
        {**row, "prompt": row["question"], "response": row["answer"]} for row in rows
    ]


def test_a_line_without_end_is_an_error(preparer: Preparer) -> None:
    error = preparer.error(preparer.file("a.csv", "question\n" + "x" * (MAX_LINE + 10)))
    assert "line 2: longer than" in error.message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"PK\x03\x04xl", "Excel"),
        (b"PAR1\x00", "Parquet"),
        (b"SQLite format 3\0", "SQLite"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(preparer: Preparer, content: bytes, what: str) -> None:
    error = preparer.error(preparer.file("a.csv", content))
    assert error.reason is Reason.FORMAT_INVALID
    assert what in error.message


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_rows(preparer: Preparer, content: str) -> None:
    assert preparer.error(preparer.file("a.csv", content)).reason is Reason.NO_ROWS


def test_a_header_alone_has_no_rows(preparer: Preparer) -> None:
    assert preparer.error(preparer.file("a.csv", "question,answer\n")).reason is Reason.NO_ROWS


def test_types_are_told_from_all_values(preparer: Preparer) -> None:
    frame = preparer.content(
        "a.csv",
        "int,big,code,number,mixed,flag,text,na,nothing,place\n"
        "1,9223372036854775807,007,1.5,1,true,a,NA,,NA\n"
        "-2,1,12,-2e3,x,FALSE,,3,,Oslo\n",
    )
    assert frame.types == {
        "int": "integer",
        "big": "integer",
        "code": "string",
        "number": "number",
        "mixed": "string",
        "flag": "boolean",
        "text": "string",
        "na": "integer",
        "nothing": "string",
        "place": "string",
    }
    first, second = frame.train
    assert (first["int"], first["number"], first["flag"], first["na"], first["nothing"]) == (1, 1.5, True, None, None)
    assert (second["code"], second["mixed"], second["text"], second["na"]) == ("12", "x", None, 3)
    assert first["place"] == "NA", "in a column of texts the word is a text"


def test_a_number_that_fits_no_type_stays_text(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", "big,huge,phone\n9223372036854775808,1e999,+4712\n")
    assert set(frame.types.values()) == {"string"}


# Python's writer leaves a lone carriage return without quotes, which no reader can tell from a line end.
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@EXAMPLES
@given(
    rows=st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_what_a_csv_writer_writes_is_read_again(rows: list[list[str]], quoting: int, end: str, mark: bool) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow([f"c{position}" for position in range(len(rows[0]))])
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
        with CsvReader(path, where="a.csv") as reader:
            read = [row for _, row in reader.rows()]
    assert read == [[cell or None for cell in row] for row in rows]


@EXAMPLES
@given(content=st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise_than_with_a_data_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        preparer = Preparer(Path(folder))
        path = preparer.file("a.csv", b"question,answer\n" + content)
        try:
            frame = preparer.frame(path)
        except DataError:
            return
        assert frame.manifest.rows + sum(frame.rejected.values()) == frame.manifest.read_rows


def test_the_rows_of_a_written_table_come_back_with_their_types(preparer: Preparer) -> None:
    assert preparer.content("a.csv", csv_text(requests(10))).train == requests(10)


def test_a_header_of_very_many_columns_of_which_two_are_alike_is_refused_in_no_time(preparer: Preparer) -> None:
    header = ",".join(str(number) for number in range(100_000)) + ",7\n"
    began = time.monotonic()
    error = preparer.error(preparer.file("wide.csv", header))
    assert error.reason is Reason.FORMAT_INVALID
    assert "more than 500 columns" in error.message
    assert time.monotonic() - began < 5
