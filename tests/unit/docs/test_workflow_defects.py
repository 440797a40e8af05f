"""docs/workflow-defects.md: every test that it names exists, and no fault of training by plugins is left out."""

from __future__ import annotations

import re

import pytest

from docs_text import REPOSITORY, codes, problem_of_test, prose, rows

PAGE = REPOSITORY / "docs" / "workflow-defects.md"
TABLE = rows(PAGE, heading="fault", columns=4)
NAMED = sorted({(row[0], code) for row in TABLE for code in codes(row[3])})


@pytest.mark.parametrize(("fault", "test"), NAMED, ids=lambda value: str(value).rpartition("::")[2])
def test_a_test_that_is_named_exists(fault: str, test: str) -> None:
    problem = problem_of_test(test)
    assert problem is None, f"{fault}: {problem}"


def test_every_fault_has_a_test() -> None:
    assert TABLE
    assert all(row[0] and row[1] and row[2] and codes(row[3]) for row in TABLE)


def test_no_fault_of_training_by_plugins_is_left_out_or_told_twice() -> None:
    told = [row[0] for row in TABLE]
    without = re.findall(r"PC-\d+", prose(PAGE).partition("No counterpart")[2].partition("##")[0])
    assert sorted([name for name in told if name.startswith("PC-")] + without) == sorted(
        f"PC-{number}" for number in range(1, 31)
    )
    assert len(set(told)) == len(told)


def test_a_test_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="has no test_of_nothing"):
        test_a_test_that_is_named_exists("PC-0", "tests/unit/test_layout.py::test_of_nothing")
