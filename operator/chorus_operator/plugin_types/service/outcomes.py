"""Rows of the table that only services have, and what is seen of a service beyond its exchange's pod."""

from __future__ import annotations

from dataclasses import dataclass

from chorus_api.reasons import FailureClass, Reason
from chorus_operator.decisions.outcome.model import Actor, Deadline, Observation, Outcome, Row
from chorus_operator.decisions.outcome.plugin_words import REPORTED, told_by_plugin

PLUGIN_OFFLINE = Outcome(
    FailureClass.USER,
    Reason.PLUGIN_OFFLINE,
    hint="See the Plugin's message: does the service run, and do it and the operator reach each other?",
    final=True,
)
EXCHANGE_ENDED = Outcome(FailureClass.INFRASTRUCTURE, Reason.INTERNAL_ERROR, actor=Actor.NOBODY)


@dataclass(frozen=True, kw_only=True)
class ServiceObservation(Observation):
    """What is seen of a service's attempt."""

    plugin: str = ""
    """The Plugin, while it has never answered an inquiry."""
    undelivered: str = ""
    """Why TRAINING_DATA was not delivered, a sentence; empty once it was."""
    ended_by_itself: str = ""
    """The exchange's Job, when it has ended although nothing told it to."""
    over: bool = False
    """Whether the exchange has been stopped, or is to be: what the service reported decides."""


def _reported(seen: Observation) -> Outcome | None:
    if not isinstance(seen, ServiceObservation) or not seen.over or seen.error is None:
        return None
    return told_by_plugin(REPORTED, seen.error)


def _offline(seen: Observation) -> Outcome | None:
    late = seen.overdue
    if not isinstance(seen, ServiceObservation) or late is None or late.deadline is not Deadline.DATA_REPORT:
        return None
    if not seen.plugin:
        return None
    return PLUGIN_OFFLINE.saying(f"Plugin {seen.plugin!r} has never answered an inquiry.{seen.undelivered}")


def _ended(seen: Observation) -> Outcome | None:
    if not isinstance(seen, ServiceObservation) or not seen.ended_by_itself:
        return None
    return EXCHANGE_ENDED.saying(f"The exchange (Job {seen.ended_by_itself}) ended by itself.")


ROWS = (
    Row("The service reports an error", (REPORTED,), _reported),
    Row("The service has never answered", (PLUGIN_OFFLINE,), _offline),
    Row("The exchange ended by itself", (EXCHANGE_ENDED,), _ended),
)
