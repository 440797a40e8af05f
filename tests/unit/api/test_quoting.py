"""Numbers and booleans where strings are required, and the other way round."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chorus_api.plugin import EnvVar
from chorus_api.quoting import needs_no_quotes, needs_quotes
from chorus_operator.reconcile.invalid import describe


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, 'must be a string, not a number: write it in quotes ("3")'),
        (0.5, 'must be a string, not a number: write it in quotes ("0.5")'),
        (True, 'must be a string, not a boolean: write it in quotes ("true")'),
    ],
)
def test_a_value_without_quotes_is_shown_with_them(value: float | bool, words: str) -> None:
    assert needs_quotes(value) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "must be an integer, not a string: write it without quotes (3)"),
        ("-3", "must be an integer, not a string: write it without quotes (-3)"),
        ("0.5", None),
        ("\u00b2", None),
        ("many", None),
        ("", None),
    ],
)
def test_a_whole_number_in_quotes_is_shown_without_them(text: str, words: str | None) -> None:
    assert needs_no_quotes(text) == words


def test_an_object_that_cannot_be_read_for_a_number_says_to_write_it_in_quotes() -> None:
    with pytest.raises(ValidationError) as refused:
        EnvVar.model_validate({"name": "WORKERS", "value": 4})
    assert describe(refused.value) == 'value: must be a string, not a number: write it in quotes ("4")'
