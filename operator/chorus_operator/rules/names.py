"""Deterministic names, labels and keys of everything that the operator makes."""

from __future__ import annotations

from typing import Any

from chorus_api import contract
from chorus_api.base import API_VERSION
from chorus_api.ids import content_hash
from chorus_api.plugin import Plugin
from chorus_api.project import Project, ProjectPlugin
from chorus_api.training_run import TrainingRun


def prepare_key(project: Project) -> str:
    """Name what a prepare Job is made for: the dataset's spec, and the annotation that asks for another look.

    How often to look again is left out: it changes nothing about what is found.
    """
    spec = project.spec.dataset.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"refresh_seconds"})
    return content_hash([spec, project.metadata.annotations.get(contract.PREPARE_ANNOTATION, "")])


def look_key(key: str, number: int) -> str:
    """Name the `number`-th look at what `key` names; the first has the number 0 and the key itself."""
    return content_hash([key, number]) if number else key


def prepare_job(project: str, key: str) -> str:
    """Name the Job that prepares the frame of `key`."""
    return f"{project}-prepare-{key}"


def frame_config_map(project: str, key: str) -> str:
    """Name the ConfigMap that the message receiver makes of the prepare Job's result."""
    return f"{project}-frame-{key}"


def claim(project: Project) -> str:
    """Name the claim that holds the Project's frames, runs and models."""
    storage = project.spec.storage
    return storage.claim_name if storage and storage.claim_name else f"{project.metadata.name}-data"


def run_name(project: str, plugin: str, sequence: int) -> str:
    """Name the `sequence`-th run of a plugin."""
    return f"{project}-{plugin}-{sequence}"


def run_sequence(project: str, plugin: str, name: str) -> int:
    """Read the number back out of a run's name; 0 for a name that somebody else chose."""
    prefix = f"{project}-{plugin}-"
    tail = name.removeprefix(prefix)
    return int(tail) if name.startswith(prefix) and tail.isdecimal() and not tail.startswith("0") else 0


def attempt_job(run: str, attempt: int) -> str:
    """Name the Job of one attempt."""
    return f"{run}-{attempt}"


def exchange(run: str, attempt: int) -> str:
    """Name the Service and the ConfigMap of an attempt's exchange. A Service's name begins with a letter."""
    return f"ex-{run}-{attempt}"


def publish_job(run: str) -> str:
    """Name the Job that publishes a run's artefact."""
    return f"{run}-publish"


def config_map(run: str) -> str:
    """Name the immutable ConfigMap with everything that a run uses."""
    return f"{run}-config"


def base_key(uri: str, revision: str | None) -> str:
    """Name a fetched base model by what was asked for."""
    return content_hash([uri, revision])


def fetch_job(project: str, key: str) -> str:
    """Name the Job that fetches a base model."""
    return f"{project}-base-{key}"


def model_name(run: TrainingRun) -> str:
    """Name a run's model: the run's name, and enough of its uid that a run of the same name never takes its place."""
    return f"{run.metadata.name}-{run.metadata.uid[:5]}"


def run_id(run: TrainingRun) -> str:
    """Name a run for people: run_<UTC time of creation>_<4 hex digits of its uid>."""
    stamp = run.metadata.creation_timestamp.translate(str.maketrans("T", "_", "-:Z"))
    return f"run_{stamp}_{run.metadata.uid[:4]}"


def trigger_key(frame: str, entry: ProjectPlugin) -> str:
    """Hash what starts an automatic run when it changes: the frame and the Project's own words about the plugin.

    The Plugin's spec is left out on purpose: editing a shared Plugin marks rows outdated and starts nothing.
    """
    lora = entry.lora.model_dump(mode="json", exclude_none=True) if entry.lora else {}
    return content_hash([frame, entry.plugin_ref.name, lora | dict(entry.parameters)])


def describe_job(plugin: Plugin) -> str:
    """Name the Job that asks an image what it is: once for each image string and generation of the Plugin."""
    assert plugin.spec.container is not None
    return f"{plugin.metadata.name}-describe-{content_hash([plugin.spec.container.image, plugin.metadata.generation])}"


def labels(project: str, *, role: str, plugin: str | None = None, run: str | None = None) -> dict[str, str]:
    """Label a child so that its events find their way back to the owner's key."""
    optional = {contract.PLUGIN_LABEL: plugin, contract.RUN_LABEL: run}
    return {
        contract.MANAGED_BY_LABEL: contract.MANAGED_BY,
        contract.PROJECT_LABEL: project,
        contract.ROLE_LABEL: role,
        **{name: value for name, value in optional.items() if value},
    }


def owner_reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Point a child at its owner, so that the garbage collector removes it with the owner."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
