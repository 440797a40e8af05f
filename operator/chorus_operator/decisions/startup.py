"""Why a pod has not started yet, and how long that is borne. A busy cluster and a broken manifest never look alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chorus_api.reasons import Reason
from chorus_operator.decisions.observed import EventView, JobView, PodView

IMAGE_GRACE_SECONDS = 300
CONTAINER_GRACE_SECONDS = 120
ADMISSION_GRACE_SECONDS = 120
LOST_NODE_GRACE_SECONDS = 60
MOUNT_GRACE_SECONDS = 60
CLAIM_GRACE_SECONDS = 300
BLOCKED_SECONDS = 10
"""After so long Events are read of a pod that does not start, or of a Job that gets none."""
NAME_TAKEN_SECONDS = 3600
"""How long a run waits for somebody to delete an object that has the name of a child of its."""

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
_MISSING = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[a-z0-9.-]{1,253})" not found')
"""What the kubelet says of a volume whose object is not there."""
_MOUNTED = ("Pulling", "Pulled", "Created", "Started")
"""What a kubelet does of a pod once its volumes are mounted."""
_REFUSED = re.compile(r'Error creating: (pods "[^"\s]{1,253}" is forbidden: )?')
"""What the Job controller puts before the API server's own words."""
_PULL_SECRETS = re.compile(r"image pull secrets \(([a-z0-9., -]{1,500})\)")


@dataclass(frozen=True)
class Wait:
    """What a pod that has not started waits for; past `limit_seconds` (None: no limit of its own) it has failed."""

    reason: Reason
    message: str
    limit_seconds: float | None = None
    failed_reason: Reason = Reason.START_DEADLINE_EXCEEDED
    since: float = 0.0
    """Since when it is so, in seconds since 1970, where that is known better than by the pod's age."""


def waiting_for(job: JobView | None, pod: PodView | None, events: Sequence[EventView] = ()) -> Wait:
    """Say what keeps a Job's pod from starting; `events`: about the pod, its claim, or the Job without a pod."""
    if job is None:
        return Wait(Reason.PENDING, "The Job is being made.")
    if pod is None:
        return _without_pod(job, events)
    if pod.unschedulable:
        return _unschedulable(pod, events)
    if pod.waiting_reason in _IMAGE:
        return Wait(
            Reason.IMAGE_PULL,
            f"{_pull_secret(events)}{pod.waiting_reason}: {pod.waiting_message}",
            IMAGE_GRACE_SECONDS,
            Reason.IMAGE_PULL_FAILED,
        )
    if pod.waiting_reason in _CONTAINER:
        return Wait(
            Reason.PENDING,
            f"{pod.waiting_reason}: {pod.waiting_message}",
            CONTAINER_GRACE_SECONDS,
            Reason.CONTAINER_CONFIG_ERROR,
        )
    return _mount(events) or Wait(Reason.PENDING, f"Pod {pod.name} is being started{_where(pod)}.")


def is_blocked(job: JobView, pod: PodView | None, *, now: datetime) -> bool:
    """Tell whether Events may say why a Job's pod does not start: not of one that was just made."""
    if job.finished or job.suspended or job.deleting or (pod is not None and (pod.started is not None or pod.ended)):
        return False
    known = pod is not None and (bool(pod.unschedulable) or pod.waiting_reason in _IMAGE)
    return known or waited(now=now, job=job, pod=pod) >= BLOCKED_SECONDS


def waits_for_claim(pod: PodView) -> bool:
    """Tell whether the scheduler waits for a claim of the pod to be bound."""
    return "PersistentVolumeClaim" in pod.unschedulable


def _without_pod(job: JobView, events: Sequence[EventView]) -> Wait:
    if job.active:
        return Wait(Reason.PENDING, f"Job {job.name} has made its pod.")
    refused = _last(events, "FailedCreate")
    if refused is None:
        message = f"Job {job.name} has no pod yet. Quota or admission may refuse it."
    else:
        message = f"{_REFUSED.sub('', refused.message, count=1)} (Job {job.name} has no pod yet.)"
    return Wait(Reason.PENDING, message, ADMISSION_GRACE_SECONDS, Reason.JOB_REJECTED)


def _unschedulable(pod: PodView, events: Sequence[EventView]) -> Wait:
    """A claim that cannot be bound has a cause of its own, which the scheduler does not tell."""
    failed = _last(events, "ProvisioningFailed") if waits_for_claim(pod) else None
    if failed is None:
        return Wait(Reason.UNSCHEDULABLE, pod.unschedulable)
    return Wait(
        Reason.UNSCHEDULABLE,
        f"PersistentVolumeClaim {failed.name}: {failed.message}",
        CLAIM_GRACE_SECONDS,
        Reason.VOLUME_NOT_BOUND,
    )


def _mount(events: Sequence[EventView]) -> Wait | None:
    """A Secret or ConfigMap that the pod mounts and that is not there; the kubelet waits for it for ever."""
    failed = _last(events, "FailedMount")
    missing = _MISSING.search(failed.message) if failed is not None else None
    if failed is None or missing is None:
        return None
    if any(event.reason in _MOUNTED and event.time >= failed.time for event in events):
        return None  # an Event lives for an hour: the object has come since
    kind = "Secret" if missing["kind"] == "secret" else "ConfigMap"
    reason = Reason.SECRET_NOT_FOUND if kind == "Secret" else Reason.CONFIG_MAP_NOT_FOUND
    message = f"{kind} {missing['name']!r} is not in this namespace; create it."
    return Wait(reason, message, MOUNT_GRACE_SECONDS, reason, since=failed.since)


def _pull_secret(events: Sequence[EventView]) -> str:
    failed = _last(events, "FailedToRetrieveImagePullSecret")
    missing = _PULL_SECRETS.search(failed.message) if failed is not None else None
    return (
        f"spec.pod.imagePullSecrets: there is no Secret {missing[1]} in this namespace; create it. " if missing else ""
    )


def _last(events: Sequence[EventView], reason: str) -> EventView | None:
    return next((event for event in reversed(events) if event.reason == reason), None)


def _where(pod: PodView) -> str:
    return f" on {pod.node}" if pod.node else ""


def waited(*, now: datetime, job: JobView | None, pod: PodView | None) -> float:
    """Seconds since the pod, or without one the Job, was made or let go on.

    A Job that was resumed gets its pod when the Job controller has taken note: until then nothing has been waited for.
    """
    if pod is None and job is not None and job.stopped:
        return 0.0
    times = [pod.created] if pod is not None else [job.created, job.resumed] if job is not None else []
    since = max((time for time in times if time is not None), default=None)
    return (now - since).total_seconds() if since else 0.0


def is_over_limit(wait: Wait, *, now: datetime, job: JobView | None, pod: PodView | None) -> bool:
    """Tell whether what keeps a pod from starting has lasted longer than it may."""
    if wait.limit_seconds is None:
        return False
    so_far = waited(now=now, job=job, pod=pod)
    return min(so_far, now.timestamp() - wait.since) > wait.limit_seconds


def seconds_until_lost(pod: PodView, *, now: datetime) -> float | None:
    """Seconds until a terminating pod counts as lost with its node; None for a pod that is not terminating.

    `deletionTimestamp` already lies the grace period ahead of the request to delete.
    """
    if pod.deleting_since is None or pod.ended:
        return None
    return LOST_NODE_GRACE_SECONDS - (now - pod.deleting_since).total_seconds()


def is_lost(pod: PodView, *, now: datetime) -> bool:
    """Tell whether a terminating pod is past its grace: its node will never say that it is gone."""
    left = seconds_until_lost(pod, now=now)
    return left is not None and left < 0
