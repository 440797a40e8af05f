"""From references to one frozen configuration: which plugin, which parameters, which base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chorus_api import contract
from chorus_api.lora import BaseModelSource, resolve
from chorus_api.operator_config import OperatorConfig
from chorus_api.plugin import LoraScript, Plugin, Script
from chorus_api.project import Project, ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.run_config import (
    AnyRun,
    ContainerConfig,
    ForwardConfig,
    FrozenBaseModel,
    FrozenRun,
    FrozenScript,
    LoraScriptConfig,
    Messaging,
    RunConfig,
    ServiceConfig,
)
from chorus_api.scratch import Scratch
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names, parameters
from chorus_operator.decisions.recipe import ContainerRecipe, LoraRecipe, Recipe, ServiceRecipe, lora_of
from chorus_operator.decisions.service_address import url_problem


@dataclass(frozen=True)
class Problem:
    """Something that cannot be resolved; `waits` when an object that may still come is missing."""

    reason: Reason
    message: str
    waits: bool = False


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


def base_model_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None = None) -> BaseModelSource | None:
    """Give the base model that a LoRA run trains an adapter for; None for other plugins, or when nobody names one."""
    return lora_of(plugin, entry, run).base_model if plugin.spec.type == "lora" else None


def base_location(source: BaseModelSource, project: Project) -> FrozenBaseModel:
    """Read a base model's URI."""
    named = FrozenBaseModel(
        uri=source.uri, revision=source.revision, secret=source.secret_ref.name if source.secret_ref else None
    )
    scheme, _, rest = source.uri.partition("://")
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        return named.model_copy(update={"claim": claim, "sub_path": path})
    if scheme == "file":
        return named.model_copy(update={"image_path": rest})
    key = names.base_model_id(source.uri, source.revision)
    place = {"claim": names.claim(project), "sub_path": f"{contract.BASES}/{key}", "base_model_id": key}
    return named.model_copy(update=place)


def check(
    recipe: Recipe,
    plugin: Plugin,
    entry: ProjectPlugin,
    run: TrainingRun,
    *,
    judge_url: Callable[[str], str | None] = url_problem,
) -> Problem | None:
    """Check what no schema of the API server can. `judge_url` says what is wrong with a service's URL."""
    strange = _strange_block(plugin, entry, run)
    if strange is not None:
        return strange
    if isinstance(recipe, LoraRecipe):
        return _check_base_model(recipe.parameters.base_model, plugin)
    if isinstance(recipe, ServiceRecipe) and (problem := judge_url(recipe.url)):
        return Problem(Reason.BAD_CONFIGURATION, f"Plugin {plugin.metadata.name!r}: spec.service: {problem}.")
    wrong = parameters.problems(plugin, entry, run)
    return Problem(Reason.PARAMETERS_INVALID, " ".join(wrong)[:4096]) if wrong else None


def _strange_block(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun) -> Problem | None:
    """Find parameters of another type of plugin: they would be silently ignored."""
    places = ((f"spec.plugins[name={entry.name}] of the Project", entry), (f"spec of {run.metadata.name}", run.spec))
    for place, spec in places:
        if plugin.spec.type == "lora" and spec.parameters:
            return Problem(Reason.PARAMETERS_INVALID, f"{place}: parameters is for containers and services; use lora.")
        if plugin.spec.type != "lora" and spec.lora is not None:
            return Problem(Reason.PARAMETERS_INVALID, f"{place}: lora is for type lora; use parameters.")
    return None


def _check_base_model(source: BaseModelSource | None, plugin: Plugin) -> Problem | None:
    """Check that a base model is named by somebody, and stays inside its claim."""
    if source is None:
        return Problem(
            Reason.BASE_MODEL_NOT_SET,
            f"Plugin {plugin.metadata.name!r}: set spec.lora.baseModel.uri, or that of the Project's entry.",
        )
    if ".." in source.uri.split("/"):
        return Problem(
            Reason.BAD_CONFIGURATION, "lora.baseModel.uri must stay inside the volume or image: remove the '..' parts."
        )
    return None


