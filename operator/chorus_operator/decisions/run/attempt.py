"""What the present attempt of a run shows: its pod, its messages, its checkpoints, its deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from chorus_api.conditions import ConditionType
from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import TerminationRecord
from chorus_api.training_run import Checkpoint, Failure, Report
from chorus_operator.decisions.conditions import find, is_true
from chorus_operator.decisions.decision import DeleteJob, ForceDeletePod
from chorus_operator.decisions.observed import PodView
from chorus_operator.decisions.outcome import REASONS, Outcome
from chorus_operator.decisions.run.state import AcceptedDraft, Draft
from chorus_operator.decisions.startup import is_lost, seconds_until_lost, waited, waiting_for

MIN_REQUEUE_SECONDS = 1.0
MAX_REQUEUE_SECONDS = 300.0


def observe(draft: AcceptedDraft) -> None:
    """Write down what the pod and its messages show. Facts only: nothing is decided here."""
    view, conditions = draft.view, draft.conditions
    if view.job is not None and draft.attempts.current == 0:
        # The Jobs were made, but the operator ended before it could write so.
        draft.attempts = draft.attempts.model_copy(update={"current": 1})
    pod = view.pod
    if pod is not None and pod.started is not None:
        draft.changes["start_time"] = draft.before.start_time or pod.started
        if not conditions.is_true(ConditionType.POD_STARTED):
            conditions.set(
                ConditionType.POD_STARTED, True, Reason.STARTED, f"Pod {pod.name} has started on {pod.node}."
            )
        if not pod.ended:
            conditions.set(ConditionType.PODS_READY, True, Reason.STARTED, f"Pod {pod.name} runs on {pod.node}.")
    elif view.job is not None and not view.job.finished:
        wait = waiting_for(view.job, pod, view.events)
        conditions.set(ConditionType.PODS_READY, False, wait.reason, wait.message)
    _observe_block(draft)
    _observe_messages(draft)
    if pod is not None and pod.ended:
        _observe_last_word(draft, pod)


def _observe_block(draft: AcceptedDraft) -> None:
    """Write down since when something keeps the pod from starting that may not pass by itself.

    A pod that was long in coming may meet a fault that passes in a moment: how long the pod has been there says nothing
    about how long the fault has.
    """
    wait = waiting_for(draft.view.job, draft.view.pod, draft.view.events)
    pod, known = draft.view.pod, draft.conditions.get(ConditionType.BLOCKED)
    if pod is None or pod.started is not None or wait.limit_seconds is None:
        draft.conditions.drop(ConditionType.BLOCKED)
        return
    if known is not None and known.reason != wait.failed_reason:
        draft.conditions.drop(ConditionType.BLOCKED)
    draft.conditions.set(ConditionType.BLOCKED, True, wait.failed_reason, wait.message)


def _observe_messages(draft: AcceptedDraft) -> None:
    report, progress, conditions = draft.before.report, draft.before.progress, draft.conditions
    trains = report is not None and report.training_start is not None
    if progress is not None and progress.attempt == draft.attempts.current:
        trains = True  # whoever reports progress has begun, also one that knows no other message
    if report is not None and report.data_report is not None:
        said = report.data_report
        reason = Reason.APPLICABLE if said.applicable else Reason.NOT_APPLICABLE
        conditions.set(
            ConditionType.APPLICABLE, said.applicable, reason, said.reason or "The plugin says that it suits the frame."
        )
    elif trains:
        conditions.set(ConditionType.APPLICABLE, True, Reason.APPLICABLE, "The plugin trains on the frame.")
    if trains:
        if not conditions.is_true(ConditionType.TRAINING_STARTED):
            conditions.set(ConditionType.TRAINING_STARTED, True, Reason.TRAINING, "Training has started.")
        started = (report, progress) if report is not None and report.training_start is not None else (progress,)
        current = any(said is not None and said.attempt == draft.attempts.current for said in started)
        if current and conditions.is_true(ConditionType.RETRYING):
            conditions.set(ConditionType.RETRYING, False, Reason.TRAINING, f"Attempt {draft.attempts.current} trains.")
    if progress is not None and progress.checkpoint_step:
        _observe_checkpoint(draft, Checkpoint(step=progress.checkpoint_step, time=progress.time))


def _observe_last_word(draft: AcceptedDraft, pod: PodView) -> None:
    """A pod that was stopped says what it saved: its last progress may still be on its way."""
    if pod.record is not None and pod.record.outcome == "preempted" and pod.record.step:
        _observe_checkpoint(draft, Checkpoint(step=pod.record.step, time=draft.view.now))


def _observe_checkpoint(draft: AcceptedDraft, seen: Checkpoint) -> None:
    known = draft.changes.get("checkpoint") or draft.before.checkpoint
    if isinstance(known, Checkpoint) and known.step >= seen.step:
        return
    draft.changes["checkpoint"] = seen
    draft.conditions.set(ConditionType.CHECKPOINT_AVAILABLE, True, Reason.CHECKPOINT_SAVED, f"Step {seen.step}.")


def was_suspended(draft: AcceptedDraft) -> bool:
    """Tell whether Chorus suspended the attempt's Jobs, for the run or its Project, and has not resumed them yet."""
    before = draft.before.conditions
    ready = find(before, ConditionType.PODS_READY)
    return is_true(before, ConditionType.SUSPENDED) or (ready is not None and ready.reason == Reason.SUSPENDED)


