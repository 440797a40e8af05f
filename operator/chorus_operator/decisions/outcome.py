"""The table from what is observed to what is said: why an attempt or a Job failed, and whose fault it was.

The first of `ROWS` that fits gives the Outcome: the first cause in time stands before what it led to.
The rules of a Job's podFailurePolicy are the other side of this table, so that a cause survives the pod:
`POLICY_EXIT_CODES[i]` is rule i + 1, rule 0 is the disruption, the last rule is every other exit code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from chorus_api.reasons import ExitCode, FailureClass, Reason
from chorus_api.scratch import SCRATCH_FIELD
from chorus_operator.decisions.error_line import error_line
from chorus_operator.decisions.observed import JobView, PodView

POLICY_EXIT_CODES = (
    ExitCode.PREEMPTED,
    ExitCode.BAD_CONFIGURATION,
    ExitCode.BAD_DATA,
    ExitCode.NOT_APPLICABLE,
    ExitCode.INTERNAL,
    ExitCode.KILLED,
)


class Actor(StrEnum):
    """Who acts on a failure."""

    USER = "user"
    """Whoever wrote the Plugin, the Project or the run."""
    ADMINISTRATOR = "administrator"
    """Whoever runs the cluster or the namespace's quota."""
    NOBODY = "nobody"
    """It passes, or is tried again."""


@dataclass(frozen=True)
class Outcome:
    """Why an attempt or a Job failed: class, reason, the first cause in words, and what to do about it."""

    failure_class: FailureClass
    reason: Reason
    message: str
    hint: str = ""
    not_applicable: bool = False
    exit_code: int | None = None
    actor: Actor = Actor.USER


@dataclass(frozen=True)
class Observation:
    """A failed Job, and what is left of its pod."""

    job: JobView
    pod: PodView | None = None
    log: str | None = None
    """The end of the main container's log."""


Row = Callable[[Observation], Outcome | None]


_EXITS = {
    ExitCode.PREEMPTED: Outcome(
        FailureClass.DISRUPTION,
        Reason.DISRUPTED,
        "The pod was told to stop, saved its state and can go on.",
        actor=Actor.NOBODY,
    ),
    ExitCode.BAD_CONFIGURATION: Outcome(
        FailureClass.USER,
        Reason.BAD_CONFIGURATION,
        "The configuration cannot be used.",
        "See the log, mend the parameters or the base model, and make a new run.",
    ),
    ExitCode.BAD_DATA: Outcome(
        FailureClass.USER, Reason.BAD_DATA, "The data cannot be used.", "See the log and mend the data or spec.dataset."
    ),
    ExitCode.NOT_APPLICABLE: Outcome(
        FailureClass.USER,
        Reason.NOT_APPLICABLE,
        "The plugin says that it does not suit the frame.",
        not_applicable=True,
    ),
    ExitCode.INTERNAL: Outcome(
        FailureClass.INFRASTRUCTURE,
        Reason.INTERNAL_ERROR,
        "The program met an error of its own.",
        actor=Actor.NOBODY,
    ),
    ExitCode.KILLED: Outcome(
        FailureClass.INFRASTRUCTURE,
        Reason.KILLED,
        "The container was killed (SIGKILL) without saving.",
        actor=Actor.NOBODY,
    ),
}
_OUT_OF_MEMORY = Outcome(
    FailureClass.USER,
    Reason.OUT_OF_MEMORY,
    "The container went over its memory limit and was killed.",
    "Raise the Plugin's resources.limits.memory, or have the program use less.",
)
_JOB_OUT_OF_MEMORY = replace(
    _OUT_OF_MEMORY,
    message=f"{_OUT_OF_MEMORY.message} Raise spec.jobResources.limits.memory of the Project.",
    hint="",
)
_OTHER = Outcome(
    FailureClass.USER,
    Reason.TRAINING_FAILED,
    "The program ended with an error.",
    "See failure.logTail or the pod's log.",
)
_OWN_LIMIT = re.compile(
    r"Usage of EmptyDir volume|Pod ephemeral local storage usage exceeds"
    r"|Container \S+ exceeded its local ephemeral storage limit"
)
"""How the kubelet begins when a pod is evicted for its own limits; of its node's it says that the node was low."""
_OF_THE_PROJECT = ("prepare", "fetch", "publish")
"""Containers whose room is the Project's to set; of all others it is the Plugin's."""
_WITH_JOB_RESOURCES = (*_OF_THE_PROJECT, "exchange")
"""Containers whose memory is the Project's to set, with jobResources."""
REASONS = {reason.value: reason for reason in Reason}
_NOT_STARTED = ("StartError", "ContainerCannotRun")
"""What the kubelet says when the container runtime could not start the command."""
_END_UNKNOWN = ("Unknown", "ContainerStatusUnknown")
"""What a kubelet says of containers that were there before its node was restarted."""
_NODE_STOPS = ("NodeShutdown", "Shutdown", "Terminated", "Preempting", "NodeLost")
"""Reasons of a pod that its node could not keep."""
_TERM_CODE = 143


def outcome_of(job: JobView, pod: PodView | None, log: str | None = None) -> Outcome:
    """Say why a failed Job failed: the first row of the table that fits."""
    observation = Observation(job, pod, log)
    return next(outcome for row in ROWS if (outcome := row(observation)) is not None)


def _over_own_limit(seen: Observation) -> Outcome | None:
    """Tell which field to raise: the same pod would go over the same limit again."""
    pod = seen.pod
    if pod is None or not _OWN_LIMIT.match(pod.evicted):
        return None
    owner = "Project" if pod.container in _OF_THE_PROJECT else "Plugin"
    field = "spec.jobResources" if owner == "Project" else "resources"
    own = f", and its {field}.limits.ephemeral-storage where it sets one"
    return Outcome(
        FailureClass.USER,
        Reason.SCRATCH_FULL,
        f"Pod {pod.name} was evicted{_on_node(pod)}: {pod.evicted.strip()} Raise {SCRATCH_FIELD} of the {owner}{own}.",
        "Or write less to /tmp and to the log: what is large belongs into the run's directory, which is on the claim.",
        exit_code=pod.exit_code,
    )


