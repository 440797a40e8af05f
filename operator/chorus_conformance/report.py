"""Results as text for people and as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from chorus_conformance.rule import Failed, Passed, Result, Skipped, Verdict

_INDENT = " " * 6
_LABEL = 10


def word(verdict: Verdict) -> str:
    """One word for a verdict."""
    match verdict:
        case Passed():
            return "pass"
        case Failed():
            return "FAIL"
        case Skipped():
            return "skip"


def counts(results: Sequence[Result]) -> dict[str, int]:
    """How many rules ended how."""
    words = [word(each.verdict) for each in results]
    return {"passed": words.count("pass"), "failed": words.count("FAIL"), "skipped": words.count("skip")}


def as_text(results: Sequence[Result], *, target: str) -> str:
    """One line a rule, what to do below those that are broken, and the counts."""
    lines = [target]
    for result in results:
        lines += _lines(result)
    total = counts(results)
    lines.append(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return "\n".join(lines) + "\n"


def _lines(result: Result) -> list[str]:
    rule, verdict = result.rule, result.verdict
    why = f" ({verdict.why})" if isinstance(verdict, Skipped) else ""
    head = f"{rule.id}  {word(verdict)}  {rule.title}{why}"
    if not isinstance(verdict, Failed):
        return [head]
    rows = (("seen", verdict.seen), ("expected", rule.expected), ("mend", rule.mend), ("more", rule.more))
    return [head, *(line for label, text in rows for line in _paragraph(label, text))]


def _paragraph(label: str, text: str) -> list[str]:
    """Write a label and its text, later lines below the first one's text."""
    first, *rest = text.splitlines() or [""]
    start = f"{_INDENT}{label + ':':<{_LABEL}}"
    below = " " * len(start)
    wrapped = textwrap.wrap(first, 110, initial_indent=start, subsequent_indent=below) or [start]
    return [*wrapped, *(below + line[:300] for line in rest)]


def as_json(results: Sequence[Result], *, target: str) -> str:
    """The same for programs."""
    document = {"version": 1, "target": target, **counts(results), "rules": [_entry(each) for each in results]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _entry(result: Result) -> dict[str, Any]:
    rule, verdict = result.rule, result.verdict
    entry: dict[str, Any] = {"id": rule.id, "title": rule.title, "result": word(verdict).lower()}
    if isinstance(verdict, Failed):
        entry |= {"seen": verdict.seen, "expected": rule.expected, "mend": rule.mend, "more": rule.more}
    if isinstance(verdict, Skipped):
        entry["why"] = verdict.why
    return entry
