"""What a decision about a run may read, and the status that it drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL, Phase
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.reasons import FailureClass, Reason
from chorus_api.resources import Resources
from chorus_api.training_run import Failure, TrainingRun, TrainingRunStatus
from chorus_operator.decisions import names
from chorus_operator.decisions.accepted import AcceptedRun, StoredConfig
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.decision import Action, Decision, DeleteJob, Event, StartAttempt, SuspendJob
from chorus_operator.decisions.delivery import Delivery
from chorus_operator.decisions.observed import EventView, JobPods, JobView, PodView, leading, newest
from chorus_operator.decisions.resolve import NamedClaim
from chorus_operator.decisions.run.phase import run_phase
from chorus_operator.decisions.run.shown import shown
from chorus_operator.decisions.service_address import url_problem

_ANNOUNCED: dict[str, str] = {
    ConditionType.RETRYING: "True",
    ConditionType.SUSPENDED: "True",
    ConditionType.DEGRADED: "True",
}
"""Conditions whose change to this value sends an Event: what stops a run, and what is wrong with its model."""
NOT_FOUND = frozenset({Reason.PROJECT_NOT_FOUND, Reason.PLUGIN_NOT_LISTED, Reason.PLUGIN_NOT_FOUND})
"""Reasons of a run whose Project, entry or Plugin is not there."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Everything that a decision about a run may read; `AcceptedView` once what the run uses is frozen."""

    run: TrainingRun
    project: Project | None = None
    plugin: Plugin | None = None
    now: datetime
    operator_since: datetime
    messages_url: str
    trainer_image: str
    default_job_resources: Resources = field(default_factory=Resources)
    """What the operator gives CPU Jobs whose Project does not say."""
    stored: StoredConfig | None = None
    """The frozen configuration under its present name."""
    incomplete: StoredConfig | None = None
    """The frozen configuration as a former version wrote it, without what the operator reads."""
    resume: TrainingRun | None = None
    missing_claim: NamedClaim | None = None
    meant: str | None = None
    """The name that was most likely meant where one that the run gives leads nowhere."""
    attempt: Sequence[JobPods] = ()
    """The Jobs that the present attempt wants."""
    log_tail: str | None = None
    judge_url: Callable[[str], str | None] = url_problem
    """Says what is wrong with a service's URL."""

    @property
    def jobs(self) -> Sequence[JobView]:
        """The Jobs of the present attempt that are there."""
        return tuple(each.job for each in self.attempt if each.job is not None)

    @property
    def job(self) -> JobView | None:
        """The Job that the state of the attempt turns on; None when one of the attempt's Jobs is missing."""
        lead = leading(self.attempt)
        return lead.job if lead is not None else None

    @property
    def pods(self) -> Sequence[PodView]:
        """All pods of the present attempt."""
        return tuple(pod for each in self.attempt for pod in each.pods)

    @property
    def pod(self) -> PodView | None:
        """The newest pod of the Job that the state of the attempt turns on."""
        lead = leading(self.attempt)
        return newest(lead.pods) if lead is not None else None

    @property
    def events(self) -> Sequence[EventView]:
        """What Events say of the Job that the state of the attempt turns on, while its pod is blocked."""
        lead = leading(self.attempt)
        return lead.events if lead is not None else ()

    @property
    def wants_suspension(self) -> bool:
        """Whether the run or its Project is to stand still."""
        return self.run.spec.suspend or (self.project is not None and self.project.spec.suspend)


@dataclass(frozen=True, kw_only=True)
class AcceptedView(RunView):
    """Everything that a decision about an accepted run may read."""

    project: Project
    accepted: AcceptedRun
    fetch: JobPods = field(default_factory=lambda: JobPods("fetch"))
    publish: JobPods = field(default_factory=lambda: JobPods("publish"))
    pods_left: Sequence[PodView] = ()
    """Pods of the run, of any attempt, that have not ended; read when the training is over and nothing is published."""
    delivery: Delivery = field(default_factory=Delivery)
    """TRAINING_DATA of the present attempt, on its way to a service."""


REQUEUE_SECONDS = 5.0


