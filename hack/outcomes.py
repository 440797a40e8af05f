"""Write the table of failures in docs/troubleshooting.md: the operator's own table from what is seen to what is said.

    PYTHONPATH=operator python hack/outcomes.py

The rows come from chorus_operator.decisions.outcome and the plugin types. A test compares the page with what this
writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from chorus_operator.decisions.outcome.model import Outcome, Row
from chorus_operator.decisions.outcome.publication import NO_RESULT, PODS_LEFT
from chorus_operator.decisions.outcome.table import rows_with
from chorus_operator.plugin_types.registry import PLUGIN_TYPES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "troubleshooting.md"
BEGIN = "<!-- the table of failures: make generate -->"
END = "<!-- end of the table of failures -->"
HEADS = ("what happened", "is said as", "class", "who acts", "hint")
PUBLICATION = (
    Row("Pods of the run do not end, so nothing is published", (PODS_LEFT,), lambda seen: None),
    Row("The publish Job ended without a result", (NO_RESULT,), lambda seen: None),
)


def all_rows() -> Sequence[Row]:
    """Give the rows of every type, each once, in the order in which they are asked."""
    own = [row for each in PLUGIN_TYPES.values() for row in each.rows]
    return (*rows_with(own), *PUBLICATION)


def table() -> str:
    """Render the rows; a fault that may be said in several ways has a line for each."""
    lines = [_line(HEADS), _line(["---"] * len(HEADS))]
    for row in all_rows():
        lines += [_line(cells) for cells in _cells(row)]
    return "\n".join(lines)


def _cells(row: Row) -> Iterator[Sequence[str]]:
    seen: set[tuple[str, str]] = set()
    for outcome in row.outcomes:
        if (key := (outcome.reason.value, outcome.hint)) in seen:
            continue
        seen.add(key)
        fault = row.fault if len(row.outcomes) == 1 or not outcome.message else f"{row.fault}: {outcome.message}"
        yield fault, f"`{outcome.reason.value}`", _class(outcome), outcome.actor.value, outcome.hint or "-"


def _class(outcome: Outcome) -> str:
    if outcome.not_applicable:
        return "none: the run is `notApplicable`"
    return f"{outcome.failure_class.value}{', not tried again' if outcome.final else ''}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_table(text: str) -> str:
    """`text` of the page with the table as it is now. Raises ValueError when its two marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/troubleshooting.md: the marks {BEGIN} and {END} are missing: put them around the table")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
