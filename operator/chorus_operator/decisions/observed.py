"""What the operator sees of Jobs and pods, reduced to what decisions need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from chorus_api import contract
from chorus_api.run_config import TerminationRecord


def parse_time(text: str | None) -> datetime | None:
    """Read an API server's time."""
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class JobView:
    """A Job."""

    name: str
    uid: str
    resource_version: str
    created: datetime | None
    suspended: bool
    complete: bool
    failed: bool
    stopped: bool
    """The Job controller has stopped its pods for `spec.suspend` and has not gone on since."""
    reason: str
    message: str
    deleting: bool
    active: int
    suspended_by_chorus: bool = False
    resumed: datetime | None = None
    """When it was last let go on, after somebody had suspended it."""
    frozen_digest: str = ""
    """Digest of the frozen configuration that it was made from."""

    @property
    def finished(self) -> bool:
        """Whether the Job has ended, one way or the other."""
        return self.complete or self.failed

    @property
    def failed_rule(self) -> int | None:
        """Index of the podFailurePolicy rule that failed the Job: it outlives the pod."""
        found = re.search(r"rule at index (\d+)", self.message) if self.reason == "PodFailurePolicy" else None
        return int(found.group(1)) if found else None

    @property
    def failed_exit_code(self) -> int | None:
        """Exit code that failed the Job by a rule of its podFailurePolicy: it outlives the pod."""
        found = re.search(r"failed with exit code (\d+)", self.message) if self.failed_rule is not None else None
        return int(found.group(1)) if found else None


@dataclass(frozen=True)
class EventView:
    """A Kubernetes Event about an object."""

    kind: str
    name: str
    reason: str
    message: str
    time: float
    """When it was seen last, in seconds since 1970."""
    since: float = 0.0
    """When it was seen first."""


@dataclass(frozen=True)
class JobPods:
    """One of the Jobs that an attempt wants, by its role, and the pods of it. The Job may be gone before its pods."""

    role: str
    job: JobView | None = None
    pods: Sequence[PodView] = ()
    events: Sequence[EventView] = ()
    """About what blocks the pod, oldest first."""


def leading(jobs: Sequence[JobPods]) -> JobPods | None:
    """Pick the Job that an attempt's state turns on: one that failed, is missing or goes on; else the last one."""
    for concerns in (lambda job: job is not None and job.failed, lambda job: job is None, lambda job: not job.finished):
        for each in jobs:
            if concerns(each.job):
                return each
    return jobs[-1] if jobs else None


@dataclass(frozen=True)
class PodView:
    """A pod and its main container."""

    name: str
    uid: str
    node: str | None
    phase: str
    created: datetime | None
    started: datetime | None
    deleting_since: datetime | None
    grace_seconds: int
    waiting_reason: str
    waiting_message: str
    unschedulable: str
    disrupted: str
    container: str
    exit_code: int | None
    signal: int | None
    terminated_reason: str
    record: TerminationRecord | None
    raw_message: str
    forwarded: TerminationRecord | None
    """What a sidecar could not deliver of the main container's last message."""
    forwarding: bool
    """Whether a sidecar still runs: it may have messages of the main container to send."""
    pod_reason: str
    """Why the pod as a whole failed, such as UnexpectedAdmissionError."""
    pod_message: str
    finished: datetime | None
    """When the main container ended, by the clock of its node."""
    disrupted_since: datetime | None
    runs_on: str
    """Containers beside the main one that run, in words; a native sidecar is none of them, for the kubelet ends it."""
    tracked: bool
    """Whether the Job controller has yet to take note of how it ends: until then its Job may fail for it."""

    @property
    def evicted(self) -> str:
        """What the kubelet said when it evicted the pod: for its own limits, or for its node's."""
        return self.pod_message if self.pod_reason == "Evicted" else ""

    @property
    def ended(self) -> bool:
        """Whether no container of it runs any more."""
        return self.phase in ("Succeeded", "Failed")


def job_view(job: Mapping[str, Any] | None) -> JobView | None:
    """Reduce a Job."""
    if job is None:
        return None
    metadata, status = job["metadata"], job.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ()) if c.get("status") == "True"}
    end = conditions.get("Failed") or conditions.get("Complete") or conditions.get("FailureTarget") or {}
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        created=parse_time(metadata.get("creationTimestamp")),
        suspended=bool(job.get("spec", {}).get("suspend")),
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        stopped="Suspended" in conditions,
        reason=end.get("reason", ""),
        message=end.get("message", ""),
        deleting="deletionTimestamp" in metadata,
        active=int(status.get("active", 0)),
        suspended_by_chorus=contract.SUSPENDED_ANNOTATION in metadata.get("annotations", {}),
        resumed=_resumed(status),
        frozen_digest=metadata.get("annotations", {}).get(contract.FROZEN_DIGEST_ANNOTATION, ""),
    )


