"""Conditions: the facts that phases are derived from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType

Status = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024


def find(conditions: Sequence[Condition], name: str) -> Condition | None:
    """Look a condition up by its type."""
    return next((condition for condition in conditions if condition.type == name), None)


def is_true(conditions: Sequence[Condition], name: str) -> bool:
    """Tell whether a condition is there and True."""
    condition = find(conditions, name)
    return condition is not None and condition.status == "True"


class Conditions:
    """The conditions of one object while a decision is being made.

    A condition keeps its transition time until its status changes. Reconciled=False is forgotten: it is there while
    reconciles fail, and a decision that is written ends that.
    """

    def __init__(self, conditions: Sequence[Condition], *, generation: int, now: datetime) -> None:
        self._conditions = {each.type: each for each in conditions if each.type != ConditionType.RECONCILED}
        self._read = dict(self._conditions)
        self._generation = generation
        self._now = now

    def set(self, name: str, status: Status | bool, reason: str, message: str = "") -> None:
        """Write a condition down."""
        text: Status = status if isinstance(status, str) else "True" if status else "False"
        # As it was read: what is set and set back in one decision has not changed.
        before = self._read.get(name)
        same = before is not None and before.status == text
        self._conditions[name] = Condition(
            type=str(name),
            status=text,
            reason=reason,
            message=message[:MESSAGE_LIMIT],
            last_transition_time=before.last_transition_time if before is not None and same else self._now,
            observed_generation=self._generation,
        )

    def drop(self, name: str) -> None:
        """Forget a condition that says nothing any more."""
        self._conditions.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop a condition, and since when it was so: what is set from now on is about something else."""
        self._conditions.pop(name, None)
        self._read.pop(name, None)

    def get(self, name: str) -> Condition | None:
        """Look a condition up by its type."""
        return self._conditions.get(name)

    def is_true(self, name: str) -> bool:
        """Tell whether a condition is there and True."""
        condition = self._conditions.get(name)
        return condition is not None and condition.status == "True"

    def all(self) -> list[Condition]:
        """Give all, in a fixed order."""
        return [self._conditions[name] for name in sorted(self._conditions)]
