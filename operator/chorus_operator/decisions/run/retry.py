"""What follows from a failed attempt: the next one, or the end of the run."""

from __future__ import annotations

from collections.abc import Callable

from chorus_api.conditions import ConditionType
from chorus_api.reasons import FailureClass, Reason
from chorus_api.training_run import Attempts, TrainingRunStatus
from chorus_operator.decisions.conditions import is_true
from chorus_operator.decisions.decision import Decision, StartAttempt
from chorus_operator.decisions.observed import PodView
from chorus_operator.decisions.outcome import Outcome
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.phase import NOT_APPLICABLE
from chorus_operator.decisions.run.state import AcceptedDraft

_NOT_APPLICABLE_REASONS = frozenset(reason.value for reason in NOT_APPLICABLE)


def failed_attempt(
    draft: AcceptedDraft,
    cause: Outcome,
    pod: PodView | None,
    *,
    named: Callable[[Outcome], Outcome] = lambda cause: cause,
) -> Decision[TrainingRunStatus]:
    """Count a failed attempt against its budget: try again, or end the run. `named` words a cause as users know it."""
    view = draft.view
    cause = named(attempt.told_by_plugin(draft, cause))
    failure = attempt.failure_of(cause, pod, view.log_tail)
    if cause.not_applicable:
        draft.conditions.set(ConditionType.APPLICABLE, False, Reason.NOT_APPLICABLE, cause.message)
        draft.fail(
            cause.reason if cause.reason.value in _NOT_APPLICABLE_REASONS else Reason.NOT_APPLICABLE, cause.message
        )
        return draft.done()
    number = draft.attempts.current
    kind = cause.failure_class.value
    saved_for_suspension = cause.failure_class is FailureClass.DISRUPTION and _stopped_for_suspension(draft)
    used = getattr(draft.attempts, kind) + (0 if saved_for_suspension else 1)
    counted = draft.attempts.model_copy(update={kind: used})
    draft.attempts = counted
    allowed = getattr(view.accepted.operator.retry, kind)
    if used > allowed:
        draft.conditions.set(ConditionType.PODS_READY, False, cause.reason, cause.message)
        exhausted = f" (attempt {number}; {kind} retries used up: {allowed})" if allowed else ""
        draft.fail(cause.reason, cause.message + exhausted, failure=failure)
        return draft.done()
    draft.attempts = Attempts.model_validate(counted.model_dump() | {"current": number + 1})
    draft.actions.append(StartAttempt(number + 1))
    draft.conditions.set(
        ConditionType.PODS_READY, False, Reason.PENDING, f"Attempt {number + 1}: the Job is being made."
    )
    if saved_for_suspension:
        return draft.done(again=30.0)  # the user stopped it: nothing has failed
    draft.changes["failure"] = failure
    draft.conditions.set(
        ConditionType.RETRYING,
        True,
        Reason.RETRYING,
        f"Attempt {number} ended: {cause.reason}: {cause.message} Attempt {number + 1} starts.",
    )
    return draft.done(again=30.0)


def _stopped_for_suspension(draft: AcceptedDraft) -> bool:
    """Tell whether the attempt stopped because its Job was suspended: its exit is no failure then.

    The Job controller may come to fail a Job for a pod that it stopped itself after the run is suspended, and even
    after it is resumed. Such a Job still calls itself suspended.
    """
    return is_true(draft.before.conditions, ConditionType.SUSPENDED) or (
        draft.view.job is not None and draft.view.job.stopped
    )
