"""What is observed, what is said of it, and a row of the table between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import FrozenRun
from chorus_api.training_run import ErrorEntry
from chorus_operator.decisions.observed import JobView, PodView
from chorus_operator.decisions.startup import Wait


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
    """Why an attempt or a Job failed: class, reason, the first cause in words, what to do about it, and who does it."""

    failure_class: FailureClass
    reason: Reason
    message: str = ""
    hint: str = ""
    actor: Actor = Actor.USER
    not_applicable: bool = False
    """The plugin does not suit the frame, which is no failure."""
    final: bool = False
    """The run ends whatever its retry budget says: another attempt could only end in the same way."""
    exit_code: int | None = None

    def saying(self, message: str, *, exit_code: int | None = None) -> Outcome:
        """Give the outcome with its message."""
        return replace(self, message=message, exit_code=exit_code)


class Deadline(StrEnum):
    """A deadline of the Plugin's `spec.deadlines` that can pass."""

    ACTIVE = "activeSeconds"
    START = "startSeconds"
    DATA_REPORT = "dataReportSeconds"
    TRAINING_START = "trainingStartSeconds"
    PROGRESS = "progressSeconds"
    MODEL_NAME = "modelNameSeconds"


@dataclass(frozen=True)
class Overdue:
    """A deadline that has passed."""

    deadline: Deadline
    seconds: int
    """How long it is."""
    pod: str = ""
    detail: str = ""
    """What was waited for meanwhile, a sentence of its own."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is seen of an attempt, or of another Job, at one time. Nothing of it is known while it goes on well."""

    job: JobView | None = None
    pod: PodView | None = None
    """Its newest pod, or what is left of it."""
    log: str | None = None
    """The end of the main container's log."""
    config: FrozenRun | None = None
    """run.json of an attempt."""
    claim: str = ""
    """The Project's claim, where it is known."""
    attempt: int = 0
    """Number of the attempt; 0 of a Job that is none."""
    main_ended: bool = False
    """The main container has ended, although its pod and Job go on."""
    refusal: str = ""
    """The plugin's own word that it does not suit the frame."""
    error: ErrorEntry | None = None
    """The plugin's ERROR_REPORT of this attempt."""
    unnamed: bool = False
    """The attempt ended with exit code 0, and no model was named."""
    gone: bool = False
    """A Job of the attempt is not there although it was made."""
    lost: str = ""
    """Why the pod counts as lost with its node."""
    blocked: Wait | None = None
    """What has kept the pod from starting for longer than it may."""
    overdue: Overdue | None = None
    """The deadline that has passed."""


Match = Callable[[Observation], Outcome | None]


@dataclass(frozen=True)
class Row:
    """A row of the table: a fault, what may be said of it, and how it is recognized.

    `outcomes` have no message: `match` writes it from what is seen. A program's own record or ERROR_REPORT may name
    another reason than these.
    """

    fault: str
    outcomes: Sequence[Outcome]
    match: Match