def freeze(
    run: TrainingRun,
    project: Project,
    plugin: Plugin,
    recipe: Recipe,
    *,
    resume: TrainingRun | None,
    messages_url: str,
) -> RunConfig | ContainerConfig | ServiceConfig:
    """Write down everything that the run uses. The frame is the one that is ready now."""
    assert project.status.dataset is not None
    common = FrozenRun(
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
        info=dict(project.spec.dataset.info),
        messaging=messaging(
            messages_url,
            subject_uid=run.metadata.uid,
            source=f"/namespaces/{run.metadata.namespace}/trainingruns/{run.metadata.name}",
        ),
    )
    if isinstance(recipe, LoraRecipe):
        return _lora_config(common, recipe, project, plugin, resume=resume)
    if isinstance(recipe, ServiceRecipe):
        return _service_config(common, recipe)
    return _container_config(common, recipe)


def on_one_node(project: Project) -> bool:
    """Tell whether the Project's claim can be used on one node only."""
    storage = project.spec.storage
    return storage is None or storage.access_mode != "ReadWriteMany"


def operator_config(project: Project, plugin: Plugin) -> OperatorConfig:
    """Write down what the operator itself needs of the run."""
    spec = plugin.spec
    return OperatorConfig(
        claim=names.claim(project),
        one_node=on_one_node(project),
        job_scratch=project.spec.scratch or Scratch(),
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


def files_of(config: AnyRun) -> dict[str, str]:
    """Write the files beside run.json that pods of the run's plugin type read."""
    if not isinstance(config, ContainerConfig) or config.messages != "File":
        return {}
    forward = ForwardConfig(
        messages_file=str(contract.MESSAGES_FILE),
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        messaging=config.messaging,
    )
    return {"forward.json": forward.model_dump_json(by_alias=True, indent=1)}


def messaging(url: str, *, subject_uid: str, source: str) -> Messaging:
    """Tell a pod where and how it speaks to the control plane."""
    return Messaging(
        url=url,
        token_file=str(contract.IDENTITY_DIR / "token"),
        ca_file=str(contract.IDENTITY_DIR / contract.CA_KEY),
        subject_uid=subject_uid,
        source=source,
    )


def _lora_config(
    common: FrozenRun, recipe: LoraRecipe, project: Project, plugin: Plugin, *, resume: TrainingRun | None
) -> RunConfig:
    lora = recipe.parameters
    assert lora.base_model is not None
    base = base_location(lora.base_model, project)
    return RunConfig(
        **dict(common),
        base_model_uri=lora.base_model.uri,
        base_model_path=base.image_path or str(contract.BASE_DIR),
        image=recipe.image,
        base_model=base,
        resume_model=resume.status.model.name if resume and resume.status.model else None,
        resume_adapter_path=str(contract.RESUME_DIR) if resume else None,
        encoder_decoder=resolve(lora, family="encoderDecoder"),
        decoder=resolve(lora, family="decoder"),
        checkpoint_every_seconds=plugin.spec.checkpoint.every_seconds,
        checkpoint_keep=plugin.spec.checkpoint.keep,
        grace_seconds=plugin.spec.checkpoint.grace_seconds,
        script=_script_config(recipe.script) if recipe.script is not None else None,
    )


def _script_config(script: LoraScript) -> LoraScriptConfig:
    source = script.config_map
    if source is not None:
        return LoraScriptConfig(
            root=str(contract.SCRIPT_DIR), path=source.key, sha256=script.sha256, config_map=source.name
        )
    return LoraScriptConfig(root=str(contract.IMAGE_SCRIPTS_DIR), path=script.path or "", sha256=script.sha256)


def _service_config(common: FrozenRun, recipe: ServiceRecipe) -> ServiceConfig:
    ca = recipe.service.ca_config_map
    return ServiceConfig(
        **dict(common),
        url=recipe.url,
        ca_config_map=ca.name if ca else None,
        ca_key=ca.key if ca else None,
        artefact=recipe.service.artefact,
        service_account=recipe.service.service_account_name,
        parameters=recipe.parameters,
    )


def _container_config(common: FrozenRun, recipe: ContainerRecipe) -> ContainerConfig:
    container, script = recipe.container, recipe.container.script
    return ContainerConfig(
        **dict(common),
        image=container.image,
        command=list(container.command),
        args=list(container.args),
        messages=container.messages,
        artefact=container.artefact,
        frame_format=container.frame_format,
        script=frozen_script(script) if script is not None else None,
        parameters=recipe.parameters,
    )


def frozen_script(script: Script) -> FrozenScript:
    """Write down where a container's script is, and the digest that it must have."""
    return FrozenScript(config_map=script.config_map.name, key=script.config_map.key, sha256=script.sha256)
