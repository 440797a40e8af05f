"""Count the rows that cannot be used, by reason, and keep the first few of each as examples."""

from __future__ import annotations

from typing import NamedTuple

from chorus_client.masking import mask
from chorus_protocol.messages import RejectedRows

EXAMPLES = 5
MAX_CAUSE = 160


class Reject(NamedTuple):
    """Why one row cannot be used: one word, and the cause for people (which never quotes the data)."""

    reason: str
    cause: str


class Rejects:
    """The rows that cannot be used."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, where: str, reject: Reject) -> None:
        """Count one row; `where` names it, such as `row 17`."""
        self._counts[reject.reason] = self._counts.get(reject.reason, 0) + 1
        examples = self._examples.setdefault(reject.reason, [])
        if len(examples) < EXAMPLES:
            cause = mask(reject.cause.encode("utf-8", "replace").decode())
            examples.append(f"{where}: {cause}"[:MAX_CAUSE])

    @property
    def total(self) -> int:
        """Rows that cannot be used."""
        return sum(self._counts.values())

    def report(self) -> list[RejectedRows]:
        """Give the reasons, the most frequent first."""
        order = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [RejectedRows(reason=reason, count=count, examples=self._examples[reason]) for reason, count in order]

    def summary(self) -> str:
        """Write counts and the first example of each reason for an error message."""
        return "; ".join(f"{each.count} {each.reason} ({each.examples[0]})" for each in self.report())
