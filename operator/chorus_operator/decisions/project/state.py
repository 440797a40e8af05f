"""What a decision about a Project may read, and the status that it drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chorus_api.plugin import Plugin
from chorus_api.project import Preparations, Project
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.decision import Action
from chorus_operator.decisions.observed import EventView, JobView, PodView
from chorus_operator.decisions.run.plugin_type import PluginTypes
from chorus_protocol.messages import FrameManifest


@dataclass(frozen=True)
class FrameResult:
    """What the prepare Job reported: a frame, or why there is none."""

    ready: FrameManifest | None = None
    failed_reason: str = ""
    failed_detail: str = ""
    config_map: str = ""
    """ConfigMap that holds the result."""


@dataclass(frozen=True)
class ProjectView:
    """Everything that a decision about a Project may read."""

    project: Project
    plugins: Mapping[str, Plugin]
    runs: Sequence[TrainingRun]
    now: datetime
    trainer_image: str
    types: PluginTypes
    missing_plugins: Mapping[str, str | None] = field(default_factory=dict)
    """Plugins that the Project names and that are not there, and the names that were most likely meant."""
    runs_unreadable: bool = False
    """Whether there are runs that this version cannot read."""
    claim_exists: bool = False
    source_problem: tuple[Reason, str] | None = None
    """Why the data cannot be prepared."""
    refused: tuple[Reason, str] | None = None
    """Why a child cannot be read or made: another object has its name, or the API server refuses it."""
    frame: FrameResult | None = None
    """Result of the newest preparation."""
    kept: FrameResult | None = None
    """Result of an earlier preparation, whose frame is in use until the newest one has a frame."""
    taken: frozenset[str] = frozenset()
    """Names that were tried for an automatic run, and that other runs have."""
    prepare: JobView | None = None
    prepare_pods: Sequence[PodView] = ()
    prepare_events: Sequence[EventView] = ()
    log_tail: str | None = None


@dataclass
class ProjectDraft:
    """A Project's status while a decision is being made."""

    view: ProjectView
    conditions: Conditions
    preparations: Preparations
    actions: list[Action] = field(default_factory=list)
    names_tried: bool = False
    """Whether there are more names to try for an automatic run."""

    @property
    def result(self) -> FrameResult | None:
        """The result of the preparation whose frame is in use."""
        results = (self.view.frame, self.view.kept)
        return next((result for result in results if result is not None and result.ready is not None), None)

    @property
    def frame(self) -> FrameManifest | None:
        """The frame in use."""
        return self.result.ready if self.result is not None else None

    @property
    def suspended(self) -> bool:
        """Whether the Project is to stand still."""
        return self.view.project.spec.suspend
