"""Frames that are no prompts and responses: numbers, categories, missing values; the table is the example's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.frame.manifest import MAX_BYTES, fit, manifest_bytes
from chorus_dataset.frame.profile import FEW_VALUES, MAX_CATEGORIES
from chorus_protocol.messages import ColumnProfile
from dataset_builders import Frame, Preparer

PENGUINS = Path(__file__).parents[3] / "examples" / "data" / "penguins" / "penguins.csv"


def column(frame: Frame, name: str) -> ColumnProfile:
    return next(each for each in frame.manifest.columns if each.name == name)


def counts(frame: Frame, name: str) -> dict[str, int] | None:
    categories = column(frame, name).categories
    return None if categories is None else {each.value: each.count for each in categories}


@pytest.fixture
def penguins(preparer: Preparer) -> Frame:
    return preparer.frame(PENGUINS, missing_values=["NA", ""])


def test_columns_of_measures_are_numbers_whose_missing_values_are_missing(penguins: Frame) -> None:
    assert penguins.types == {
        "species": "string", "island": "string", "bill_length_mm": "number", "bill_depth_mm": "number",
        "flipper_length_mm": "integer", "body_mass_g": "integer", "sex": "string", "year": "integer",
    }  # fmt: skip
    assert penguins.manifest.rows == 283
    assert [column(penguins, name).nulls for name in ("sex", "body_mass_g", "species")] == [10, 2, 0]


def test_categories_are_counted_and_missing_values_are_none_of_them(penguins: Frame) -> None:
    found = counts(penguins, "sex")
    assert found is not None
    assert sorted(found) == ["female", "male"]
    assert sum(found.values()) == 273
    assert next(iter(counts(penguins, "species") or ())) == "Adelie"
    assert set(counts(penguins, "year") or ()) == {"2007", "2008", "2009"}
    assert column(penguins, "species").distinct == 3


def test_measures_have_a_range_and_a_mean(penguins: Frame) -> None:
    mass = column(penguins, "body_mass_g")
    weights = [row["body_mass_g"] for row in penguins.train if row["body_mass_g"] is not None]
    assert mass.mean == pytest.approx(sum(weights) / len(weights))
    assert (mass.min, mass.max) == (str(min(weights)), str(max(weights)))
    assert column(penguins, "bill_length_mm").categories is None
    assert column(penguins, "species").mean is None


def test_names_with_blanks_brackets_and_slashes_are_kept(preparer: Preparer) -> None:
    header = "Sample Number,Culmen Length (mm),Delta 15 N (o/oo),a.b,Name [x]"
    frame = preparer.content("a.csv", f'{header}\n1,39.5,8.9,x,"Adult, 1 Egg"\n2,NA,NA,y,z\n')
    assert list(frame.types) == header.split(",")
    assert frame.train[0]["Delta 15 N (o/oo)"] == 8.9
    assert frame.train[1]["Culmen Length (mm)"] is None


@pytest.mark.parametrize(
    ("missing", "values", "kind"),
    [
        (None, [1, None, None, 4], "integer"),
        (["NA"], ["1", None, "-", ""], "string"),
        (["-", "", "NA"], [1, None, None, None], "integer"),
    ],
)
def test_missing_values_are_those_that_the_project_names(
    preparer: Preparer, missing: list[str] | None, values: list[Any], kind: str
) -> None:
    third, fourth = ("", "4") if missing is None else ("-", "")
    text = f"a,b\n1,x\nNA,x\n{third},x\n{fourth},x\n"
    frame = preparer.content("a.csv", text, missing_values=missing)
    assert frame.types["a"] == kind
    assert [row["a"] for row in frame.train] == values


def test_missing_values_hold_for_texts_of_json_lines_too(preparer: Preparer) -> None:
    text = '{"a": "NA", "b": 1}\n{"a": "x", "b": 2}\n'
    frame = preparer.content("a.jsonl", text, missing_values=["NA"])
    assert [row["a"] for row in frame.train] == [None, "x"]
    assert [row["a"] for row in preparer.content("a.jsonl", text).train] == ["NA", "x"]


def test_missing_values_of_a_format_that_has_its_own_are_refused(preparer: Preparer) -> None:
    path = preparer.file("a.parquet", b"PAR1")
    error = preparer.error(path, missing_values=["NA"])
    assert error.reason is Reason.BAD_CONFIGURATION
    assert "spec.dataset.missingValues" in error.message


def test_only_the_most_frequent_of_few_values_are_shown(preparer: Preparer) -> None:
    rows = [f"v{number % 30},w{number % (FEW_VALUES + 1)}" for number in range(300)] + ["v7,w7"]
    frame = preparer.content("a.csv", "few,many\n" + "\n".join(rows) + "\n")
    found = counts(frame, "few")
    assert found is not None
    assert len(found) == MAX_CATEGORIES
    assert next(iter(found.items())) == ("v7", 11)
    assert column(frame, "few").distinct == 30
    assert counts(frame, "many") is None


def test_the_profile_of_many_categories_fits_into_a_message(preparer: Preparer) -> None:
    names = [f"column {number}" for number in range(300)]
    rows = [",".join(f"{'ü' * 55}{row * 7 + place}" for place in range(300)) for row in range(20)]
    frame = preparer.content("a.csv", ",".join(names) + "\n" + "\n".join(rows) + "\n")
    assert manifest_bytes(frame.manifest) <= MAX_BYTES
    assert len(frame.manifest.columns) == 300
    assert fit(frame.manifest) == frame.manifest
