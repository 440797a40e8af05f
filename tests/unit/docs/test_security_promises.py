"""docs/security.md: each promise names the test that holds it, and that test is there and is not skipped."""

from __future__ import annotations

import pytest

from docs_text import REPOSITORY, codes, problem_of_test, rows

PAGE = REPOSITORY / "docs" / "security.md"
TABLE = rows(PAGE, heading="promise", columns=2)
NAMED = sorted({(row[0], code) for row in TABLE for code in codes(row[1])})


@pytest.mark.parametrize(("promise", "test"), NAMED, ids=lambda value: str(value).rpartition("::")[2])
def test_the_test_that_holds_a_promise_exists(promise: str, test: str) -> None:
    problem = problem_of_test(test)
    assert problem is None, f"{promise}: {problem}"


def test_every_promise_names_a_test() -> None:
    assert TABLE
    assert [row[0] for row in TABLE if not codes(row[1])] == []


def test_no_promise_is_made_twice() -> None:
    promises = [row[0] for row in TABLE]
    assert sorted(promises) == sorted(set(promises))


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("tests/unit/test_of_nothing.py::test_nothing", "there is no tests/unit/test_of_nothing.py"),
        ("tests/unit/test_layout.py::test_of_nothing", "has no test_of_nothing"),
        (
            "tests/api/test_operator_killed.py::test_killed_fifty_times_while_twenty_runs_go_through_the_operator_loses_nothing",
            "is marked pytest.mark.chaos",
        ),
    ],
)
def test_a_promise_without_its_test_is_found(reference: str, problem: str) -> None:
    assert problem in str(problem_of_test(reference))
