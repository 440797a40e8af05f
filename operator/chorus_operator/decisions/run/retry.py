"""What follows from a failed attempt: a pause and the next one, or the end of the run."""

from __future__ import annotations

from datetime import timedelta

from chorus_api.conditions import ConditionType
from chorus_api.ids import content_hash
from chorus_api.reasons import FailureClass, Reason
from chorus_api.training_run import Attempts, Failure, TrainingRunStatus
from chorus_operator.decisions.conditions import is_true
from chorus_operator.decisions.decision import Decision, StartAttempt
from chorus_operator.decisions.delivery import backoff
from chorus_operator.decisions.outcome.model import Outcome
from chorus_operator.decisions.run.attempt import failure_of
from chorus_operator.decisions.run.phase import NOT_APPLICABLE
from chorus_operator.decisions.run.state import AcceptedDraft

FIRST_PAUSE_SECONDS = {FailureClass.DISRUPTION: 2.0, FailureClass.INFRASTRUCTURE: 10.0, FailureClass.USER: 10.0}
"""Pause before the first further attempt; each further failure of the class doubles it."""
LONGEST_PAUSE_SECONDS = 300.0
JITTER = 0.2
"""A pause differs by up to this part of it, so that runs that failed together do not all come back together."""
_NOT_APPLICABLE_REASONS = frozenset(reason.value for reason in NOT_APPLICABLE)


def failed_attempt(draft: AcceptedDraft, cause: Outcome, failure: Failure) -> Decision[TrainingRunStatus]:
    """Count a failed attempt against its budget: try again after a pause, or end the run."""
    draft.conditions.drop(ConditionType.POD_ENDING)
    draft.changes["last_word"] = None
    if cause.not_applicable:
        draft.conditions.set(ConditionType.APPLICABLE, False, Reason.NOT_APPLICABLE, cause.message)
        draft.fail(
            cause.reason if cause.reason.value in _NOT_APPLICABLE_REASONS else Reason.NOT_APPLICABLE, cause.message
        )
        return draft.done()
    stopped_by_user = cause.failure_class is FailureClass.DISRUPTION and _stopped_for_suspension(draft)
    kind = cause.failure_class.value
    used = getattr(draft.attempts, kind) + (0 if stopped_by_user else 1)
    draft.attempts = draft.attempts.model_copy(update={kind: used})
    allowed = getattr(draft.view.accepted.operator.retry, kind)
    if cause.final or used > allowed:
        return _end(draft, cause, failure, allowed=allowed)
    return _try_again(draft, cause, None if stopped_by_user else failure, failures=used)


def pause_seconds(failure_class: FailureClass, failures: int, *, seed: str) -> float:
    """Seconds until an attempt after so many failures of its class; `seed` decides where in the jitter it lies."""
    pause = backoff(failures, first=FIRST_PAUSE_SECONDS[failure_class], longest=LONGEST_PAUSE_SECONDS)
    place = int(content_hash(seed, length=8), 16) / 0xFFFFFFFF  # from 0 to 1
    return pause * (1 - JITTER + 2 * JITTER * place)


def is_paused(draft: AcceptedDraft) -> bool:
    """Tell whether the Job of the present attempt is to be made after a pause, and has not been made yet."""
    return draft.attempts.not_before is not None and draft.view.job is None and not draft.view.pods


def start_after_pause(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    """Make the Job of the present attempt once its pause is over."""
    until, number = draft.attempts.not_before, draft.attempts.current
    left = (until - draft.view.now).total_seconds() if until is not None else 0.0
    # No pause is longer: a clock has jumped, or somebody has edited the status.
    if 0 < left <= LONGEST_PAUSE_SECONDS * (1 + JITTER):
        return draft.done(again=left)
    draft.actions.append(StartAttempt(number))
    draft.attempts = draft.attempts.model_copy(update={"not_before": None})
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, f"Attempt {number}: the Job is being made.")
    return draft.done(again=30.0)


def _end(draft: AcceptedDraft, cause: Outcome, failure: Failure, *, allowed: int) -> Decision[TrainingRunStatus]:
    draft.conditions.set(ConditionType.PODS_READY, False, cause.reason, cause.message)
    budget = f" (attempt {draft.attempts.current}; {cause.failure_class.value} retries used up: {allowed})"
    draft.fail(cause.reason, cause.message + (budget if allowed and not cause.final else ""), failure=failure)
    return draft.done()


def _try_again(
    draft: AcceptedDraft, cause: Outcome, failure: Failure | None, *, failures: int
) -> Decision[TrainingRunStatus]:
    """Begin the next attempt; `failure`: None when the user stopped the last one, for then nothing has failed."""
    ended, number = draft.attempts.current, draft.attempts.current + 1
    draft.attempts = Attempts.model_validate(draft.attempts.model_dump() | {"current": number})
    if failure is None:
        draft.actions.append(StartAttempt(number))
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.PENDING, f"Attempt {number}: the Job is being made."
        )
        return draft.done(again=30.0)
    seed = f"{draft.view.run.metadata.uid}/{number}"
    # Whole seconds, as the API server keeps times.
    pause = max(1, round(pause_seconds(cause.failure_class, failures, seed=seed)))
    until = draft.view.now + timedelta(seconds=pause)
    draft.attempts = draft.attempts.model_copy(update={"not_before": until})
    draft.conditions.set(
        ConditionType.PODS_READY, False, Reason.PENDING, f"Attempt {number} starts at {until:%Y-%m-%dT%H:%M:%SZ}."
    )
    draft.changes["failure"] = failure
    draft.conditions.set(
        ConditionType.RETRYING,
        True,
        Reason.RETRYING,
        f"{cause.reason}: {cause.message} Attempt {ended} ended so; attempt {number} starts in {pause} s.",
    )
    return draft.done(again=float(pause))


def failure_now(draft: AcceptedDraft, cause: Outcome) -> Failure:
    """Write a failure of the present attempt down with the evidence that is left of it."""
    return failure_of(cause, draft.view.pod, draft.view.log_tail)


def _stopped_for_suspension(draft: AcceptedDraft) -> bool:
    """Tell whether the attempt stopped because its Job was suspended: its exit is no failure then.

    The Job controller may come to fail a Job for a pod that it stopped itself after the run is suspended, and even
    after it is resumed. Such a Job still calls itself suspended.
    """
    return is_true(draft.before.conditions, ConditionType.SUSPENDED) or (
        draft.view.job is not None and draft.view.job.stopped
    )