def overdue(draft: AcceptedDraft) -> Outcome | None:
    """Find the deadline of the present attempt that has passed, if one has."""
    view = draft.view
    deadlines, pod = view.accepted.operator.deadlines, view.pod
    start = draft.changes.get("start_time") or draft.before.start_time
    if isinstance(start, datetime) and deadlines.active_seconds is not None:
        if (view.now - start).total_seconds() > deadlines.active_seconds:
            return Outcome(
                FailureClass.USER,
                Reason.ACTIVE_DEADLINE_EXCEEDED,
                f"The run took longer than deadlines.activeSeconds ({deadlines.active_seconds} s).",
            )
    if pod is None or pod.started is None:
        return _start_overdue(draft)
    silent = (view.now - _last_sign(draft, pod)).total_seconds()
    report = said_now(draft)
    trains = has_begun(draft)
    reported = trains or (report is not None and report.data_report is not None)
    if not reported and silent > deadlines.data_report_seconds:
        return Outcome(
            FailureClass.USER,
            Reason.DATA_REPORT_DEADLINE_EXCEEDED,
            f"No DATA_REPORT within deadlines.dataReportSeconds ({deadlines.data_report_seconds} s) of the start of "
            f"pod {pod.name}.",
        )
    if reported and not trains and silent > deadlines.training_start_seconds:
        return Outcome(
            FailureClass.USER,
            Reason.TRAINING_START_DEADLINE_EXCEEDED,
            f"No TRAINING_START within deadlines.trainingStartSeconds ({deadlines.training_start_seconds} s) of the "
            f"last word of pod {pod.name}.",
        )
    if trains and silent > deadlines.progress_seconds:
        return Outcome(
            FailureClass.USER,
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"Pod {pod.name} has said nothing for deadlines.progressSeconds ({deadlines.progress_seconds} s).",
        )
    return None


def said_now(draft: AcceptedDraft) -> Report | None:
    """Give what the present attempt has said; None when it has said nothing."""
    report = draft.before.report
    return report if report is not None and report.attempt == draft.attempts.current else None


def has_begun(draft: AcceptedDraft) -> bool:
    """Tell whether the present attempt trains: by its own word, or because it reports progress."""
    report, progress = said_now(draft), draft.before.progress
    progresses = progress is not None and progress.attempt == draft.attempts.current
    return progresses or (report is not None and report.training_start is not None)


def data_refusal(draft: AcceptedDraft) -> Outcome | None:
    """Find the present attempt's word that it does not suit the frame: nobody waits for it to end by itself."""
    report = said_now(draft)
    if report is None or report.data_report is None or report.data_report.applicable:
        return None
    message = report.data_report.reason or "The plugin says that it does not suit the frame."
    return Outcome(FailureClass.USER, Reason.NOT_APPLICABLE, message, not_applicable=True)


def model_name(draft: AcceptedDraft) -> str | None:
    """Give the name that the present attempt gave its model, by MODEL_NAME or in its last word."""
    report, record = said_now(draft), last_word(draft.view.pod)
    if report is not None and report.model_name is not None:
        return report.model_name.model_name
    return record.model_name if record is not None else None


def last_word(pod: PodView | None) -> TerminationRecord | None:
    """Read what the pod's status keeps of the program's end: its own record, or what its sidecar could not deliver."""
    return (pod.record or pod.forwarded) if pod is not None else None


def unnamed(draft: AcceptedDraft) -> Outcome:
    """Say why an attempt that ended with exit code 0 has not succeeded."""
    nothing = Outcome(
        FailureClass.USER,
        Reason.MODEL_NAME_MISSING,
        "The container ended with exit code 0, and never sent MODEL_NAME.",
        "Send MODEL_NAME before the end, or end with another exit code; see docs/write-a-plugin.md.",
    )
    return told_by_plugin(draft, nothing)


def told_by_plugin(draft: AcceptedDraft, cause: Outcome) -> Outcome:
    """Put the plugin's own ERROR_REPORT in the place of what an exit code alone can say."""
    report, pod = said_now(draft), draft.view.pod
    general = cause.reason in (Reason.TRAINING_FAILED, Reason.MODEL_NAME_MISSING)
    if report is None or report.error is None or not general or (pod is not None and pod.record is not None):
        return cause
    error = report.error
    reason = REASONS.get(error.reason or "", Reason.TRAINING_FAILED)
    kind = FailureClass.INFRASTRUCTURE if error.retryable else cause.failure_class
    message = f"{error.reason}: {error.detail}" if error.reason and error.reason not in REASONS else error.detail
    return replace(cause, failure_class=kind, reason=reason, message=message)


