"""A pod whose main container has ended while another one runs on, such as a sidecar that a webhook injected.

Neither the pod nor its Job would ever end. How the main container ended is written down, then the pod is deleted.
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
from chorus_operator.decisions.outcome.table import classify
from chorus_operator.decisions.run.attempt import failure_of, observation
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


def ended_well(view: RunView) -> bool:
    """Tell whether the present attempt's main container is known to have ended with exit code 0, and its pod is not."""
    known = next((c for c in view.run.status.conditions if c.type == ConditionType.MAIN_CONTAINER_ENDED), None)
    return known is not None and known.reason == Reason.SIDECAR_RUNS_ON


def earlier_failure(draft: AcceptedDraft) -> Outcome | None:
    """Give the outcome that was written down when the main container had ended; None when there is none."""
    known, failure = draft.conditions.get(ConditionType.MAIN_CONTAINER_ENDED), draft.before.failure
    if known is None or known.reason == Reason.SIDECAR_RUNS_ON or failure is None:
        return None
    reason = Reason(failure.reason)
    return Outcome(
        FailureClass(failure.failure_class),
        reason,
        failure.message,
        failure.hint or "",
        Actor(failure.actor or Actor.USER),
        not_applicable=reason in NOT_APPLICABLE,
        exit_code=failure.exit_code,
    )


def release(draft: AcceptedDraft, pod: PodView, own: Sequence[Row] = ()) -> Decision[TrainingRunStatus]:
    """Write down how the main container ended; delete the pod when the others have not ended by themselves."""
    known = draft.conditions.get(ConditionType.MAIN_CONTAINER_ENDED)
    if known is None:
        _write_down(draft, pod, own)
        return draft.done(again=float(GRACE_SECONDS))
    left = GRACE_SECONDS - (draft.view.now - known.last_transition_time).total_seconds()
    if left > 0:
        return draft.done(again=left)
    if pod.deleting_since is None:
        draft.actions.append(DeletePod(pod.name, pod.uid, GRACE_SECONDS))
    return draft.done(again=float(GRACE_SECONDS))


def _write_down(draft: AcceptedDraft, pod: PodView, own: Sequence[Row]) -> None:
    """Keep what only the pod knows: it may be gone before its Job has ended."""
    ended = f"Container {pod.container} of pod {pod.name} has ended with exit code {pod.exit_code}, and {pod.runs_on}"
    note = f"{ended} runs on: the pod is deleted if that lasts."
    if pod.exit_code == 0:
        record = pod.record or pod.forwarded
        if record is not None:
            draft.changes["last_word"] = record.model_dump_json(by_alias=True, exclude_none=True)
        draft.conditions.set(ConditionType.MAIN_CONTAINER_ENDED, True, Reason.SIDECAR_RUNS_ON, note)
        return
    cause = classify(replace(observation(draft), main_ended=True), own)
    assert cause is not None, "a row about exit codes fits every one but 0"
    draft.conditions.set(ConditionType.MAIN_CONTAINER_ENDED, True, cause.reason, note)
    draft.changes["failure"] = failure_of(cause, pod, draft.view.log_tail)
