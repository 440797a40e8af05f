"""Deterministic names, labels and keys of everything that the operator makes."""

from __future__ import annotations

from typing import Any, NamedTuple

from chorus_api import contract
from chorus_api.base import API_VERSION
from chorus_api.ids import content_hash
from chorus_api.plugin import Plugin
from chorus_api.project import Meta, Project, ProjectPlugin
from chorus_api.training_run import TrainingRun

UID_DIGITS = 5
"""Digits of an owner's uid in the names of its children."""
SEQUENCE_DIGITS = 7
"""Digits that are read as the number of a run."""


def dataset_hash(project: Project) -> str:
    """Name what a prepare Job is made for: the dataset's spec, and the annotation that asks for another preparation.

    How often to prepare again is left out: it changes nothing about what is found. The Job's room and resources are
    a part, where the Project sets them: with too little the Job has failed or got no pod, and with others it may not.
    """
    spec = project.spec.dataset.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"refresh_seconds"})
    room = [project.spec.scratch.size] if project.spec.scratch else []
    sizes = project.spec.job_resources.model_dump(exclude_defaults=True) if project.spec.job_resources else {}
    asked = project.metadata.annotations.get(contract.PREPARE_ANNOTATION, "")
    return content_hash([spec, asked, *room, *([sizes] if sizes else [])])


def preparation_id(key: str, number: int) -> str:
    """Name the `number`-th preparation of what `key` names; the first has the number 0 and the key itself."""
    return content_hash([key, number]) if number else key


class ChildName(NamedTuple):
    """What a child is called, and what it was called before names carried digits of their owner's uid."""

    name: str
    formerly: str


def prepare_job(project: Project, key: str) -> ChildName:
    """Name the Job that prepares the frame of `key`, and the ConfigMap that tells it how."""
    return _of_project(project, f"prepare-{key}")


def frame_config_map(project: Project, key: str) -> ChildName:
    """Name the ConfigMap that the message receiver makes of the prepare Job's result."""
    return _of_project(project, f"frame-{key}")


def fetch_job(project: Project, key: str) -> ChildName:
    """Name the Job that fetches a base model, and the ConfigMap that tells it which."""
    return _of_project(project, f"base-{key}")


def describe_job(plugin: Plugin, image: str) -> ChildName:
    """Name the Job that asks an image what it is: once for each image string and generation of the Plugin."""
    part = f"describe-{content_hash([image, plugin.metadata.generation])}"
    return ChildName(f"{_stem(plugin.metadata)}-{part}", f"{plugin.metadata.name}-{part}")


def _of_project(project: Project, part: str) -> ChildName:
    return ChildName(f"{_stem(project.metadata)}-{part}", f"{project.metadata.name}-{part}")


def _stem(owner: Meta) -> str:
    """Begin the name of a child: an object that was deleted and made again never meets its former children."""
    return f"{owner.name}-{owner.uid[:UID_DIGITS]}"


def claim(project: Project) -> str:
    """Name the claim that holds the Project's frames, runs and models.

    The operator writes it into the status when it first looks at a Project (`reconcile/claims.py`). One that has a
    status without it was last looked at by a version whose claims all had the former name.
    """
    storage = project.spec.storage
    chosen = storage.claim_name if storage and storage.claim_name else project.status.claim_name
    return chosen or former_claim(project)


def has_claim(project: Project) -> bool:
    """Tell whether it is known which claim the Project has: not before the operator has looked at it once."""
    storage = project.spec.storage
    return bool(storage and storage.claim_name) or bool(project.status.claim_name) or project.status.phase is not None


def new_claim(project: Project) -> str:
    """Name the claim that is made for a Project."""
    return f"{_stem(project.metadata)}-data"


def former_claim(project: Project) -> str:
    """Name the claim that was made for a Project before names carried digits of their owner's uid."""
    return f"{project.metadata.name}-data"


def run_name(project: str, plugin: str, sequence: int) -> str:
    """Name the `sequence`-th run of a plugin."""
    return f"{project}-{plugin}-{sequence}"


def run_sequence(project: str, plugin: str, name: str) -> int:
    """Read the number back out of a run's name; 0 for a name that somebody else chose.

    At most seven digits are read: a longer number would soon make names that are too long.
    """
    prefix = f"{project}-{plugin}-"
    tail = name.removeprefix(prefix)
    ours = name.startswith(prefix) and tail.isascii() and tail.isdecimal() and not tail.startswith("0")
    return int(tail) if ours and len(tail) <= SEQUENCE_DIGITS else 0


def attempt_job(run: TrainingRun, attempt: int, *, suffix: str = "") -> str:
    """Name a Job of one attempt; `suffix`: the role, of those beside the first."""
    name = f"{_run_stem(run)}-{attempt}"
    return f"{name}-{suffix}" if suffix else name


def exchange(run: TrainingRun, attempt: int) -> str:
    """Name the Service and the ConfigMap of an attempt's exchange. A Service's name begins with a letter."""
    return f"ex-{_run_stem(run)}-{attempt}"


def exchange_host(run: TrainingRun, attempt: int) -> str:
    """Name the host of an attempt's exchange."""
    return f"{exchange(run, attempt)}.{run.metadata.namespace}.svc"


def publish_job(run: TrainingRun) -> str:
    """Name the Job that publishes a run's artefact, and the ConfigMap that tells it how."""
    return f"{_run_stem(run)}-{'publish' if has_former_names(run) else 'pub'}"


def config_map(run: TrainingRun) -> str:
    """Name the immutable ConfigMap with everything that a run uses."""
    return f"{_run_stem(run)}-frozen"


def incomplete_config_map(run: TrainingRun) -> str:
    """Name the ConfigMap of a former version, which holds only what pods read."""
    return f"{_stem(run.metadata)}-config"


def former_config_map(run: TrainingRun) -> str:
    """Name the frozen ConfigMap as it was called before names carried digits of their owner's uid."""
    return f"{run.metadata.name}-config"


def has_former_names(run: TrainingRun) -> bool:
    """Tell whether a run's children are named as they were before names carried digits of their owner's uid.

    The name of its frozen configuration says so. It is written with the first attempt; until then whoever reads the
    configuration fills it in from the name under which it was found, so a run whose operator ended in between goes on
    with the children that it has.
    """
    former = (former_config_map(run), f"{run.metadata.name}-frozen")
    return run.status.resolved is not None and run.status.resolved.config_map in former


def _run_stem(run: TrainingRun) -> str:
    return run.metadata.name if has_former_names(run) else _stem(run.metadata)


def base_model_id(uri: str, revision: str | None) -> str:
    """Name a fetched base model by what was asked for."""
    return content_hash([uri, revision])


def model_name(run: TrainingRun) -> str:
    """Name a run's model: the run's name, and enough of its uid that a run of the same name never takes its place."""
    return f"{run.metadata.name}-{run.metadata.uid[:UID_DIGITS]}"


def run_id(run: TrainingRun) -> str:
    """Name a run for people: run_<UTC time of creation>_<4 hex digits of its uid>."""
    stamp = run.metadata.creation_timestamp.translate(str.maketrans("T", "_", "-:Z"))
    return f"run_{stamp}_{run.metadata.uid[:4]}"


def trigger_hash(frame: str, entry: ProjectPlugin) -> str:
    """Hash what starts an automatic run when it changes: the frame and the Project's own words about the plugin.

    The Plugin's spec is left out on purpose: editing a shared Plugin marks rows outdated and starts nothing.
    """
    return content_hash([frame, entry.plugin_ref.name, entry.own_parameters()])


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
