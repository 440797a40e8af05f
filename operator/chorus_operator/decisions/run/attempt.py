"""What the present attempt of a run shows: its pod, its messages, its checkpoints, its deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.run_config import TerminationRecord
from chorus_api.training_run import Checkpoint, Failure, Report
from chorus_operator.decisions.conditions import find, is_true
from chorus_operator.decisions.decision import DeleteJob, ForceDeletePod
from chorus_operator.decisions.observed import PodView, termination_record
from chorus_operator.decisions.outcome.model import Deadline, Observation, Outcome, Overdue
from chorus_operator.decisions.run.state import AcceptedDraft, Draft
from chorus_operator.decisions.startup import Wait, is_lost, seconds_until_lost, waited, waiting_for

MIN_REQUEUE_SECONDS = 1.0
MAX_REQUEUE_SECONDS = 3600.0
"""A watch tells of what happens meanwhile, and the resync of what a watch has missed."""


def observe(draft: AcceptedDraft) -> None:
    """Write down what the pod and its messages show. Facts only: nothing is decided here."""
    view, conditions = draft.view, draft.conditions
    if (view.job is not None or view.pods) and draft.attempts.current == 0:
        # The Jobs were made, but the operator ended before it could write so. They may be gone, and their pods not yet.
        draft.attempts = draft.attempts.model_copy(update={"current": 1})
    pod = view.pod
    if pod is not None and pod.started is not None:
        draft.changes["start_time"] = draft.before.start_time or start_of(pod, view.now)
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
        draft.conditions.forget(ConditionType.BLOCKED)
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


def observation(draft: AcceptedDraft) -> Observation:
    """Put together what is seen of the present attempt, for the table to say what it comes to."""
    view, report = draft.view, said_now(draft)
    return Observation(
        job=view.job,
        pod=view.pod,
        log=view.log_tail,
        config=view.accepted.config,
        claim=view.accepted.operator.claim,
        attempt=draft.attempts.current,
        error=report.error if report is not None else None,
        lost=lost_with_node(draft),
        blocked=blocked(draft),
        overdue=overdue(draft),
    )


def overdue(draft: AcceptedDraft) -> Overdue | None:
    """Find the deadline of the present attempt that has passed, if one has."""
    view = draft.view
    deadlines, pod = view.accepted.operator.deadlines, view.pod
    first = draft.conditions.get(ConditionType.POD_STARTED)
    if first is not None and first.status == "True" and deadlines.active_seconds is not None:
        if _seconds(draft, first.last_transition_time) > deadlines.active_seconds:
            return Overdue(Deadline.ACTIVE, deadlines.active_seconds)
    if pod is None or pod.started is None:
        return _start_overdue(draft)
    deadline, limit = _next_word(draft)
    return Overdue(deadline, limit, pod.name) if _seconds(draft, _last_sign(draft, pod)) > limit else None


def _next_word(draft: AcceptedDraft) -> tuple[Deadline, int]:
    """Tell which message is due next, and how many seconds after the last sign of the pod."""
    deadlines, report = draft.view.accepted.operator.deadlines, said_now(draft)
    if has_begun(draft):
        return Deadline.PROGRESS, deadlines.progress_seconds
    if report is not None and report.data_report is not None:
        return Deadline.TRAINING_START, deadlines.training_start_seconds
    return Deadline.DATA_REPORT, deadlines.data_report_seconds


def _seconds(draft: Draft, since: datetime) -> float:
    return (draft.view.now - since).total_seconds()


def said_now(draft: AcceptedDraft) -> Report | None:
    """Give what the present attempt has said; None when it has said nothing."""
    report = draft.before.report
    return report if report is not None and report.attempt == draft.attempts.current else None


def has_begun(draft: AcceptedDraft) -> bool:
    """Tell whether the present attempt trains: by its own word, or because it reports progress."""
    report, progress = said_now(draft), draft.before.progress
    progresses = progress is not None and progress.attempt == draft.attempts.current
    return progresses or (report is not None and report.training_start is not None)


def data_refusal(draft: AcceptedDraft) -> str:
    """Give the present attempt's word that it does not suit the frame: nobody waits for it to end by itself."""
    report = said_now(draft)
    if report is None or report.data_report is None or report.data_report.applicable:
        return ""
    return report.data_report.reason or "The plugin says that it does not suit the frame."


def model_name(draft: AcceptedDraft) -> str | None:
    """Give the name that the present attempt gave its model, by MODEL_NAME or in its last word."""
    report, record = said_now(draft), last_word(draft)
    if report is not None and report.model_name is not None:
        return report.model_name.model_name
    return record.model_name if record is not None else None


def last_word(draft: AcceptedDraft) -> TerminationRecord | None:
    """Read what is kept of the program's end: its own record, or what its sidecar could not deliver.

    The pod's status has it, and the run's own if the pod had to be deleted.
    """
    pod = draft.view.pod
    kept = termination_record(draft.before.last_word or "")
    return (pod.record or pod.forwarded or kept) if pod is not None else kept


