"""The patterns of the models' texts, as pydantic checks them (the API server's check is tested against it)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from chorus_api.base import DecimalText, Label20, ObjectName, Quantity
from chorus_api.project import RelativePath

decimals: TypeAdapter[str] = TypeAdapter(DecimalText)


@given(st.decimals(min_value=0, max_value=10**9, places=6, allow_nan=False, allow_infinity=False))
def test_a_plain_decimal_is_taken(value: object) -> None:
    assert decimals.validate_python(f"{value:f}") == f"{value:f}"


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or 1e-99 < x < 1e99))
def test_a_float_as_python_writes_it_is_taken(value: float) -> None:
    assert float(decimals.validate_python(repr(value))) == value


@given(st.text(max_size=32))
def test_whatever_is_taken_is_a_finite_number(text: str) -> None:
    try:
        taken = decimals.validate_python(text)
    except ValidationError:
        return
    assert 0 <= float(taken) < float("inf")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Label20, ["a", "a-1", "x" * 20], ["", "A", "-a", "a-", "a.b", "x" * 21, "a\n"]),
        (ObjectName, ["a", "a.b-c", "0"], ["", "a..b", ".a", "a_b", "A"]),
        (Quantity, ["1", "500m", "1.5Gi"], ["", "-1", "1 Gi", "1gi", "one"]),
        (RelativePath, ["a", "a/b.csv", ".hidden"], ["", "/a"]),
    ],
)
def test_names_quantities_and_paths(kind: Any, good: list[str], bad: list[str]) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    for text in good:
        assert adapter.validate_python(text) == text
    for text in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)