def _disrupted(seen: Observation) -> Outcome | None:
    """An eviction, a preemption, a drain, or a node that ran out of something: the pod's own words say who did it."""
    pod = seen.pod
    if pod is None or not (pod.disrupted or pod.evicted):
        return None
    what = pod.evicted.strip() or pod.disrupted
    return _disruption(f"Pod {pod.name} was disrupted{_on_node(pod)}: {what}", pod.exit_code)


def _node_restarted(seen: Observation) -> Outcome | None:
    pod = seen.pod
    if pod is None or pod.terminated_reason not in _END_UNKNOWN:
        return None
    where = f"Node {pod.node}" if pod.node else "Its node"
    return _disruption(f"{where} was stopped or restarted while pod {pod.name} ran.", pod.exit_code)


def _pod_rejected(seen: Observation) -> Outcome | None:
    """A pod that the kubelet ended or never admitted, such as UnexpectedAdmissionError: no container says anything."""
    pod = seen.pod
    if pod is None or pod.phase != "Failed" or pod.exit_code is not None or not pod.pod_reason:
        return None
    message = f"Pod {pod.name} was refused{_on_node(pod)}: {pod.pod_reason}: {pod.pod_message}".rstrip(": ")
    if pod.pod_reason in _NODE_STOPS:
        return _disruption(message, None)
    return Outcome(FailureClass.INFRASTRUCTURE, Reason.POD_REJECTED, message, actor=Actor.ADMINISTRATOR)


def _not_started(seen: Observation) -> Outcome | None:
    pod = seen.pod
    if pod is None or pod.terminated_reason not in _NOT_STARTED:
        return None
    return Outcome(
        FailureClass.USER,
        Reason.CONTAINER_CONFIG_ERROR,
        f"The container could not be started: {pod.raw_message.strip()} (pod {pod.name})",
        "Correct the command, or the image that should hold it.",
        exit_code=pod.exit_code,
    )


def _deleted(seen: Observation) -> Outcome | None:
    """SIGTERM ended a program that does not heed it, in a pod that somebody deleted."""
    pod = seen.pod
    if pod is None or pod.deleting_since is None or pod.exit_code not in (_TERM_CODE, ExitCode.KILLED):
        return None
    if pod.terminated_reason == "OOMKilled":
        return None
    return _disruption(f"Somebody deleted pod {pod.name}{_on_node(pod)}.", pod.exit_code)


def _by_exit(seen: Observation) -> Outcome | None:
    """The exit code, and the program's own last word where it left one, else the last error in its log."""
    pod = seen.pod
    if pod is None or pod.exit_code in (None, 0):
        return None
    code = pod.exit_code or 0
    out_of_memory = _JOB_OUT_OF_MEMORY if pod.container in _WITH_JOB_RESOURCES else _OUT_OF_MEMORY
    general = out_of_memory if pod.terminated_reason == "OOMKilled" else _EXITS.get(code, _OTHER)
    general = replace(general, exit_code=code)
    record = pod.record or pod.forwarded
    if record is None or record.outcome == "succeeded":
        said = error_line(seen.log) if general.reason is _OTHER.reason and seen.log else ""
        return replace(general, message=f"{said or general.message} (pod {pod.name}, exit code {code})")
    told = replace(
        general,
        reason=REASONS.get(record.reason, general.reason),
        message=record.message or general.message,
        hint=record.hint or general.hint,
    )
    if record.retryable and general.reason is _OTHER.reason:
        return replace(told, failure_class=FailureClass.INFRASTRUCTURE, actor=Actor.NOBODY)
    return told


def _by_rule(seen: Observation) -> Outcome | None:
    """The pod is gone: the Job's condition names the rule that failed it."""
    job, rule = seen.job, seen.job.failed_rule
    if rule is None:
        return None
    if rule == 0:
        return _disruption(f"A pod of Job {job.name} was disrupted: {job.message}", None)
    code = POLICY_EXIT_CODES[rule - 1] if rule <= len(POLICY_EXIT_CODES) else None
    general = _OTHER if code is None else _EXITS[code]
    return replace(general, message=f"{general.message} ({job.message})", exit_code=code)


def _too_long(seen: Observation) -> Outcome | None:
    if seen.job.reason != "DeadlineExceeded":
        return None
    message = seen.job.message or f"Job {seen.job.name} took longer than its deadline."
    return Outcome(FailureClass.USER, Reason.ACTIVE_DEADLINE_EXCEEDED, message)


def _unknown(seen: Observation) -> Outcome:
    job = seen.job
    message = f"Job {job.name} failed: {job.reason} {job.message}".strip()
    return Outcome(FailureClass.INFRASTRUCTURE, Reason.INTERNAL_ERROR, message, actor=Actor.NOBODY)


def _disruption(message: str, exit_code: int | None) -> Outcome:
    return Outcome(FailureClass.DISRUPTION, Reason.DISRUPTED, message, exit_code=exit_code, actor=Actor.NOBODY)


def _on_node(pod: PodView) -> str:
    return f" on node {pod.node}" if pod.node else ""


ROWS: tuple[Row, ...] = (
    _over_own_limit,
    _disrupted,
    _node_restarted,
    _pod_rejected,
    _not_started,
    _too_long,
    _deleted,
    _by_exit,
    _by_rule,
    _unknown,
)
"""The table, the first cause first. The last row fits everything."""
