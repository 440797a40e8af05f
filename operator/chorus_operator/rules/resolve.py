"""From references to one frozen configuration: which plugin, which parameters, which base model."""

from __future__ import annotations

from dataclasses import dataclass

from chorus_api import contract
from chorus_api.lora import BaseModelSource, LoraParameters, merge, resolve
from chorus_api.plugin import Plugin
from chorus_api.project import Project, ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.run_config import Messaging, RunConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.rules import names


@dataclass(frozen=True)
class Problem:
    """Something that cannot be resolved; `waits` when an object that may still come is missing."""

    reason: Reason
    message: str
    waits: bool = False


@dataclass(frozen=True)
class BaseLocation:
    """Where the base model is for a pod: on a claim (fetched or the user's own), or in the image."""

    claim: str | None
    sub_path: str | None
    image_path: str | None
    fetch_key: str | None


def entry_of(project: Project, plugin: str) -> ProjectPlugin | None:
    """Find the Project's entry of that name."""
    return next((entry for entry in project.spec.plugins if entry.name == plugin), None)


def references(run: TrainingRun, project: Project | None, plugin: Plugin | None) -> Problem | None:
    """Check that everything that a run names is there."""
    if project is None:
        return Problem(
            Reason.PROJECT_NOT_FOUND,
            f"spec.projectRef.name: there is no Project {run.spec.project_ref.name!r} in this namespace; create it, "
            "or a run that names another.",
            waits=True,
        )
    entry = entry_of(project, run.spec.plugin)
    if entry is None:
        known = ", ".join(entry.name for entry in project.spec.plugins)
        return Problem(
            Reason.PLUGIN_NOT_LISTED,
            f"spec.plugin: Project {project.metadata.name!r} has no plugin {run.spec.plugin!r}; it has {known}.",
            waits=True,
        )
    if plugin is None:
        return plugin_missing(project, entry)
    return None


def plugin_missing(project: Project, entry: ProjectPlugin) -> Problem:
    """Say that an entry's Plugin is not there."""
    index = project.spec.plugins.index(entry)
    return Problem(
        Reason.PLUGIN_NOT_FOUND,
        f"Project {project.metadata.name!r}, spec.plugins[{index}].pluginRef.name: there is no Plugin "
        f"{entry.plugin_ref.name!r} in this namespace; create it.",
        waits=True,
    )


def parameters_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None = None) -> LoraParameters:
    """Overlay the parameters: run over project over plugin."""
    return merge(plugin.spec.lora, entry.lora, run.spec.lora if run else None)


def base_location(source: BaseModelSource, project: Project) -> BaseLocation:
    """Read a base model's URI."""
    scheme, _, rest = source.uri.partition("://")
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        return BaseLocation(claim, path, None, None)
    if scheme == "file":
        return BaseLocation(None, None, rest, None)
    key = names.base_key(source.uri, source.revision)
    return BaseLocation(names.claim(project), f"{contract.BASES}/{key}", None, key)


def check_parameters(parameters: LoraParameters, plugin: Plugin) -> Problem | None:
    """Check what no schema can: that a base model is named by somebody, and stays inside its claim."""
    if parameters.base_model is None:
        return Problem(
            Reason.BASE_MODEL_NOT_SET,
            f"Plugin {plugin.metadata.name!r}: set spec.lora.baseModel.uri, or that of the Project's entry.",
        )
    if ".." in parameters.base_model.uri.split("/"):
        return Problem(
            Reason.BAD_CONFIGURATION, "lora.baseModel.uri must stay inside the volume or image: remove the '..' parts."
        )
    return None


def run_config(
    run: TrainingRun,
    project: Project,
    plugin: Plugin,
    parameters: LoraParameters,
    *,
    resume: TrainingRun | None,
    messages_url: str,
) -> RunConfig:
    """Write down everything that the run uses. The frame is the one that is ready now."""
    assert project.status.dataset is not None
    assert parameters.base_model is not None
    base = base_location(parameters.base_model, project)
    return RunConfig(
        run_name=run.metadata.name,
        run_uid=run.metadata.uid,
        run_id=names.run_id(run),
        namespace=run.metadata.namespace,
        project=project.metadata.name,
        plugin=run.spec.plugin,
        project_id=project.status.id or 0,
        plugin_id=plugin.status.id or 0,
        frame_name=project.status.dataset.name,
        frame_digest=project.status.dataset.digest,
        model_name=names.model_name(run),
        base_model_uri=parameters.base_model.uri,
        base_model_path=base.image_path or str(contract.BASE_DIR),
        resume_adapter_path=str(contract.RESUME_DIR) if resume else None,
        encoder_decoder=resolve(parameters, family="encoderDecoder"),
        decoder=resolve(parameters, family="decoder"),
        checkpoint_every_seconds=plugin.spec.checkpoint.every_seconds,
        checkpoint_keep=plugin.spec.checkpoint.keep,
        grace_seconds=plugin.spec.checkpoint.grace_seconds,
        info=dict(project.spec.dataset.info),
        messaging=Messaging(
            url=messages_url,
            token_file=str(contract.IDENTITY_DIR / "token"),
            ca_file=str(contract.IDENTITY_DIR / contract.CA_KEY),
            subject_uid=run.metadata.uid,
            source=f"/namespaces/{run.metadata.namespace}/trainingruns/{run.metadata.name}",
        ),
    )
