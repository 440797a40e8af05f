"""Rows about Jobs that have failed: what the pod's status, its exit code, its record and its log say.

The rules of a Job's podFailurePolicy are the other side of these rows, so that a cause survives the pod:
`POLICY_EXIT_CODES[i]` is rule i + 1, rule 0 is the disruption, the last rule is every other exit code.
"""

from __future__ import annotations

import re
from dataclasses import replace

from chorus_api.reasons import ExitCode, FailureClass, Reason
from chorus_api.run_config import TerminationRecord
from chorus_api.scratch import SCRATCH_FIELD
from chorus_operator.decisions.error_line import error_line
from chorus_operator.decisions.observed import PodView
from chorus_operator.decisions.outcome.model import Actor, Match, Observation, Outcome, Row
from chorus_operator.decisions.outcome.plugin_words import REASONS, told_by_plugin

POLICY_EXIT_CODES = (
    ExitCode.PREEMPTED,
    ExitCode.BAD_CONFIGURATION,
    ExitCode.BAD_DATA,
    ExitCode.NOT_APPLICABLE,
    ExitCode.INTERNAL,
    ExitCode.KILLED,
)
DISRUPTED = Outcome(FailureClass.DISRUPTION, Reason.DISRUPTED, actor=Actor.NOBODY)
SCRATCH_FULL = Outcome(
    FailureClass.USER,
    Reason.SCRATCH_FULL,
    hint="Or write less to /tmp and to the log: what is large belongs into the run's directory, which is on the claim.",
)
POD_REJECTED = Outcome(
    FailureClass.INFRASTRUCTURE,
    Reason.POD_REJECTED,
    hint="If it happens again: see the node's devices and its kubelet.",
    actor=Actor.ADMINISTRATOR,
)
NOT_STARTED = Outcome(
    FailureClass.USER, Reason.CONTAINER_CONFIG_ERROR, hint="Correct the command, or the image that should hold it."
)
TOO_LONG = Outcome(FailureClass.USER, Reason.ACTIVE_DEADLINE_EXCEEDED, final=True)
VOLUME_FULL = Outcome(
    FailureClass.INFRASTRUCTURE, Reason.VOLUME_FULL, hint="Make room on the Project's claim, or have it enlarged."
)
OUT_OF_MEMORY = Outcome(
    FailureClass.USER,
    Reason.OUT_OF_MEMORY,
    "The container went over its memory limit and was killed.",
    "Raise the Plugin's resources.limits.memory, or have the program use less.",
)
JOB_OUT_OF_MEMORY = replace(
    OUT_OF_MEMORY,
    message=f"{OUT_OF_MEMORY.message} Raise spec.jobResources.limits.memory of the Project.",
    hint="",
)
OTHER_EXIT = Outcome(
    FailureClass.USER,
    Reason.TRAINING_FAILED,
    "The program ended with an error.",
    "See failure.logTail or the pod's log.",
)
EXITS = {
    ExitCode.PREEMPTED: replace(DISRUPTED, message="The pod was told to stop, saved its state and can go on."),
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
UNKNOWN = Outcome(FailureClass.INFRASTRUCTURE, Reason.INTERNAL_ERROR, actor=Actor.NOBODY)

_OWN_LIMIT = re.compile(
    r"Usage of EmptyDir volume|Pod ephemeral local storage usage exceeds"
    r"|Container \S+ exceeded its local ephemeral storage limit"
)
"""How the kubelet begins when a pod is evicted for its own limits; of its node's it says that the node was low."""
_OF_THE_PROJECT = ("prepare", "fetch", "publish")
"""Containers whose room is the Project's to set; of all others it is the Plugin's."""
_WITH_JOB_RESOURCES = (*_OF_THE_PROJECT, "exchange")
"""Containers whose memory is the Project's to set, with jobResources."""
_NOT_STARTED = ("StartError", "ContainerCannotRun")
"""What the kubelet says when the container runtime could not start the command."""
_RUNTIME_PREAMBLE = re.compile(r"^.*(?:container init|container process): (?=.)", re.DOTALL)
"""What containerd and runc put before the cause: who called whom."""
_END_UNKNOWN = ("Unknown", "ContainerStatusUnknown")
"""What a kubelet says of containers that were there before its node was restarted."""
_NODE_STOPS = ("NodeShutdown", "Shutdown", "Terminated", "Preempting", "NodeLost")
"""Reasons of a pod that its node could not keep."""
_NO_ROOM = re.compile(r"^.*(?:No space left on device|Disk quota exceeded).*$", re.MULTILINE)
"""What a program writes whose volume is full; Python's logging may follow it with a traceback of its own."""
SIGTERM_OR_KILL = (143, ExitCode.KILLED)
"""Exit codes of a program that does not heed SIGTERM: from it, or from the SIGKILL that follows."""


def _over_own_limit(seen: Observation) -> Outcome | None:
    """Tell which field to raise: the same pod would go over the same limit again."""
    pod = seen.pod
    if pod is None or not _OWN_LIMIT.match(pod.evicted):
        return None
    owner = "Project" if pod.container in _OF_THE_PROJECT else "Plugin"
    field = "spec.jobResources" if owner == "Project" else "resources"
    own = f", and its {field}.limits.ephemeral-storage where it sets one"
    return SCRATCH_FULL.saying(
        f"{pod.evicted.strip()} Raise {SCRATCH_FIELD} of the {owner}{own}. ({_place(pod)} was evicted.)",
        exit_code=pod.exit_code,
    )


def _disrupted(seen: Observation) -> Outcome | None:
    """Quote the pod: its condition or the kubelet's message says who disrupted it."""
    pod = seen.pod
    if pod is None or not (pod.disrupted or pod.evicted) or _ended_before_disruption(pod):
        return None
    what = pod.evicted.strip() or pod.disrupted
    return DISRUPTED.saying(f"{what} ({_place(pod)} was disrupted.)", exit_code=pod.exit_code)


def _node_restarted(seen: Observation) -> Outcome | None:
    pod = seen.pod
    if pod is None or pod.terminated_reason not in _END_UNKNOWN:
        return None
    where = f"Node {pod.node}" if pod.node else "Its node"
    return DISRUPTED.saying(f"{where} was stopped or restarted while pod {pod.name} ran.", exit_code=pod.exit_code)


def _pod_rejected(seen: Observation) -> Outcome | None:
    """Quote the kubelet about a pod that it ended or never admitted: no container says anything."""
    pod = seen.pod
    if pod is None or pod.phase != "Failed" or pod.exit_code is not None or not pod.pod_reason:
        return None
    message = f"{pod.pod_reason}: {pod.pod_message}".rstrip(": .")
    message = f"{message} ({_place(pod)} was refused.)"
    return (DISRUPTED if pod.pod_reason in _NODE_STOPS else POD_REJECTED).saying(message)


def _not_started(seen: Observation) -> Outcome | None:
    pod = seen.pod
    if pod is None or pod.terminated_reason not in _NOT_STARTED:
        return None
    words = _RUNTIME_PREAMBLE.sub("", pod.raw_message.strip())
    return NOT_STARTED.saying(f"The container could not be started: {words} (pod {pod.name})", exit_code=pod.exit_code)


def _too_long(seen: Observation) -> Outcome | None:
    job = seen.job
    if job is None or job.reason != "DeadlineExceeded":
        return None
    return TOO_LONG.saying(job.message or f"Job {job.name} took longer than its deadline.")


def _deleted(seen: Observation) -> Outcome | None:
    """SIGTERM ended a program that does not heed it, in a pod that somebody deleted."""
    pod = seen.pod
    if pod is None or pod.deleting_since is None or pod.exit_code not in SIGTERM_OR_KILL:
        return None
    if pod.terminated_reason == "OOMKilled":
        return None
    return somebody_deleted(pod)


def somebody_deleted(pod: PodView) -> Outcome:
    """Say that a pod was deleted; nobody knows by whom."""
    where = f" on node {pod.node}" if pod.node else ""
    return DISRUPTED.saying(f"Somebody deleted pod {pod.name}{where}.", exit_code=pod.exit_code)


def _no_room(seen: Observation) -> Outcome | None:
    """A full volume stands before whatever else the log ends with."""
    pod = seen.pod
    if pod is None or pod.exit_code in (None, 0) or pod.terminated_reason == "OOMKilled":
        return None
    record = _record(pod)
    if record is not None:
        words = record.message if record.reason == VOLUME_FULL.reason.value else ""
    else:
        found = _NO_ROOM.findall(seen.log or "") if pod.exit_code not in EXITS else []
        words = (
            f"The volume is full: {error_line(found[-1])} (pod {pod.name}, exit code {pod.exit_code})" if found else ""
        )
    if not words:
        return None
    full = VOLUME_FULL.saying(words, exit_code=pod.exit_code)
    return replace(full, hint=f"Make room on claim {seen.claim}, or have it enlarged.") if seen.claim else full


def by_exit(seen: Observation) -> Outcome | None:
    """Read the exit code, and the program's own last word where it left one, else the last error in its log."""
    pod = seen.pod
    if pod is None or pod.exit_code in (None, 0):
        return None
    code = pod.exit_code or 0
    out_of_memory = JOB_OUT_OF_MEMORY if pod.container in _WITH_JOB_RESOURCES else OUT_OF_MEMORY
    general = out_of_memory if pod.terminated_reason == "OOMKilled" else EXITS.get(code, OTHER_EXIT)
    general = replace(general, exit_code=code)
    record = _record(pod)
    if record is None:
        said = error_line(seen.log) if general.reason is OTHER_EXIT.reason and seen.log else ""
        cause = replace(general, message=f"{said or general.message} (pod {pod.name}, exit code {code})")
        return told_by_plugin(cause, seen.error)
    told = replace(
        general,
        reason=REASONS.get(record.reason, general.reason),
        message=record.message or general.message,
        hint=record.hint or general.hint,
    )
    if record.retryable and general.reason is OTHER_EXIT.reason:
        return replace(told, failure_class=FailureClass.INFRASTRUCTURE, actor=Actor.NOBODY)
    return told


def _by_rule(seen: Observation) -> Outcome | None:
    """The pod is gone: the Job's condition has the exit code, or the rule that failed it."""
    job = seen.job
    rule = job.failed_rule if job is not None else None
    if job is None or rule is None:
        return None
    code = job.failed_exit_code
    if code is None and rule == 0:
        return DISRUPTED.saying(f"A pod of Job {job.name} was disrupted: {job.message}")
    if code is None and rule <= len(POLICY_EXIT_CODES):
        code = POLICY_EXIT_CODES[rule - 1]
    general = OTHER_EXIT if code is None else EXITS.get(code, OTHER_EXIT)
    return told_by_plugin(general.saying(f"{general.message} ({job.message})", exit_code=code), seen.error)


def _unknown(seen: Observation) -> Outcome | None:
    job = seen.job
    return UNKNOWN.saying(f"Job {job.name} failed: {job.reason} {job.message}".strip()) if job is not None else None


def _record(pod: PodView) -> TerminationRecord | None:
    """Read what the program, or the sidecar for it, left in the pod's status about its failure."""
    record = pod.record or pod.forwarded
    return record if record is not None and record.outcome != "succeeded" else None


def _ended_before_disruption(pod: PodView) -> bool:
    """Tell whether the container was already killed for its memory when the pod was disrupted."""
    if pod.terminated_reason != "OOMKilled" or pod.finished is None or pod.disrupted_since is None:
        return False
    return pod.finished < pod.disrupted_since


def _place(pod: PodView) -> str:
    return f"Pod {pod.name} on node {pod.node}" if pod.node else f"Pod {pod.name}"


def of_failed_job(fault: str, match: Match, *outcomes: Outcome) -> Row:
    """Make a row that is asked only of a Job that has failed."""

    def match_failed(seen: Observation) -> Outcome | None:
        failed = seen.main_ended or (seen.job is not None and seen.job.failed)
        return match(seen) if failed else None

    return Row(fault, outcomes, match_failed)


CLUSTER_ROWS = (
    of_failed_job("The pod wrote more than it may to its node's disk, and was evicted", _over_own_limit, SCRATCH_FULL),
    of_failed_job("An eviction, a preemption, a drain, or a node that ran out of something", _disrupted, DISRUPTED),
    of_failed_job("The node was stopped and started again", _node_restarted, DISRUPTED),
    of_failed_job("The kubelet refused or ended the pod", _pod_rejected, POD_REJECTED, DISRUPTED),
    of_failed_job("The container runtime could not start the command", _not_started, NOT_STARTED),
    of_failed_job("A CPU Job ran for longer than 6 hours", _too_long, TOO_LONG),
    of_failed_job("Somebody deleted the pod, and SIGTERM ended its program", _deleted, DISRUPTED),
    of_failed_job("A volume is full", _no_room, VOLUME_FULL),
)
"""What the cluster did to the pod: it stands before the exit that it led to."""
EXIT_ROWS = (
    of_failed_job(
        "The program ended with an exit code other than 0",
        by_exit,
        OUT_OF_MEMORY,
        JOB_OUT_OF_MEMORY,
        *EXITS.values(),
        OTHER_EXIT,
    ),
    of_failed_job("The same, and the pod is gone", _by_rule, DISRUPTED, *EXITS.values(), OTHER_EXIT),
    of_failed_job("The Job failed for another reason", _unknown, UNKNOWN),
)
"""How the program ended."""
