"""The vocabulary of decisions: what to make, remove, change and say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from chorus_api.project import ProjectPlugin
from chorus_api.reasons import Reason
from chorus_operator.decisions.accepted import AcceptedRun, StoredConfig
from chorus_operator.decisions.observed import JobView

S = TypeVar("S")


@dataclass(frozen=True)
class MakeClaim:
    """Make the Project's claim."""


@dataclass(frozen=True)
class StartPrepare:
    """Start the Job that prepares the frame.

    `keep_frames`: the frames that the Project still needs, so that the Job can remove others; None while that is not
    known for sure.
    """

    key: str
    keep_frames: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RemovePreparation:
    """Delete the Job and the ConfigMaps of a preparation that a newer one has replaced."""

    key: str


@dataclass(frozen=True)
class MakeRun:
    """Make an automatic run."""

    entry: ProjectPlugin
    name: str
    trigger_key: str


@dataclass(frozen=True)
class Freeze:
    """Write everything that the run uses into an immutable ConfigMap, in the place of `replaced` if there is one."""

    accepted: AcceptedRun
    content: dict[str, str]
    replaced: StoredConfig | None


@dataclass(frozen=True)
class StartFetch:
    """Start the Job that fetches a base model."""

    key: str


@dataclass(frozen=True)
class StartAttempt:
    """Start a training attempt."""

    attempt: int


@dataclass(frozen=True)
class Endpoint:
    """Where a service is posted to, and the key of a ConfigMap with the certificates that it is known by, if any."""

    url: str
    ca_config_map: str | None = None
    ca_key: str | None = None


@dataclass(frozen=True)
class Deliver:
    """Send TRAINING_DATA of an attempt to its service, whose exchange has the certificate."""

    attempt: int
    endpoint: Endpoint
    certificate: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Inquire:
    """Ask a service what it is and how it does."""

    endpoint: Endpoint


@dataclass(frozen=True)
class StartPublish:
    """Start the Job that publishes the artefact; `optional`: there may be none."""

    promote: bool
    kind: Literal["adapter", "files"]
    expected_digest: str | None
    optional: bool = False


@dataclass(frozen=True)
class SuspendJob:
    """Suspend a Job, or let it go on, as long as it is what the decision was made on."""

    name: str
    uid: str
    resource_version: str
    suspend: bool

    @classmethod
    def of(cls, job: JobView, *, suspend: bool) -> SuspendJob:
        """Name a Job as it was seen."""
        return cls(job.name, job.uid, job.resource_version, suspend)


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job and its pods."""

    name: str
    uid: str


@dataclass(frozen=True)
class DeletePod:
    """Delete a pod that something keeps from ending."""

    name: str
    uid: str
    grace_seconds: int


@dataclass(frozen=True)
class ForceDeletePod:
    """Remove a pod that its node will never report as gone."""

    name: str
    uid: str


@dataclass(frozen=True)
class DeleteRun:
    """Delete a run that has had its time."""

    name: str
    uid: str


@dataclass(frozen=True)
class StartDescribe:
    """Start the Job that asks an image what it is and needs."""


@dataclass(frozen=True)
class Admit:
    """Write a verdict of admission into a run's status."""

    run: str
    verdict: Literal["accepted", "notApplicable", "cancelled"]
    reason: Reason
    message: str


Action = (
    MakeClaim
    | StartPrepare
    | RemovePreparation
    | MakeRun
    | Freeze
    | StartFetch
    | StartAttempt
    | Deliver
    | Inquire
    | StartPublish
    | SuspendJob
    | DeleteJob
    | DeletePod
    | ForceDeletePod
    | DeleteRun
    | StartDescribe
    | Admit
)


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event to send once the status is written."""

    reason: Reason
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Decision(Generic[S]):
    """What to do, in order; then the whole new status; then what to say; then when to decide again (seconds)."""

    status: S
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = field(default=())
    requeue_after: float | None = None