def _start_overdue(draft: AcceptedDraft) -> Outcome | None:
    view = draft.view
    wait, blocked = waiting_for(view.job, view.pod, view.events), draft.conditions.get(ConditionType.BLOCKED)
    since = waited(now=view.now, job=view.job, pod=view.pod)
    if blocked is not None:
        since = (view.now - blocked.last_transition_time).total_seconds()
    if wait.limit_seconds is not None and since > wait.limit_seconds:
        return Outcome(FailureClass.USER, wait.failed_reason, wait.message)
    return _past_start_deadline(draft, wait.message)


def _past_start_deadline(draft: AcceptedDraft, message: str) -> Outcome | None:
    view = draft.view
    limit = view.accepted.operator.deadlines.start_seconds
    accepted = draft.conditions.get(ConditionType.ACCEPTED)
    if draft.conditions.is_true(ConditionType.POD_STARTED) or accepted is None:
        return None
    # A queue may hold the Job for longer than that: its time does not count.
    resumed = [job.resumed for job in view.jobs if job.resumed is not None]
    if (view.now - max([accepted.last_transition_time, *resumed])).total_seconds() <= limit:
        return None
    return Outcome(
        FailureClass.USER,
        Reason.START_DEADLINE_EXCEEDED,
        f"No pod started within deadlines.startSeconds ({limit} s): {message}",
    )


def check_start_deadline(draft: AcceptedDraft) -> None:
    """End the run if it has waited for its base model longer than for a pod."""
    waiting = draft.conditions.get(ConditionType.PODS_READY)
    cause = _past_start_deadline(draft, waiting.message if waiting else "")
    if cause is not None:
        draft.fail(cause.reason, cause.message)


def _last_sign(draft: AcceptedDraft, pod: PodView) -> datetime:
    """When the pod was last heard of. Silence while the operator was away is not the pod's."""
    assert pod.started is not None
    signs = [pod.started, draft.view.operator_since]
    report, progress = draft.before.report, draft.before.progress
    if report is not None and report.attempt == draft.attempts.current:
        signs += [entry.time for entry in (report.data_report, report.training_start, report.model_name) if entry]
    if progress is not None and progress.attempt == draft.attempts.current:
        signs.append(progress.time)
    return max(signs)


def requeue_seconds(draft: AcceptedDraft) -> float:
    """Seconds until the next deadline could pass; a change of a pod or a message wakes the run sooner."""
    view = draft.view
    deadlines, pod = view.accepted.operator.deadlines, view.pod
    left = [seconds_until_lost(other, now=view.now) for other in view.pods]
    if any(seconds is not None for seconds in left):
        return max(min(seconds for seconds in left if seconds is not None), 0.0) + MIN_REQUEUE_SECONDS
    if pod is None or pod.started is None:
        return 15.0
    limit = min(deadlines.data_report_seconds, deadlines.training_start_seconds, deadlines.progress_seconds)
    return min(max(limit / 4, MIN_REQUEUE_SECONDS), MAX_REQUEUE_SECONDS)


def force_delete_lost(draft: Draft, pods: Sequence[PodView] | None = None) -> None:
    """Remove pods whose node will never report that they are gone: of the present attempt when None are given."""
    for pod in draft.view.pods if pods is None else pods:
        if is_lost(pod, now=draft.view.now):
            draft.actions.append(ForceDeletePod(pod.name, pod.uid))


def tell_lost(draft: AcceptedDraft) -> bool:
    """Say that the attempt's node is lost, when it is. It is written down before anything is done about it.

    What is done takes the evidence away, and the operator may end in the middle of it.
    """
    pod = draft.view.pod
    if pod is None or not is_lost(pod, now=draft.view.now):
        return False
    message = f"Pod {pod.name} was told to end, and node {pod.node} does not say that it has: the node is lost."
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.NODE_LOST, message)
    return True


def give_up_lost(draft: AcceptedDraft) -> Outcome | None:
    """Remove an attempt that was said to be lost with its node; the cause, or None when it was not.

    The Job goes as well: while it is there, the pod's finalizer keeps even a pod that was deleted by force.
    """
    view, ready = draft.view, find(draft.before.conditions, ConditionType.PODS_READY)
    if ready is None or ready.reason != Reason.NODE_LOST:
        return None
    left = [pod for pod in view.pods if not pod.ended]
    if any(pod.deleting_since is None for pod in left):
        return None
    draft.actions += [ForceDeletePod(pod.name, pod.uid) for pod in left]
    draft.actions += [DeleteJob(job.name, job.uid) for job in view.jobs if not job.deleting]
    return Outcome(FailureClass.DISRUPTION, Reason.NODE_LOST, ready.message)


def failure_of(cause: Outcome, pod: PodView | None, log_tail: str | None) -> Failure:
    """Write a failure down with all the evidence that is left."""
    return Failure.model_validate(
        {
            "class": cause.failure_class.value,
            "reason": cause.reason.value,
            "message": cause.message[:4096],
            "pod": pod.name if pod else None,
            "container": pod.container if pod else None,
            "exitCode": pod.exit_code if pod and pod.exit_code is not None else cause.exit_code,
            "signal": pod.signal if pod else None,
            "node": pod.node if pod else None,
            "logTail": log_tail[:5000] if log_tail else None,
            "hint": cause.hint or None,
        }
    )