class Draft:
    """A run's status while a decision is being made."""

    view: RunView

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.before = view.run.status
        self.conditions = Conditions(self.before.conditions, generation=view.run.metadata.generation, now=view.now)
        self.changes: dict[str, object] = {
            "id": self.before.id or names.run_id(view.run),
            "queued_time": self.before.queued_time or view.now,
            "observed_generation": view.run.metadata.generation,
        }
        self.actions: list[Action] = []
        self.attempts = self.before.attempts

    def fail(self, reason: Reason | str, message: str, *, failure: Failure | None = None) -> None:
        """End the run for good."""
        self.conditions.set(ConditionType.SUCCEEDED, False, str(reason), message)
        self.conditions.drop(ConditionType.RETRYING)
        self.changes["completion_time"] = self.view.now
        if failure is not None or run_phase(self.conditions.all())[0] == Phase.FAILED:
            self.changes["failure"] = failure or _of_user(reason, message)
        self.stop()

    def stop(self) -> None:
        """Delete the Jobs of the present attempt that go on."""
        halt = [DeleteJob(job.name, job.uid) for job in self.view.jobs if not job.finished and not job.deleting]
        self.actions += [action for action in halt if action not in self.actions]

    def done(self, *, again: float | None = None) -> Decision[TrainingRunStatus]:
        """Close the draft: derive the phase and the events from the conditions."""
        conditions = self.conditions.all()
        phase, reason, message = run_phase(conditions)
        status = self.before.model_copy(
            update=self.changes
            | {
                "conditions": conditions,
                "phase": phase,
                "reason": reason,
                "message": message,
                "attempts": self.attempts,
            }
        )
        status = status.model_copy(update={"shown": shown(status)})
        return Decision(
            status=status,
            actions=tuple(self.actions),
            events=(
                *_starts(self.actions),
                *_events(self.before.conditions, conditions, phase, self.before.phase),
            ),
            requeue_after=None if phase in FINAL else again,
        )


class AcceptedDraft(Draft):
    """An accepted run's status while a decision is being made."""

    view: AcceptedView

    def __init__(self, view: AcceptedView) -> None:
        super().__init__(view)

    def suspend(self) -> None:
        """Suspend the Jobs of the present attempt that go on."""
        halt = [job for job in self.view.jobs if not job.finished and not job.suspended]
        self.actions += [SuspendJob.of(job, suspend=True) for job in halt]


def _of_user(reason: str, message: str) -> Failure:
    """Write down a failure of what the user wrote: no pod has anything to do with it."""
    said = {"class": FailureClass.USER.value, "actor": FailureClass.USER.value, "reason": str(reason)}
    return Failure.model_validate(said | {"message": message[:4096]})


def _starts(actions: Sequence[Action]) -> tuple[Event, ...]:
    started = [action.attempt for action in actions if isinstance(action, StartAttempt)]
    return tuple(Event(Reason.STARTED, f"Attempt {number}: its Job was made.") for number in started)


def _events(
    before: Sequence[Condition], after: Sequence[Condition], phase: str, phase_before: str | None
) -> tuple[Event, ...]:
    """Say each thing once: on the transition of a condition, and for each failed attempt."""
    old = {condition.type: condition for condition in before}
    events = []
    for condition in after:
        known = old.get(condition.type)
        same = known is not None and known.status == condition.status
        if same and condition.type == ConditionType.RETRYING and known is not None:
            same = known.message == condition.message  # the next attempt has failed before it trained
        if same or not _is_announced(condition):
            continue
        warning = condition.type in (ConditionType.RETRYING, ConditionType.DEGRADED, ConditionType.BLOCKED)
        events.append(Event(Reason(condition.reason), condition.message, warning))
    if phase in FINAL and phase_before != phase:
        succeeded = next(condition for condition in after if condition.type == ConditionType.SUCCEEDED)
        events.append(Event(Reason(succeeded.reason), succeeded.message, warning=phase == Phase.FAILED))
    return tuple(events)


def _is_announced(condition: Condition) -> bool:
    """Tell whether users are told of a condition. What blocks a pod they are told by its own Events."""
    if condition.type == ConditionType.BLOCKED:
        return condition.status == "True" and condition.reason in NOT_FOUND
    return _ANNOUNCED.get(condition.type) == condition.status
