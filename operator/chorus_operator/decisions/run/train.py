"""Bringing an attempt forward whose Jobs train and end by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.training_run import Failure, TrainingRunStatus
from chorus_operator.decisions.decision import Decision, StartAttempt
from chorus_operator.decisions.outcome.model import Observation, Outcome, Row
from chorus_operator.decisions.outcome.plugin_words import told_by_plugin
from chorus_operator.decisions.outcome.table import classify
from chorus_operator.decisions.run import attempt, pod_end
from chorus_operator.decisions.run.retry import failed_attempt, failure_now, is_paused, start_after_pause
from chorus_operator.decisions.run.state import REQUEUE_SECONDS, AcceptedDraft
from chorus_operator.decisions.startup import is_lost


def train(
    draft: AcceptedDraft,
    *,
    trained: Callable[[AcceptedDraft], Decision[TrainingRunStatus]],
    own: Sequence[Row] = (),
    heeds_refusals: bool = False,
    names_model: bool = False,
) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward: it goes on, has ended well, or comes to an outcome of the table.

    `trained` goes on from the end of all Jobs with exit code 0. `own`: the plugin type's rows. `heeds_refusals`: an
    attempt whose DATA_REPORT says that it does not suit the frame is over, although its Jobs go on. `names_model`: an
    attempt that ends well must have named its model.
    """
    view, job, pod = draft.view, draft.view.job, draft.view.pod
    if job is None and draft.attempts.current == 0:
        return _start_first(draft)
    if is_paused(draft):
        return start_after_pause(draft)
    draft.attempts = draft.attempts.model_copy(update={"not_before": None})
    if job is not None and not job.finished and pod is not None:
        if pod_end.is_held_open(pod) and not is_lost(pod, now=view.now):
            return pod_end.release(draft, pod, own)
        pod_end.write_down(draft, pod, own)
    complete = job is not None and (job.complete or (job.finished and pod_end.ended_well(view)))
    if complete and any(each.job is not None and not each.job.finished for each in view.attempt):
        return draft.done(again=attempt.requeue_seconds(draft))  # a Job failed for its sidecar alone; others go on
    seen = _observe(draft, complete=complete, heeds_refusals=heeds_refusals, names_model=names_model)
    first = pod_end.first_cause(draft) if job is None or job.finished or seen.overdue is not None else None
    if first is not None and not complete and not seen.refusal:
        return _fail(draft, told_by_plugin(first, seen.error), written_down=True)
    cause = classify(seen, own)
    if cause is not None:
        return _fail(draft, cause)
    if complete:
        return trained(draft)
    if attempt.tell_lost(draft):
        return draft.done(again=0.0)
    return draft.done(again=attempt.requeue_seconds(draft))


def _start_first(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    draft.actions.append(StartAttempt(1))
    draft.attempts = draft.attempts.model_copy(update={"current": 1})
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, "Attempt 1: the Job is being made.")
    return draft.done(again=30.0)


def _observe(draft: AcceptedDraft, *, complete: bool, heeds_refusals: bool, names_model: bool) -> Observation:
    seen = attempt.observation(draft)
    seen = replace(seen, refusal=attempt.data_refusal(draft) if heeds_refusals else "", gone=draft.view.job is None)
    if not complete:
        return seen
    pod = draft.view.pod
    forwarding = pod is not None and pod.forwarding
    unnamed = names_model and attempt.model_name(draft) is None and not forwarding
    # Nothing of how the Job and its pod ended matters any more.
    return replace(seen, job=None, lost="", blocked=None, overdue=None, unnamed=unnamed)


def _fail(draft: AcceptedDraft, cause: Outcome, *, written_down: bool = False) -> Decision[TrainingRunStatus]:
    """Count the failure once no other pod of the attempt writes to the run's directory.

    `written_down`: its evidence is in the status since its pod began to end.
    """
    view, job, failure = draft.view, draft.view.job, failure_now(draft, cause)
    if written_down and draft.before.failure is not None:
        # The pod may be gone, or have ended since.
        known, now = (each.model_dump(by_alias=True, exclude_none=True) for each in (draft.before.failure, failure))
        failure = Failure.model_validate({**known, **now})
    if cause.reason is Reason.NODE_LOST:
        attempt.remove_lost(draft)
        return failed_attempt(draft, cause, failure)
    if job is None and any(not pod.ended for pod in view.pods):
        return _wait_for_pods(draft, Reason.JOB_DELETED, f"{cause.message} Its pod is being stopped.")
    if job is not None and job.failed:
        others = [each for each in view.attempt if each.job is not job]
        if any(not pod.ended for each in others for pod in each.pods):
            return _wait_for_pods(draft, Reason.PENDING, f"Job {job.name} failed: stopping.")
    draft.stop()
    return failed_attempt(draft, cause, failure)


def _wait_for_pods(draft: AcceptedDraft, reason: Reason, message: str) -> Decision[TrainingRunStatus]:
    draft.stop()
    draft.conditions.set(ConditionType.PODS_READY, False, reason, message)
    attempt.force_delete_lost(draft)
    return draft.done(again=REQUEUE_SECONDS)
