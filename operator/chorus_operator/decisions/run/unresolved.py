"""A run whose Project, entry or Plugin is not there: it has not come yet, or it was there and is gone.

What has not come is waited for from the run's creation. What is gone is waited for from when the operator noticed:
however long the run was queued, whoever replaces an object has the same time for it.
"""

from __future__ import annotations

from datetime import datetime

from chorus_api.conditions import ConditionType
from chorus_api.phases import Phase
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.conditions import find
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.resolve import Problem
from chorus_operator.decisions.run.state import NOT_FOUND, Draft

REFERENCE_GRACE_SECONDS = 60
QUEUED = " while this run was queued"
IN_TIME = f"within {REFERENCE_GRACE_SECONDS} s"
NEW_RUN = " and make a new run."


def can_be_resumed(run: TrainingRun, *, project: str) -> bool:
    """Tell whether runs of a Project can start from the artefact of a run."""
    status = run.status
    return status.phase == Phase.TRAINED and status.model is not None and run.spec.project_ref.name == project


def found_before(run: TrainingRun) -> bool:
    """Tell whether all that a run names was there once: it was queued, or is blocked because some of it is gone."""
    accepted = find(run.status.conditions, ConditionType.ACCEPTED)
    blocked = find(run.status.conditions, ConditionType.BLOCKED)
    queued = accepted is not None and accepted.reason not in NOT_FOUND
    return queued or run.status.plugin is not None or (blocked is not None and blocked.reason in NOT_FOUND)


def note_found(draft: Draft) -> None:
    """Take note that all that a run names is there."""
    blocked = draft.conditions.get(ConditionType.BLOCKED)
    if blocked is not None and blocked.reason in NOT_FOUND:
        draft.conditions.drop(ConditionType.BLOCKED)
    if draft.view.plugin is not None:
        draft.changes["plugin"] = draft.view.plugin.metadata.name


def unresolved(draft: Draft, problem: Problem) -> Decision[TrainingRunStatus]:
    """Wait for what is missing, or end the run for it."""
    view, conditions = draft.view, draft.conditions
    if conditions.is_true(ConditionType.ACCEPTED):
        draft.fail(problem.reason, _told(problem, view.now, ", after this run was accepted", NEW_RUN))
        return draft.done()
    gone = found_before(view.run)
    since = _noticed(draft, problem) if gone else draft.before.queued_time or view.now
    waited = (view.now - since).total_seconds()
    if not problem.waits or waited >= REFERENCE_GRACE_SECONDS:
        message = _told(problem, since, f"{QUEUED}, and was not there again {IN_TIME}", NEW_RUN)
        draft.fail(problem.reason, message if gone else problem.message)
        return draft.done()
    message = problem.message
    if gone:
        message = _told(problem, since, QUEUED, f" {IN_TIME}, or make a new run later.")
    conditions.set(ConditionType.ACCEPTED, False, problem.reason, message)
    if gone:
        conditions.set(ConditionType.BLOCKED, True, problem.reason, message)
    return draft.done(again=min(10.0, REFERENCE_GRACE_SECONDS - waited))


def _noticed(draft: Draft, problem: Problem) -> datetime:
    """Give the time from which a reference leads nowhere any more: that of the condition Blocked, once it is there."""
    blocked = draft.conditions.get(ConditionType.BLOCKED)
    if blocked is not None and blocked.reason == problem.reason:
        return blocked.last_transition_time
    draft.conditions.forget(ConditionType.BLOCKED)
    return draft.view.now


def _told(problem: Problem, since: datetime, how: str, then: str) -> str:
    """Say what was lost and when, `how` that concerns the run, and what to do; `then` goes on after the remedy."""
    lost = problem.lost
    return f"{lost.what} at {in_words(since)}{how}; {lost.remedy}{then}" if lost is not None else problem.message


def in_words(time: datetime) -> str:
    """Write a time as the API server does."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
