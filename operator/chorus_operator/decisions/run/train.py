"""Bringing an attempt forward whose Jobs train and end by themselves."""

from __future__ import annotations

from collections.abc import Callable

from chorus_api.conditions import ConditionType
from chorus_api.reasons import FailureClass, Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.decision import Decision, StartAttempt
from chorus_operator.decisions.observed import JobView, PodView
from chorus_operator.decisions.outcome import Outcome, outcome_of
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.retry import failed_attempt
from chorus_operator.decisions.run.state import REQUEUE_SECONDS, AcceptedDraft

Failed = Callable[[AcceptedDraft, Outcome, PodView | None], Decision[TrainingRunStatus]]


def train(
    draft: AcceptedDraft,
    *,
    trained: Callable[[AcceptedDraft], Decision[TrainingRunStatus]],
    failed: Failed = failed_attempt,
    heeds_refusals: bool = False,
) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward.

    `trained` goes on from the end of all Jobs with exit code 0, `failed` from a failed attempt. `heeds_refusals`: an
    attempt whose DATA_REPORT says that it does not suit the frame is over, although its Jobs go on.
    """
    view, job = draft.view, draft.view.job
    if job is None:
        return _without_job(draft, failed)
    if heeds_refusals and (refusal := attempt.data_refusal(draft)) is not None:
        return failed(draft, refusal, None)
    if job.complete:
        return trained(draft)
    if job.failed:
        return _failed_job(draft, job, failed)
    lost = attempt.give_up_lost(draft)
    if lost is not None:
        return failed(draft, lost, view.pod)
    if attempt.tell_lost(draft):
        return draft.done(again=0.0)
    late = attempt.overdue(draft)
    if late is not None:
        draft.fail(late.reason, late.message, failure=attempt.failure_of(late, view.pod, view.log_tail))
        return draft.done()
    return draft.done(again=attempt.requeue_seconds(draft))


def _without_job(draft: AcceptedDraft, failed: Failed) -> Decision[TrainingRunStatus]:
    """Start the first attempt; or find that somebody has deleted a Job of the present one."""
    view, current = draft.view, draft.attempts.current
    if current == 0:
        draft.actions.append(StartAttempt(1))
        draft.attempts = draft.attempts.model_copy(update={"current": 1})
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, "Attempt 1: the Job is being made.")
        return draft.done(again=30.0)
    deleted = Outcome(
        FailureClass.INFRASTRUCTURE, Reason.JOB_DELETED, f"Job of attempt {current} was deleted by somebody."
    )
    lost = attempt.give_up_lost(draft)
    draft.stop()
    if lost is None and any(not pod.ended for pod in view.pods):
        # Two pods must not write to one run directory.
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.JOB_DELETED, f"{deleted.message} Its pod is being stopped."
        )
        attempt.force_delete_lost(draft)
        return draft.done(again=REQUEUE_SECONDS)
    return failed(draft, lost or deleted, None)


def _failed_job(draft: AcceptedDraft, job: JobView, failed: Failed) -> Decision[TrainingRunStatus]:
    """Go on from a failed Job, once the attempt's other Jobs and their pods have ended."""
    view = draft.view
    others = [each for each in view.attempt if each.job is not job]
    draft.stop()
    if any(not pod.ended for each in others for pod in each.pods):
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, f"Job {job.name} failed: stopping.")
        attempt.force_delete_lost(draft)
        return draft.done(again=REQUEUE_SECONDS)
    return failed(draft, outcome_of(job, view.pod, view.log_tail), view.pod)
