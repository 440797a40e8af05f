"""Whether the training frame is ready, and what keeps it from being so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chorus_api.messages import FrameManifest
from chorus_api.reasons import Reason
from chorus_operator.rules import names
from chorus_operator.rules.classify import REASONS, cause_of
from chorus_operator.rules.decision import StartPrepare
from chorus_operator.rules.observed import newest
from chorus_operator.rules.startup import waited, waiting_for

if TYPE_CHECKING:
    from chorus_operator.rules.project import ProjectDraft

MISSING_SOURCE_SECONDS = 30.0


@dataclass(frozen=True)
class FrameResult:
    """What the prepare Job reported: a frame, or why there is none."""

    ready: FrameManifest | None = None
    failed_reason: str = ""
    failed_detail: str = ""


def prepare(draft: ProjectDraft) -> float | None:
    """Set DatasetReady and start the prepare Job if it is wanted; returns when to look again."""
    view, conditions = draft.view, draft.conditions
    if view.frame is not None and view.frame.ready is not None:
        frame = view.frame.ready
        rejected = sum(row.count for row in frame.rejected)
        told = f"Frame {frame.name}: {frame.rows} training rows, {frame.eval_rows} for evaluation"
        conditions.set(
            "DatasetReady", True, Reason.FRAME_READY, told + (f", {rejected} rows rejected." if rejected else ".")
        )
        return None
    if view.frame is not None:
        reason = REASONS.get(view.frame.failed_reason, Reason.PREPARATION_FAILED)
        conditions.set("DatasetReady", False, reason, view.frame.failed_detail)
        return None
    if view.prepare is None:
        return _start(draft)
    return _watch(draft)


def _start(draft: ProjectDraft) -> float | None:
    view, conditions = draft.view, draft.conditions
    if draft.suspended:
        conditions.set("DatasetReady", False, Reason.SUSPENDED, "spec.suspend is true: the data is not prepared.")
        return None
    if view.source_problem is not None:
        conditions.set("DatasetReady", False, *view.source_problem)
        return MISSING_SOURCE_SECONDS
    draft.actions.append(StartPrepare(names.prepare_key(view.project)))
    conditions.set("DatasetReady", False, Reason.PREPARING, "The prepare Job is being made.")
    return 30.0


def _watch(draft: ProjectDraft) -> float | None:
    view, conditions = draft.view, draft.conditions
    assert view.prepare is not None
    pod = newest(view.prepare_pods)
    if view.prepare.failed:
        cause = cause_of(view.prepare, pod)
        tail = f" Log: {view.log_tail[-600:]}" if view.log_tail and not (pod and pod.record) else ""
        hint = f" {cause.hint}" if cause.hint and pod and pod.record else ""
        conditions.set("DatasetReady", False, cause.reason, f"{cause.message}{hint}{tail}")
        return None
    if view.prepare.complete:
        # FRAME_READY is acknowledged before the Job ends, so its ConfigMap was removed by somebody.
        conditions.set(
            "DatasetReady",
            False,
            Reason.PREPARATION_FAILED,
            f"The prepare Job ended but its result is gone; delete Job {view.prepare.name} to prepare again.",
        )
        return 30.0
    if pod is not None and pod.started is not None:
        conditions.set("DatasetReady", False, Reason.PREPARING, f"Pod {pod.name} prepares the frame.")
        return 60.0
    wait = waiting_for(view.prepare, pod)
    late = wait.limit_seconds is not None and waited(now=view.now, job=view.prepare, pod=pod) > wait.limit_seconds
    conditions.set(
        "DatasetReady", False, wait.failed_reason if late else Reason.PREPARING, f"{wait.reason}: {wait.message}"
    )
    return 15.0
