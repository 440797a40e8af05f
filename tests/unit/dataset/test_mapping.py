from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.project import BestElement
from chorus_api.reasons import Reason
from chorus_dataset.frame.mapping import best_element
from dataset_builders import BEST, PROMPT_AND_RESPONSE, Preparer, jsonl_text

EXAMPLES = settings(deadline=None, max_examples=50)
HIGHEST = BestElement(by="confidence", take="description")


def rows_with(*answers: Any) -> str:
    return jsonl_text([{"question": "q", "answer": answer} for answer in answers])


def suggestion(description: Any, confidence: Any) -> dict[str, Any]:
    return {"description": description, "confidence": confidence}


def test_prompt_and_response_are_added_to_the_columns_of_the_source(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", "id,question,answer\n1,how?,so\n", fields=PROMPT_AND_RESPONSE)
    assert frame.train == [{"id": 1, "question": "how?", "answer": "so", "prompt": "how?", "response": "so"}]


def test_the_best_element_is_the_one_with_the_highest_number(preparer: Preparer) -> None:
    frame = preparer.content(
        "a.jsonl",
        rows_with([suggestion("worse", 0.5), suggestion("best", 0.9), suggestion("bad", -1)]),
        fields=BEST,
    )
    assert frame.train[0]["response"] == "best"


def test_of_equals_the_first_is_taken() -> None:
    elements = [suggestion("low", 1), suggestion("first", 2), suggestion("second", 2.0)]
    assert best_element(json.dumps(elements), column="answer", best=HIGHEST) == "first"


def test_elements_without_a_number_are_passed_over() -> None:
    elements = [suggestion("text", "9"), suggestion("true", True), suggestion("null", None), 5, suggestion("number", 1)]
    assert best_element(json.dumps(elements), column="answer", best=HIGHEST) == "number"


def test_a_number_that_is_taken_becomes_text() -> None:
    assert best_element('[{"description": 5, "confidence": 1}]', column="answer", best=HIGHEST) == "5"


def test_every_kind_of_unusable_row_is_counted_with_its_cause(preparer: Preparer) -> None:
    good = [suggestion("good", 1)]
    frame = preparer.content(
        "a.jsonl",
        rows_with(
            good,
            "[{",
            [],
            "{}",
            [suggestion("x", "high")],
            [suggestion(None, 1)],
            [suggestion(" \n", 1)],
            None,
            [suggestion("a\0b", 1)],
        )
        + jsonl_text([{"question": "  ", "answer": good}, {"question": None, "answer": good}]),
        fields=BEST,
    )
    assert frame.manifest.rows == 1
    assert frame.manifest.read_rows == 11
    assert frame.rejected == {
        "BlankPrompt": 1,
        "BlankResponse": 1,
        "BrokenJson": 1,
        "EmptyList": 1,
        "MissingPrompt": 1,
        "MissingResponse": 2,
        "NoBestElement": 1,
        "NotAList": 1,
        "NulByte": 1,
    }
    assert "line 2: answer: Expecting property name enclosed in double quotes at character 3" in frame.examples
    assert "line 9: response holds a NUL byte" in frame.examples


def test_only_the_first_five_examples_of_a_reason_are_kept(preparer: Preparer) -> None:
    frame = preparer.content("a.jsonl", rows_with("good", *[None] * 9), fields=PROMPT_AND_RESPONSE)
    assert frame.rejected == {"MissingResponse": 9}
    assert frame.examples == [f"line {number}: answer is missing" for number in range(2, 7)]


def test_when_no_row_can_be_used_the_error_counts_the_causes(preparer: Preparer) -> None:
    path = preparer.file("a.jsonl", rows_with(None, None, " "))
    error = preparer.error(path, fields=PROMPT_AND_RESPONSE)
    assert error.reason is Reason.ALL_ROWS_REJECTED
    assert "none of 3 rows of a.jsonl can be used" in error.message
    assert "2 MissingResponse (line 1: answer is missing); 1 BlankResponse (line 3:" in error.message


@pytest.mark.parametrize(
    ("fields", "field", "hint"),
    [
        ({"prompt": {"column": "Question"}}, "prompt", "did you mean 'question'?"),
        ({"response": {"column": "reply"}}, "response", "use one of these columns"),
    ],
)
def test_a_missing_column_is_named_with_its_field(
    preparer: Preparer, fields: dict[str, Any], field: str, hint: str
) -> None:
    error = preparer.error(preparer.file("a.csv", "question,answer\na,b\n"), fields=fields)
    assert error.reason is Reason.COLUMN_NOT_FOUND
    assert f"spec.dataset.fields.{field}.column: a.csv has no column" in error.message
    assert "it has: question, answer" in error.message
    assert hint in error.hint


def test_a_mapped_column_takes_the_place_of_one_with_its_name(preparer: Preparer) -> None:
    fields = {"prompt": {"column": "question"}, "response": {"column": "response"}}
    frame = preparer.content("a.csv", "prompt,question,response\nold,new,5\n", fields=fields)
    assert frame.train == [{"question": "new", "prompt": "new", "response": "5"}]
    assert frame.types["response"] == "string", "a prompt or response is text even if it looks like a number"


def test_a_prompt_alone_is_mapped_alone(preparer: Preparer) -> None:
    frame = preparer.content("a.csv", "question\nhow?\n", fields={"prompt": {"column": "question"}})
    assert frame.train == [{"question": "how?", "prompt": "how?"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["confidence", "description"]), inner),
    max_leaves=10,
)


@EXAMPLES
@given(value=JSON)
def test_any_json_gives_a_text_or_a_cause(value: Any) -> None:
    best_element(json.dumps(value), column="answer", best=HIGHEST)


@EXAMPLES
@given(ratings=st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_the_choice_is_that_of_a_plain_search(ratings: list[int]) -> None:
    elements = [suggestion(str(position), rating) for position, rating in enumerate(ratings)]
    expected = str(ratings.index(max(ratings)))
    assert best_element(json.dumps(elements), column="answer", best=HIGHEST) == expected
