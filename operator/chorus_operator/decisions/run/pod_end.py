"""How the present attempt's pod ends, written down while the pod is there: later only its Job may be left.

A pod whose main container has ended while another one runs on, such as a sidecar that a webhook injected, never ends by
itself, and neither does its Job. It is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chorus_api.conditions import ConditionType
from chorus_api.reasons import FailureClass, Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.decision import Decision, DeletePod
from chorus_operator.decisions.observed import PodView
from chorus_operator.decisions.outcome.model import Actor, Outcome, Row
from chorus_operator.decisions.outcome.plugin_words import REASONS
from chorus_operator.decisions.outcome.pod_rows import SIGTERM_OR_KILL, somebody_deleted
from chorus_operator.decisions.outcome.table import classify
from chorus_operator.decisions.run.attempt import failure_of, observation, was_suspended
from chorus_operator.decisions.run.phase import NOT_APPLICABLE
from chorus_operator.decisions.run.state import AcceptedDraft, RunView

GRACE_SECONDS = 10
"""How long the other containers have to end by themselves, and then from the pod's deletion to their SIGKILL."""


def is_held_open(pod: PodView | None) -> bool:
    """Tell whether a pod goes on although its main container has ended."""
    return pod is not None and pod.exit_code is not None and bool(pod.runs_on) and not pod.ended


def release_failed(pod: PodView | None) -> list[DeletePod]:
    """Delete a held pod of a CPU Job whose main container has failed: the Job then tries again, or fails."""
    if pod is None or not is_held_open(pod) or pod.exit_code == 0 or pod.deleting_since is not None:
        return []
    return [DeletePod(pod.name, pod.uid, GRACE_SECONDS)]


def is_written_down(view: RunView) -> bool:
    """Tell whether it is known how the present attempt's pod ends."""
    return any(each.type == ConditionType.POD_ENDING for each in view.run.status.conditions)


def ended_well(view: RunView) -> bool:
    """Tell whether the present attempt's main container has ended with exit code 0, however its pod and Job end.

    Its pod shows it, or it is written down of a pod that had to be deleted.
    """
    if view.pod is not None and view.pod.exit_code == 0:
        return True
    known = next((c for c in view.run.status.conditions if c.type == ConditionType.POD_ENDING), None)
    return known is not None and known.reason == Reason.SIDECAR_RUNS_ON


def first_cause(draft: AcceptedDraft) -> Outcome | None:
    """Give the outcome that was written down when the pod began to end; None when there is none."""
    known, failure = draft.conditions.get(ConditionType.POD_ENDING), draft.before.failure
    if known is None or known.reason == Reason.SIDECAR_RUNS_ON or failure is None:
        return None
    if known.status == "Unknown" and not _sigterm_or_kill(draft):
        return None
    return Outcome(
        FailureClass(failure.failure_class),
        REASONS.get(failure.reason, Reason.INTERNAL_ERROR),
        failure.message,
        failure.hint or "",
        Actor(failure.actor or Actor.USER),
        not_applicable=failure.reason in NOT_APPLICABLE,
        exit_code=failure.exit_code,
    )


def write_down(draft: AcceptedDraft, pod: PodView, own: Sequence[Row] = ()) -> None:
    """Keep the first cause in time of a pod's end: what follows from it must not take its place.

    A disruption that is called off is forgotten. What a user stopped has no cause. A pod that somebody deletes may end
    in any way until its grace is over: its condition is Unknown.
    """
    job, known = draft.view.job, draft.conditions.get(ConditionType.POD_ENDING)
    # What its sidecar still sends may say more.
    refused = pod.phase == "Failed" and bool(pod.pod_reason)
    fails = refused or (pod.exit_code not in (None, 0) and (is_held_open(pod) or not pod.forwarding))
    ends = fails or bool(pod.disrupted) or (pod.deleting_since is not None and pod.exit_code is None)
    if not ends or was_suspended(draft) or (job is not None and job.stopped):
        if known is not None and known.reason != Reason.SIDECAR_RUNS_ON and pod.deleting_since is None:
            draft.conditions.drop(ConditionType.POD_ENDING)
            draft.changes["failure"] = None
        return
    if known is not None and (known.status == "True" or not (fails or pod.disrupted)):
        return
    if fails or pod.disrupted:
        cause = classify(replace(observation(draft), overdue=None, blocked=None, main_ended=True), own)
    else:
        cause = somebody_deleted(pod)
    if cause is None:
        return
    settled = fails or bool(pod.disrupted)
    draft.conditions.set(ConditionType.POD_ENDING, settled or "Unknown", cause.reason, cause.message)
    draft.changes["failure"] = failure_of(cause, pod, draft.view.log_tail)


def _sigterm_or_kill(draft: AcceptedDraft) -> bool:
    """Tell whether the attempt's Job failed for what a deletion does to a program that does not heed it."""
    job, pod = draft.view.job, draft.view.pod
    if job is None or not job.failed:
        return False
    code = pod.exit_code if pod is not None and pod.exit_code is not None else job.failed_exit_code
    return code in (None, *SIGTERM_OR_KILL)


def release(draft: AcceptedDraft, pod: PodView, own: Sequence[Row] = ()) -> Decision[TrainingRunStatus]:
    """Write down how the main container ended; delete the pod when the others have not ended by themselves."""
    known = draft.conditions.get(ConditionType.POD_ENDING)
    if known is None:
        if pod.exit_code == 0:
            _keep_last_word(draft, pod)
        else:
            write_down(draft, pod, own)
        return draft.done(again=float(GRACE_SECONDS))
    left = GRACE_SECONDS - (draft.view.now - known.last_transition_time).total_seconds()
    if left > 0:
        return draft.done(again=left)
    if pod.deleting_since is None:
        draft.actions.append(DeletePod(pod.name, pod.uid, GRACE_SECONDS))
    return draft.done(again=float(GRACE_SECONDS))


def _keep_last_word(draft: AcceptedDraft, pod: PodView) -> None:
    """Keep what only the pod knows of a good end."""
    record = pod.record or pod.forwarded
    if record is not None:
        draft.changes["last_word"] = record.model_dump_json(by_alias=True, exclude_none=True)
    message = f"Container {pod.container} of pod {pod.name} has ended with exit code 0, and {pod.runs_on} runs on: "
    draft.conditions.set(
        ConditionType.POD_ENDING, True, Reason.SIDECAR_RUNS_ON, f"{message}the pod is deleted if that lasts."
    )
