"""What a run refers to, and what every plugin type freezes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chorus_api import contract
from chorus_api.nearest import nearest, with_suggestion
from chorus_api.operator_config import OperatorConfig
from chorus_api.plugin import Plugin, Script
from chorus_api.project import FrameSummary, Project, ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.resources import Resources
from chorus_api.run_config import FrozenScript, Messaging
from chorus_api.scratch import Scratch
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.job_resources import job_resources


@dataclass(frozen=True)
class Lost:
    """A reference that led somewhere before: what has become of it, as the beginning of a sentence, and the remedy."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Problem:
    """Something that cannot be resolved; `waits` when an object that may still come is missing."""

    reason: Reason
    message: str
    waits: bool = False
    lost: Lost | None = None
    """What to say when it was there before; None when it never was under this name."""


@dataclass(frozen=True)
class NamedClaim:
    """A claim of the user's own that must be there, and the field that names it."""

    field: str
    claim: str
    meant: str | None = None
    """The claim that was most likely meant, if it is not there."""

    @property
    def missing(self) -> str:
        """Say that it is not there."""
        message = f"{self.field}: there is no PersistentVolumeClaim {self.claim!r} in this namespace; create it."
        return with_suggestion(message, self.meant)


def entry_of(project: Project, plugin: str) -> ProjectPlugin | None:
    """Find the Project's entry of that name."""
    return next((entry for entry in project.spec.plugins if entry.name == plugin), None)


def references(
    run: TrainingRun, project: Project | None, plugin: Plugin | None, *, meant: str | None = None
) -> Problem | None:
    """Check that everything that a run names is there; `meant`: the name that was most likely meant if it is not."""
    if project is None:
        return _project_missing(run.spec.project_ref.name, meant)
    entry = entry_of(project, run.spec.plugin)
    if entry is None:
        return _entry_missing(project, run.spec.plugin)
    if plugin is None:
        missing = plugin_missing(project, entry, meant=meant)
        # Another Plugin than the one that the run had found was not deleted: an edit of the Project names it.
        return missing if was_found(run, entry) else replace(missing, lost=None)
    return None


def was_found(run: TrainingRun, entry: ProjectPlugin) -> bool:
    """Tell whether the run has once found the Plugin that the Project's entry names now."""
    return run.status.plugin == entry.plugin_ref.name


def _project_missing(name: str, meant: str | None) -> Problem:
    message = (
        f"spec.projectRef.name: there is no Project {name!r} in this namespace; create it, or a run that names another."
    )
    return Problem(
        Reason.PROJECT_NOT_FOUND,
        with_suggestion(message, meant),
        waits=True,
        lost=Lost(f"Project {name!r}, which spec.projectRef.name names, was deleted", "create it"),
    )


def _entry_missing(project: Project, name: str) -> Problem:
    there = [entry.name for entry in project.spec.plugins]
    message = f"spec.plugin: Project {project.metadata.name!r} has no plugin {name!r}; it has {', '.join(there)}."
    what = f"Entry {name!r} of spec.plugins of Project {project.metadata.name!r}, which spec.plugin names, was removed"
    return Problem(
        Reason.PLUGIN_NOT_LISTED,
        with_suggestion(message, nearest(name, there)),
        waits=True,
        lost=Lost(what, "add it again"),
    )


def plugin_missing(project: Project, entry: ProjectPlugin, *, meant: str | None = None) -> Problem:
    """Say that an entry's Plugin is not there; `meant`: the Plugin that was most likely meant."""
    index = project.spec.plugins.index(entry)
    name, plugin = project.metadata.name, entry.plugin_ref.name
    message = (
        f"Project {name!r}, spec.plugins[{index}].pluginRef.name: there is no Plugin {plugin!r} in this namespace; "
        "create it."
    )
    what = f"Plugin {plugin!r}, which spec.plugins[{index}] of Project {name!r} names, was deleted"
    return Problem(Reason.PLUGIN_NOT_FOUND, with_suggestion(message, meant), waits=True, lost=Lost(what, "create it"))


def run_config_fields(
    run: TrainingRun, project: Project, plugin: Plugin, dataset: FrameSummary, *, messages_url: str
) -> dict[str, Any]:
    """Give the fields that run.json has for every type of plugin. The frame is the one that is ready now."""
    return {
        "run_name": run.metadata.name,
        "run_uid": run.metadata.uid,
        "run_id": names.run_id(run),
        "namespace": run.metadata.namespace,
        "project": project.metadata.name,
        "plugin": run.spec.plugin,
        "project_id": project.status.id or 0,
        "plugin_id": plugin.status.id or 0,
        "frame_name": dataset.name,
        "frame_digest": dataset.digest,
        "model_name": names.model_name(run),
        "info": dict(project.spec.dataset.info),
        "messaging": messaging(
            messages_url,
            subject_uid=run.metadata.uid,
            source=f"/namespaces/{run.metadata.namespace}/trainingruns/{run.metadata.name}",
        ),
    }


def misplaced(entry: ProjectPlugin, run: TrainingRun, field: str, hint: str) -> Problem | None:
    """Find parameters that would be ignored: `field` of the Project's entry or of the run is for other plugin types."""
    places = ((f"spec.plugins[name={entry.name}] of the Project", entry), (f"spec of {run.metadata.name}", run.spec))
    for place, spec in places:
        if getattr(spec, field):
            return Problem(Reason.PARAMETERS_INVALID, f"{place}: {hint}")
    return None


def on_one_node(project: Project) -> bool:
    """Tell whether the Project's claim can be used on one node only."""
    storage = project.spec.storage
    return storage is None or storage.access_mode != "ReadWriteMany"


def operator_config(project: Project, plugin: Plugin, *, default_job_resources: Resources) -> OperatorConfig:
    """Write down what the operator itself needs of the run; `default_job_resources`: the operator's own."""
    spec = plugin.spec
    return OperatorConfig(
        claim=names.claim(project),
        one_node=on_one_node(project),
        job_scratch=project.spec.scratch or Scratch(),
        job_resources=job_resources(default_job_resources, project.spec.job_resources),
        promotion=project.spec.promotion,
        objective=project.spec.objective,
        pod=spec.pod,
        resources=spec.resources,
        accelerator=spec.accelerator,
        scratch=spec.scratch,
        deadlines=spec.deadlines,
        checkpoint=spec.checkpoint,
        retry=spec.retry,
    )


def messaging(url: str, *, subject_uid: str, source: str) -> Messaging:
    """Tell a pod where and how it speaks to the control plane."""
    return Messaging(
        url=url,
        token_file=str(contract.IDENTITY_DIR / "token"),
        ca_file=str(contract.IDENTITY_DIR / contract.CA_KEY),
        subject_uid=subject_uid,
        source=source,
    )


def frozen_script(script: Script) -> FrozenScript:
    """Write down where a container's script is, and the digest that it must have."""
    return FrozenScript(config_map=script.config_map.name, key=script.config_map.key, sha256=script.sha256)
