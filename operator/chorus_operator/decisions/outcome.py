"""Why an attempt failed, and whose fault it was: from the pod if it is still there, else from the Job's condition.

The rules of the Job's podFailurePolicy and the readings here are two sides of one table, so that the cause survives the
pod: `POLICY_EXIT_CODES[i]` is rule i + 1, rule 0 is the disruption, the last rule is every other exit code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chorus_api.reasons import ExitCode, FailureClass, Reason
from chorus_api.scratch import SCRATCH_FIELD
from chorus_operator.decisions.observed import JobView, PodView

POLICY_EXIT_CODES = (
    ExitCode.PREEMPTED,
    ExitCode.BAD_CONFIGURATION,
    ExitCode.BAD_DATA,
    ExitCode.NOT_APPLICABLE,
    ExitCode.INTERNAL,
    ExitCode.KILLED,
)


@dataclass(frozen=True)
class FailureCause:
    """Why an attempt or a Job failed."""

    failure_class: FailureClass
    reason: Reason
    message: str
    hint: str = ""
    not_applicable: bool = False
    exit_code: int | None = None


@dataclass(frozen=True)
class _Meaning:
    failure_class: FailureClass
    reason: Reason
    message: str
    hint: str = ""


_EXITS = {
    ExitCode.PREEMPTED: _Meaning(
        FailureClass.DISRUPTION, Reason.DISRUPTED, "The pod was told to stop, saved its state and can go on."
    ),
    ExitCode.BAD_CONFIGURATION: _Meaning(
        FailureClass.USER,
        Reason.BAD_CONFIGURATION,
        "The configuration cannot be used.",
        "See the log, mend the parameters or the base model, and make a new run.",
    ),
    ExitCode.BAD_DATA: _Meaning(
        FailureClass.USER, Reason.BAD_DATA, "The data cannot be used.", "See the log and mend the data or spec.dataset."
    ),
    ExitCode.NOT_APPLICABLE: _Meaning(
        FailureClass.USER, Reason.NOT_APPLICABLE, "The plugin says that it does not suit the frame."
    ),
    ExitCode.INTERNAL: _Meaning(
        FailureClass.INFRASTRUCTURE, Reason.INTERNAL_ERROR, "The program met an error of its own."
    ),
    ExitCode.KILLED: _Meaning(
        FailureClass.INFRASTRUCTURE, Reason.KILLED, "The container was killed (SIGKILL) without saving."
    ),
}
_OUT_OF_MEMORY = _Meaning(
    FailureClass.USER,
    Reason.OUT_OF_MEMORY,
    "The container went over its memory limit and was killed.",
    "Raise the Plugin's resources.limits.memory, or lower batchSize or the token limits.",
)
_OTHER = _Meaning(
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
REASONS = {reason.value: reason for reason in Reason}


def cause_of(job: JobView, pod: PodView | None) -> FailureCause:
    """Tell why a failed Job failed.

    Evidence in order: an eviction for the pod's own limits, a disruption of the pod, its exit and own last word, the
    Job's policy rule, the Job's reason.
    """
    if pod is not None and _OWN_LIMIT.match(pod.evicted):
        return _evicted(pod)
    if pod is not None and pod.disrupted:
        return FailureCause(FailureClass.DISRUPTION, Reason.DISRUPTED, f"Pod {pod.name} was disrupted: {pod.disrupted}")
    if pod is not None and pod.exit_code not in (None, 0):
        return _from_pod(pod)
    if job.failed_rule is not None:
        return _from_rule(job, job.failed_rule)
    if job.reason == "DeadlineExceeded":
        return FailureCause(FailureClass.USER, Reason.ACTIVE_DEADLINE_EXCEEDED, job.message)
    return FailureCause(
        FailureClass.INFRASTRUCTURE, Reason.INTERNAL_ERROR, f"Job {job.name} failed: {job.reason} {job.message}".strip()
    )


def _evicted(pod: PodView) -> FailureCause:
    """Tell which field to raise: the same pod would go over the same limit again."""
    owner = "Project" if pod.container in _OF_THE_PROJECT else "Plugin"
    own = "" if owner == "Project" else ", and its resources.limits.ephemeral-storage where it sets one"
    return FailureCause(
        FailureClass.USER,
        Reason.SCRATCH_FULL,
        f"Pod {pod.name} was evicted: {pod.evicted.strip()} Raise {SCRATCH_FIELD} of the {owner}{own}.",
        "Or write less to /tmp and to the log: what is large belongs into the run's directory, which is on the claim.",
        exit_code=pod.exit_code,
    )


def _from_pod(pod: PodView) -> FailureCause:
    code = pod.exit_code or 0
    meaning = _OUT_OF_MEMORY if pod.terminated_reason == "OOMKilled" else _EXITS.get(code, _OTHER)
    record = pod.record
    if record is None or record.outcome == "succeeded":
        return FailureCause(
            meaning.failure_class,
            meaning.reason,
            f"{meaning.message} (pod {pod.name}, exit code {code})",
            meaning.hint,
            code == ExitCode.NOT_APPLICABLE,
            code,
        )
    return FailureCause(
        FailureClass.INFRASTRUCTURE if record.retryable and meaning is _OTHER else meaning.failure_class,
        REASONS.get(record.reason, meaning.reason),
        record.message or meaning.message,
        record.hint or meaning.hint,
        code == ExitCode.NOT_APPLICABLE,
        code,
    )


def _from_rule(job: JobView, rule: int) -> FailureCause:
    if rule == 0:
        return FailureCause(
            FailureClass.DISRUPTION, Reason.DISRUPTED, f"A pod of Job {job.name} was disrupted: {job.message}"
        )
    if rule <= len(POLICY_EXIT_CODES):
        code = POLICY_EXIT_CODES[rule - 1]
        meaning = _EXITS[code]
        return FailureCause(
            meaning.failure_class,
            meaning.reason,
            f"{meaning.message} ({job.message})",
            meaning.hint,
            code == ExitCode.NOT_APPLICABLE,
            code,
        )
    return FailureCause(_OTHER.failure_class, _OTHER.reason, f"{_OTHER.message} ({job.message})", _OTHER.hint)
