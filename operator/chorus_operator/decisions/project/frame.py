"""Whether the training frame is ready and fresh, and what keeps it from being so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chorus_api import contract
from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_operator.decisions import names
from chorus_operator.decisions.decision import RemovePreparation, StartPrepare
from chorus_operator.decisions.observed import JobView, newest
from chorus_operator.decisions.outcome.plugin_words import REASONS
from chorus_operator.decisions.outcome.table import outcome_of
from chorus_operator.decisions.project.admission import is_accepted, is_final
from chorus_operator.decisions.project.refresh import current_preparation_id, ended, next_preparation, outdated_keys
from chorus_operator.decisions.project.state import ProjectDraft, ProjectView
from chorus_operator.decisions.run.pod_end import release_failed
from chorus_operator.decisions.startup import is_over_limit, waiting_for
from chorus_protocol.messages import FrameManifest

MISSING_SOURCE_SECONDS = 30.0


@dataclass(frozen=True)
class Preparation:
    """What the newest preparation comes to so far; `again`: the seconds after which to decide again."""

    reason: Reason
    message: str
    again: float | None = None
    ready: bool = False
    ended: bool = False


def prepare(draft: ProjectDraft) -> float | None:
    """Set DatasetReady and Refreshed, and start the prepare Job if it is wanted; returns when to decide again."""
    latest = _observe(draft)
    before = draft.preparations
    if latest.ended:
        draft.preparations = ended(before, ready=latest.ready, now=draft.view.now)
        draft.actions += [RemovePreparation(key) for key in outdated_keys(before, draft.preparations)]
    frame = draft.frame
    if frame is not None:
        draft.conditions.set(ConditionType.DATASET_READY, True, Reason.FRAME_READY, _frame_in_words(frame))
    else:
        draft.conditions.set(ConditionType.DATASET_READY, False, latest.reason, latest.message)
    due = next_preparation(draft.view.project, draft.preparations)
    _set_refreshed(draft, latest, due)
    waits = [
        latest.again,
        max(1.0, (due - draft.view.now).total_seconds()) if due and not draft.suspended else None,
    ]
    return min((wait for wait in waits if wait is not None), default=None)


def _set_refreshed(draft: ProjectDraft, latest: Preparation, due: datetime | None) -> None:
    """Say how the newest preparation that has ended went; while one goes on, what was said of the one before stands."""
    conditions = draft.conditions
    if draft.view.project.spec.dataset.refresh_seconds is None:
        conditions.drop(ConditionType.REFRESHED)
        return
    then = f" It is prepared again at {due:%Y-%m-%dT%H:%M:%SZ}." if due else ""
    if latest.ready:
        conditions.set(
            ConditionType.REFRESHED,
            True,
            latest.reason,
            f"Prepared at {draft.preparations.ended_time:%Y-%m-%dT%H:%M:%SZ}.{then}",
        )
    elif latest.reason not in (Reason.PREPARING, Reason.SUSPENDED):
        stays = f" Frame {draft.frame.name} of an earlier preparation stays in use." if draft.frame else ""
        conditions.set(ConditionType.REFRESHED, False, latest.reason, f"{latest.message[:700]}{stays}{then}")


def _frame_in_words(frame: FrameManifest) -> str:
    rejected = sum(row.count for row in frame.rejected)
    latest = f"Frame {frame.name}: {frame.rows} training rows, {frame.eval_rows} for evaluation"
    return latest + (f", {rejected} rows rejected." if rejected else ".")


def _observe(draft: ProjectDraft) -> Preparation:
    view = draft.view
    if view.frame is not None and view.frame.ready is not None:
        return Preparation(Reason.FRAME_READY, "", ready=True, ended=True)
    if view.frame is not None:
        reason = REASONS.get(view.frame.failed_reason, Reason.PREPARATION_FAILED)
        return Preparation(reason, view.frame.failed_detail, ended=True)
    if view.prepare is None:
        return _start(draft)
    draft.actions += release_failed(newest(view.prepare_pods))
    return _watch(view, view.prepare)


def _start(draft: ProjectDraft) -> Preparation:
    view = draft.view
    if draft.suspended:
        return Preparation(Reason.SUSPENDED, "spec.suspend is true: the data is not prepared.")
    problem = view.refused or view.source_problem
    if problem is not None:
        return Preparation(*problem, again=MISSING_SOURCE_SECONDS)
    draft.actions.append(StartPrepare(current_preparation_id(draft.preparations), frames_to_keep(view)))
    return Preparation(Reason.PREPARING, "The prepare Job is being made.", again=30.0)


def frames_to_keep(view: ProjectView) -> tuple[str, ...] | None:
    """Name the frames that the Project still needs: the one in use, and those of its runs that have not ended.

    None when there is a run of which nobody can say what it reads: one that is accepted and has not written it down,
    or one that this version cannot read.
    """
    frames = {view.project.status.dataset.name} if view.project.status.dataset else set()
    if view.kept is not None and view.kept.ready is not None:
        frames.add(view.kept.ready.name)
    for run in view.runs:
        if is_final(run) or not is_accepted(run):
            continue
        if run.status.resolved is None or not run.status.resolved.frame:
            return None
        frames.add(run.status.resolved.frame)
    return None if view.runs_unreadable else tuple(sorted(frames))


def _watch(view: ProjectView, job: JobView) -> Preparation:
    pod = newest(view.prepare_pods)
    if job.failed:
        cause = outcome_of(job, pod, view.log_tail, claim=names.claim(view.project))
        tail = f" Log: {view.log_tail[-600:]}" if view.log_tail and not (pod and pod.record) else ""
        end = " " if cause.message.endswith(".") else "; "
        hint = f"{end}{cause.hint}" if cause.hint and pod and pod.record else ""
        return Preparation(cause.reason, f"{_on_claim(view, cause.message)}{hint}{tail}", ended=True)
    if job.complete:
        # FRAME_READY is acknowledged before the Job ends, so its ConfigMap was removed by somebody.
        return Preparation(
            Reason.PREPARATION_FAILED,
            f"The prepare Job ended but its result is gone; delete Job {job.name} to prepare again.",
            again=30.0,
        )
    if pod is not None and pod.record is not None and pod.record.outcome == "failed":
        record = pod.record
        hint = f" ({record.hint})" if record.hint else ""
        return Preparation(
            Reason.PREPARING,
            f"A try failed and is made again: {record.reason}: {_on_claim(view, record.message)}{hint}",
            again=30.0,
        )
    if pod is not None and pod.started is not None:
        return Preparation(Reason.PREPARING, f"Pod {pod.name} prepares the frame.", again=60.0)
    wait = waiting_for(job, pod, view.prepare_events)
    late = is_over_limit(wait, now=view.now, job=job, pod=pod)
    return Preparation(wait.failed_reason if late else Reason.PREPARING, f"{wait.reason}: {wait.message}", again=15.0)


def _on_claim(view: ProjectView, message: str) -> str:
    """Name the claim in the place of the directory that the pod sees it at."""
    return message.replace(f"{contract.VOLUME_DIR}/", f"claim {names.claim(view.project)}: ")
