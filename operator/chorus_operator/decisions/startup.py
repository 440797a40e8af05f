"""Why a pod has not started yet, and how long that is borne. A busy cluster and a broken manifest never look alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chorus_api.reasons import Reason
from chorus_operator.decisions.observed import JobView, PodView

IMAGE_GRACE_SECONDS = 300
CONTAINER_GRACE_SECONDS = 120
ADMISSION_GRACE_SECONDS = 120
LOST_NODE_GRACE_SECONDS = 60
NAME_TAKEN_SECONDS = 3600
"""How long a run waits for somebody to delete an object that has the name of a child of its."""

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}


@dataclass(frozen=True)
class Wait:
    """What a pod that has not started waits for; past `limit_seconds` (None: no limit of its own) it has failed."""

    reason: Reason
    message: str
    limit_seconds: float | None = None
    failed_reason: Reason = Reason.START_DEADLINE_EXCEEDED


def waiting_for(job: JobView | None, pod: PodView | None) -> Wait:
    """Say what keeps a Job's pod from starting."""
    if job is None:
        return Wait(Reason.PENDING, "The Job is being made.")
    if pod is None:
        if job.active:
            return Wait(Reason.PENDING, f"Job {job.name} has made its pod.")
        return Wait(
            Reason.PENDING,
            f"Job {job.name} has no pod yet. Quota or admission may refuse it: kubectl describe job {job.name}",
            ADMISSION_GRACE_SECONDS,
            Reason.JOB_REJECTED,
        )
    if pod.unschedulable:
        return Wait(Reason.UNSCHEDULABLE, pod.unschedulable)
    if pod.waiting_reason in _IMAGE:
        return Wait(
            Reason.IMAGE_PULL,
            f"{pod.waiting_reason}: {pod.waiting_message}",
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
    where = f" on {pod.node}" if pod.node else ""
    return Wait(Reason.PENDING, f"Pod {pod.name} is being started{where}.")


def waited(*, now: datetime, job: JobView | None, pod: PodView | None) -> float:
    """Seconds since the pod, or without one the Job, was made."""
    since = pod.created if pod is not None else job.created if job is not None else None
    return (now - since).total_seconds() if since else 0.0


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
