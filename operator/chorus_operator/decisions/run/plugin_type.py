"""What a plugin type is: the one place that says what the operator asks of a kind of training.

A type is a folder of `plugin_types`. It says what a Plugin of it needs and reports (requirements), what a run of it
uses (resolve), which objects are made for an attempt (manifests), and what follows from what is observed (observe).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.project import Project, ProjectPlugin
from chorus_api.resources import Resources
from chorus_api.run_config import FrozenRun, Messaging
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.accepted import AcceptedRun
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.outcome.model import Row
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.plugin.status import ready, refuse
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.resolve import NamedClaim, Problem
from chorus_operator.decisions.run.pod_end import ended_well
from chorus_operator.decisions.run.state import AcceptedDraft, AcceptedView

Manifest = dict[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """What a run asks for: the values of the run win over those of the Project's entry, and these over the Plugin's."""

    project: Project
    entry: ProjectPlugin
    plugin: Plugin
    run: TrainingRun


@dataclass(frozen=True)
class WantedAttempt:
    """An attempt whose objects are to be made, and what they are made with."""

    run: TrainingRun
    accepted: AcceptedRun
    number: int
    operator_image: str
    token_sha256: Callable[[], str]
    """Makes the digest of the bearer token that a service has for the attempt."""


@dataclass(frozen=True)
class WantedFetch:
    """A fetch onto the Project's claim, before the first attempt."""

    project: Project
    accepted: AcceptedRun
    key: str
    operator_image: str
    api_server: Sequence[str]
    """Where the API server is: nothing is fetched from there."""


class PluginType(ABC):
    """A kind of training. Its methods are pure: no clock, randomness or I/O."""

    name: ClassVar[str]
    """`spec.type` of its Plugins, and `type` of run.json."""
    config: ClassVar[type[FrozenRun]]
    """run.json of its runs."""
    columns: ClassVar[Sequence[str]] = ()
    """Columns that a frame must have where neither the Plugin nor its own report says."""
    roles: ClassVar[Sequence[str]] = ("train",)
    """The Jobs of an attempt, by role. The first has the attempt's name, the others have their role after it."""
    rows: ClassVar[Sequence[Row]] = ()
    """Rows that it adds to the table of outcomes, before what an exit code says."""
    can_resume: ClassVar[bool] = False
    """Whether a run may start from another run's model (`resumeFrom`)."""
    reads_plugin: ClassVar[bool] = False
    """Whether what is known of the Plugin's health explains a failure of an accepted run."""
    speaks_by_account: ClassVar[bool] = False
    """Whether pods that Chorus has not made may send messages, known by their service account."""

    # What the Plugin needs and reports

    def is_known(self, plugin: Plugin) -> bool:
        """Tell whether it is known what the plugin needs, so that its runs can be judged."""
        return True

    def image_to_describe(self, plugin: Plugin) -> str | None:
        """Name the image that is to be asked what the plugin needs; None when there is nothing to ask."""
        return None

    def describe_manifests(
        self, plugin: Plugin, messaging: Messaging, *, operator_image: str, job_resources: Resources
    ) -> list[Manifest]:
        """Make the objects that ask the image; `job_resources`: of the Job."""
        raise NotImplementedError(f"plugins of type {self.name} are not described by their image")

    def decide_plugin(self, view: PluginView) -> Decision[PluginStatus]:
        """Decide about a Plugin."""
        return ready(view)

    def refuse_plugin(self, view: PluginView, message: str) -> Decision[PluginStatus]:
        """Say that the Plugin cannot be used: a manifest of it is refused."""
        return refuse(view, message)

    def account_of_plugin(self, plugin: Plugin) -> str | None:
        """Name the service account whose pods may answer for the Plugin."""
        return None

    # What a run uses

    @abstractmethod
    def recipe(self, plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> Recipe:
        """Resolve what a run trains with."""

    @abstractmethod
    def problem(self, request: RunRequest, recipe: Recipe, *, judge_url: Callable[[str], str | None]) -> Problem | None:
        """Find what no schema of the API server can. `judge_url` says what is wrong with a URL."""

    def named_claim(self, request: RunRequest) -> NamedClaim | None:
        """Name the claim of the user's own that a run mounts."""
        return None

    @abstractmethod
    def freeze(
        self, request: RunRequest, recipe: Recipe, common: Mapping[str, Any], *, resume: TrainingRun | None
    ) -> FrozenRun:
        """Write run.json; `common`: the fields of FrozenRun."""

    def files(self, config: FrozenRun) -> Mapping[str, str]:
        """Write the files beside run.json that pods read."""
        return {}

    def account(self, config: FrozenRun) -> str | None:
        """Name the service account whose pods may send messages about an accepted run."""
        return None

    # What is made for a run

    @abstractmethod
    def attempt_manifests(self, wanted: WantedAttempt) -> list[Manifest]:
        """Make the objects of an attempt: a Job for each role, and what it needs."""

    def fetch_key(self, config: FrozenRun) -> str | None:
        """Name what is fetched onto the claim before the first attempt; None when nothing is."""
        return None

    def fetch_manifests(self, wanted: WantedFetch) -> list[Manifest]:
        """Make the objects of the fetch."""
        raise NotImplementedError(f"plugins of type {self.name} fetch nothing")

    # What follows from what is observed

    def is_over(self, draft: AcceptedDraft) -> bool:
        """Tell whether the plugin has done its part although its Jobs go on, so that suspension no longer matters."""
        return False

    def suspend(self, draft: AcceptedDraft) -> None:
        """Have the attempt stand still."""
        draft.suspend()

    def is_trained(self, view: AcceptedView) -> bool:
        """Tell whether the training is over as far as it can be seen, so that the publish Job matters."""
        job = view.job
        return job is not None and (job.complete or (job.finished and ended_well(view)))

    def is_ready(self, draft: AcceptedDraft) -> bool:
        """Tell whether the first attempt may start; else say in the draft what it waits for."""
        return True

    @abstractmethod
    def train(self, draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
        """Bring an attempt forward."""


PluginTypes = Mapping[str, PluginType]
"""The registered types, by name."""


def all_roles(types: PluginTypes) -> Sequence[str]:
    """List the roles of Jobs that an attempt may have whose type is not known: the first of each has one name."""
    others = dict.fromkeys(role for each in types.values() for role in each.roles[1:])
    return ("train", *others)