def _resumed(status: Mapping[str, Any]) -> datetime | None:
    for condition in status.get("conditions", ()):
        if condition["type"] == "Suspended" and condition.get("status") == "False":
            return parse_time(condition.get("lastTransitionTime"))
    return None


def pod_view(pod: Mapping[str, Any]) -> PodView:
    """Reduce a pod. Its annotation names the main container: an injected sidecar may stand before it."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    container = _main_container(metadata, spec)
    own: Mapping[str, Any] = next((c for c in status.get("containerStatuses", ()) if c.get("name") == container), {})
    state = own.get("state", {})
    first = _failed_init(status)
    if first is not None and not {"running", "terminated"} & state.keys():
        # The main container never ran, and this one is why. A sidecar that is stopped after it ends with 143.
        own, container = first, first["name"]
        state = own.get("state", {})
    terminated = state.get("terminated") or {}
    waiting = state.get("waiting") or {}
    running = state.get("running") or {}
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    disruption = conditions.get("DisruptionTarget", {})
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName"),
        phase=status.get("phase", "Pending"),
        created=parse_time(metadata.get("creationTimestamp")),
        started=_started(terminated.get("startedAt") or running.get("startedAt")),
        deleting_since=parse_time(metadata.get("deletionTimestamp")),
        grace_seconds=int(metadata.get("deletionGracePeriodSeconds") or 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        disrupted=disruption.get("message") or disruption.get("reason", "")
        if disruption.get("status") == "True"
        else "",
        container=container,
        exit_code=terminated.get("exitCode"),
        signal=terminated.get("signal") or None,
        terminated_reason=terminated.get("reason", ""),
        record=termination_record(terminated.get("message", "")),
        raw_message=terminated.get("message", "") or status.get("message", ""),
        forwarded=_forwarded(status),
        forwarding=any("running" in each.get("state", {}) for each in status.get("initContainerStatuses", ())),
        pod_reason=status.get("reason", ""),
        pod_message=status.get("message", ""),
        finished=parse_time(terminated.get("finishedAt")),
        disrupted_since=parse_time(disruption.get("lastTransitionTime")),
        runs_on=_beside(status, container),
        tracked="batch.kubernetes.io/job-tracking" in metadata.get("finalizers", ()),
    )


def _beside(status: Mapping[str, Any], main: str) -> str:
    running = [str(c["name"]) for c in status.get("containerStatuses", ()) if "running" in c.get("state", {})]
    return ", ".join(f"container {name}" for name in running if name != main)


def _started(text: str | None) -> datetime | None:
    """Read when a container started. Of one that the runtime could not start the kubelet writes 1970."""
    time = parse_time(text)
    return time if time is not None and time.timestamp() > 0 else None


def _forwarded(status: Mapping[str, Any]) -> TerminationRecord | None:
    for each in status.get("initContainerStatuses", ()):
        if each.get("name") == contract.MESSAGES_CONTAINER:
            ended = each.get("state", {}).get("terminated") or {}
            return termination_record(ended.get("message", ""))
    return None


def _main_container(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    names = [str(container["name"]) for container in spec.get("containers") or ()]
    named = str(metadata.get("annotations", {}).get(contract.MAIN_CONTAINER_ANNOTATION, ""))
    return named if named in names else next(iter(names), "")


def _failed_init(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for each in status.get("initContainerStatuses", ()):
        ended = each.get("state", {}).get("terminated")
        if ended and ended.get("exitCode") and not each.get("started"):
            return dict(each)
    return None


def termination_record(text: str) -> TerminationRecord | None:
    """Read a container's last word; None when it is not ours."""
    try:
        return TerminationRecord.model_validate_json(text) if text.startswith("{") else None
    except ValidationError:
        return None


def newest(pods: Sequence[PodView]) -> PodView | None:
    """Pick the newest pod of a Job."""
    return max(pods, key=lambda pod: (pod.created is not None, pod.created, pod.uid), default=None)
