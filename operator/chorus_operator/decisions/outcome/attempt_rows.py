"""Rows about attempts whose Jobs have not failed: a refusal, no model, a Job or node that is gone, a deadline."""

from __future__ import annotations

from dataclasses import dataclass

from chorus_api.reasons import FailureClass, Reason
from chorus_operator.decisions.outcome.model import Actor, Deadline, Observation, Outcome, Row
from chorus_operator.decisions.outcome.plugin_words import told_by_plugin

UNSUITABLE = Outcome(FailureClass.USER, Reason.NOT_APPLICABLE, not_applicable=True)
UNNAMED = Outcome(
    FailureClass.USER,
    Reason.MODEL_NAME_MISSING,
    "The container ended with exit code 0, and never sent MODEL_NAME.",
    "Send MODEL_NAME before the end, or end with another exit code; see docs/write-a-plugin.md.",
)
NODE_LOST = Outcome(FailureClass.DISRUPTION, Reason.NODE_LOST, actor=Actor.NOBODY)
JOB_DELETED = Outcome(FailureClass.INFRASTRUCTURE, Reason.JOB_DELETED, actor=Actor.NOBODY)
_ADMINISTRATORS = (Reason.JOB_REJECTED, Reason.VOLUME_NOT_BOUND)
"""Blocks that whoever runs the cluster or sets the quota can end."""
BLOCKS = tuple(
    Outcome(
        FailureClass.USER,
        reason,
        hint=hint,
        actor=Actor.ADMINISTRATOR if reason in _ADMINISTRATORS else Actor.USER,
        final=True,
    )
    for reason, hint in (
        (Reason.IMAGE_PULL_FAILED, "Correct the image's name or spec.pod.imagePullSecrets, and make a new run."),
        (Reason.CONTAINER_CONFIG_ERROR, "Create what the message says is missing, and make a new run."),
        (Reason.SECRET_NOT_FOUND, "Create the Secret, and make a new run."),
        (Reason.CONFIG_MAP_NOT_FOUND, "Create the ConfigMap, and make a new run."),
        (Reason.VOLUME_NOT_BOUND, "Correct spec.storage, or have the StorageClass created; then make a new run."),
        (Reason.JOB_REJECTED, "Free or raise the quota, or correct what admission refuses; then make a new run."),
    )
)


@dataclass(frozen=True)
class _Passed:
    outcome: Outcome
    message: str
    """A template: seconds, pod and detail are filled in."""


def _late(reason: Reason, hint: str, *, actor: Actor = Actor.USER) -> Outcome:
    return Outcome(FailureClass.USER, reason, hint=hint, actor=actor, final=True)


DEADLINES = {
    Deadline.ACTIVE: _Passed(
        _late(Reason.ACTIVE_DEADLINE_EXCEEDED, "Raise deadlines.activeSeconds, or train less."),
        "The run took longer than deadlines.activeSeconds ({seconds} s).",
    ),
    Deadline.START: _Passed(
        _late(
            Reason.START_DEADLINE_EXCEEDED,
            "Free or add what the message says is missing, or raise deadlines.startSeconds; then make a new run.",
            actor=Actor.ADMINISTRATOR,
        ),
        "No pod started within deadlines.startSeconds ({seconds} s): {detail}",
    ),
    Deadline.DATA_REPORT: _Passed(
        _late(
            Reason.DATA_REPORT_DEADLINE_EXCEEDED,
            "See failure.logTail, and whether pods of the namespace reach the operator; or raise "
            "deadlines.dataReportSeconds.",
        ),
        "No DATA_REPORT within deadlines.dataReportSeconds ({seconds} s) of the start of pod {pod}.{detail}",
    ),
    Deadline.TRAINING_START: _Passed(
        _late(
            Reason.TRAINING_START_DEADLINE_EXCEEDED,
            "See failure.logTail; raise deadlines.trainingStartSeconds if it prepares for that long.",
        ),
        "No TRAINING_START within deadlines.trainingStartSeconds ({seconds} s) of the last word of pod {pod}.",
    ),
    Deadline.PROGRESS: _Passed(
        _late(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            "See failure.logTail for what it did last; raise deadlines.progressSeconds if its steps are that slow.",
        ),
        "Pod {pod} has said nothing for deadlines.progressSeconds ({seconds} s).",
    ),
    Deadline.MODEL_NAME: _Passed(
        _late(
            Reason.MODEL_NAME_DEADLINE_EXCEEDED,
            "See the service's log; raise deadlines.modelNameSeconds if it takes that long to leave its model.",
        ),
        "No MODEL_NAME within deadlines.modelNameSeconds ({seconds} s) of progress of 100 percent.",
    ),
}


def _unsuitable(seen: Observation) -> Outcome | None:
    return UNSUITABLE.saying(seen.refusal) if seen.refusal else None


def _unnamed(seen: Observation) -> Outcome | None:
    return told_by_plugin(UNNAMED, seen.error) if seen.unnamed else None


def _lost(seen: Observation) -> Outcome | None:
    return NODE_LOST.saying(seen.lost) if seen.lost else None


def _job_deleted(seen: Observation) -> Outcome | None:
    return JOB_DELETED.saying(f"Job of attempt {seen.attempt} was deleted by somebody.") if seen.gone else None


def _blocked(seen: Observation) -> Outcome | None:
    wait = seen.blocked
    if wait is None:
        return None
    cause = next((each for each in BLOCKS if each.reason is wait.failed_reason), None)
    return (cause or Outcome(FailureClass.USER, wait.failed_reason, final=True)).saying(wait.message)


def _overdue(seen: Observation) -> Outcome | None:
    late = seen.overdue
    if late is None:
        return None
    passed = DEADLINES[late.deadline]
    message = passed.message.format(seconds=late.seconds, pod=late.pod, detail=late.detail)
    return passed.outcome.saying(message)


REFUSAL_ROWS = (Row("The plugin says that it does not suit the frame", (UNSUITABLE,), _unsuitable),)
ATTEMPT_ROWS = (
    Row("The node does not come back", (NODE_LOST,), _lost),
    Row("Somebody deleted the Job", (JOB_DELETED,), _job_deleted),
    Row("The container ended with exit code 0 and named no model", (UNNAMED,), _unnamed),
    Row("Something keeps the pod from starting for longer than it may", BLOCKS, _blocked),
    Row("A deadline has passed", tuple(each.outcome for each in DEADLINES.values()), _overdue),
)