def blocked(draft: AcceptedDraft) -> Wait | None:
    """Find what has kept the present attempt's pod from starting for longer than it may."""
    view = draft.view
    if view.job is None or view.job.finished or (view.pod is not None and view.pod.started is not None):
        return None
    wait, condition = waiting_for(view.job, view.pod, view.events), draft.conditions.get(ConditionType.BLOCKED)
    so_far = waited(now=view.now, job=view.job, pod=view.pod)
    if condition is not None:
        so_far = _seconds(draft, condition.last_transition_time)
    return wait if wait.limit_seconds is not None and so_far > wait.limit_seconds else None


def _start_overdue(draft: AcceptedDraft, waits_for: str | None = None) -> Overdue | None:
    view = draft.view
    limit = view.accepted.operator.deadlines.start_seconds
    accepted = draft.conditions.get(ConditionType.ACCEPTED)
    if draft.conditions.is_true(ConditionType.POD_STARTED) or accepted is None:
        return None
    # A queue may hold the Job for longer than that: its time does not count.
    resumed = [job.resumed for job in view.jobs if job.resumed is not None]
    if _seconds(draft, max([accepted.last_transition_time, *resumed])) <= limit:
        return None
    if waits_for is None:
        waits_for = waiting_for(view.job, view.pod, view.events).message
    return Overdue(Deadline.START, limit, detail=waits_for)


def past_start_deadline(draft: AcceptedDraft) -> Overdue | None:
    """Tell whether the run has waited for what its first attempt needs longer than it may for a pod."""
    waiting = draft.conditions.get(ConditionType.PODS_READY)
    return _start_overdue(draft, waiting.message if waiting is not None else "")


def _last_sign(draft: AcceptedDraft, pod: PodView) -> datetime:
    """When the pod was last heard of, by the operator's clock: that of a node may be minutes off.

    Silence while the operator was away is not the pod's.
    """
    ready = draft.conditions.get(ConditionType.PODS_READY)
    seen = ready.last_transition_time if ready is not None and ready.status == "True" else start_of(pod, draft.view.now)
    signs = [seen, draft.view.operator_since]
    report, progress = draft.before.report, draft.before.progress
    if report is not None and report.attempt == draft.attempts.current:
        signs += [entry.time for entry in (report.data_report, report.training_start, report.model_name) if entry]
    if progress is not None and progress.attempt == draft.attempts.current:
        signs.append(progress.time)
    return max(signs)


def start_of(pod: PodView, now: datetime) -> datetime:
    """When a pod started: as its node says, but not before it was made and not after now."""
    assert pod.started is not None
    return min(max(pod.started, pod.created or pod.started), now)


def requeue_seconds(draft: AcceptedDraft) -> float:
    """Seconds until the next deadline could pass; a change of a pod or a message wakes the run sooner."""
    view = draft.view
    deadlines, pod = view.accepted.operator.deadlines, view.pod
    left = [seconds_until_lost(other, now=view.now) for other in view.pods]
    if any(seconds is not None for seconds in left):
        return max(min(seconds for seconds in left if seconds is not None), 0.0) + MIN_REQUEUE_SECONDS
    if pod is None or pod.started is None:
        return 15.0
    _, limit = _next_word(draft)
    waits = [limit - _seconds(draft, _last_sign(draft, pod)) + MIN_REQUEUE_SECONDS, MAX_REQUEUE_SECONDS]
    first = draft.conditions.get(ConditionType.POD_STARTED)
    if first is not None and deadlines.active_seconds is not None:
        waits.append(deadlines.active_seconds - _seconds(draft, first.last_transition_time) + MIN_REQUEUE_SECONDS)
    return max(min(waits), MIN_REQUEUE_SECONDS)


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


def lost_with_node(draft: AcceptedDraft) -> str:
    """Give what was said of the attempt's loss with its node; empty while its pods are not known to be lost."""
    view, ready = draft.view, find(draft.before.conditions, ConditionType.PODS_READY)
    if ready is None or ready.reason != Reason.NODE_LOST:
        return ""
    gone = all(pod.ended or pod.deleting_since is not None for pod in view.pods)
    return ready.message if gone else ""


def remove_lost(draft: AcceptedDraft) -> None:
    """Remove an attempt that is lost with its node.

    The Job goes as well: while it is there, the pod's finalizer keeps even a pod that was deleted by force.
    """
    draft.actions += [ForceDeletePod(pod.name, pod.uid) for pod in draft.view.pods if not pod.ended]
    draft.actions += [DeleteJob(job.name, job.uid) for job in draft.view.jobs if not job.deleting]


def failure_of(cause: Outcome, pod: PodView | None, log_tail: str | None) -> Failure:
    """Write a failure down with all the evidence that is left."""
    return Failure.model_validate(
        {
            "class": cause.failure_class.value,
            "actor": cause.actor.value,
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
