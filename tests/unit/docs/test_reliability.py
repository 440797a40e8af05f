"""docs/reliability.md: each fault names the test that shows it, and that test is there."""

from __future__ import annotations

import pytest

from docs_text import REPOSITORY, codes, problem_of_test, rows

TABLE = rows(REPOSITORY / "docs" / "reliability.md", heading="fault", columns=4)
NAMED = sorted({(row[0], code) for row in TABLE for code in codes(row[3])})


@pytest.mark.parametrize(("fault", "test"), NAMED, ids=lambda value: str(value).rpartition("::")[2])
def test_a_test_that_is_named_exists(fault: str, test: str) -> None:
    problem = problem_of_test(test)
    assert problem is None, f"{fault}: {problem}"


def test_every_fault_has_a_test() -> None:
    assert TABLE
    assert all(row[0] and row[1] and codes(row[3]) for row in TABLE)
