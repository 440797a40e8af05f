"""From LoRA parameters of three places to the run configuration of the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chorus_api import contract
from chorus_api.ids import content_hash
from chorus_api.lora import BaseModelSource, LoraParameters, merge, resolve
from chorus_api.plugin import LoraScript, Plugin
from chorus_api.project import Project, ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.run_config import FrozenBaseModel, LoraScriptConfig, RunConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.resolve import NamedClaim, Problem, misplaced
from chorus_operator.decisions.run.plugin_type import RunRequest


@dataclass(frozen=True)
class LoraRecipe:
    """The LoRA parameters, and the trainer's image."""

    parameters: LoraParameters
    image: str
    script: LoraScript | None = None

    def training_data(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return self.parameters.model_dump(mode="json", by_alias=True, exclude_none=True)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        script = [self.script.sha256] if self.script is not None else []
        return content_hash([frame, self.parameters.model_dump(mode="json", exclude_none=True), self.image, *script])


def recipe_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> LoraRecipe:
    """Overlay LoRA parameters: run over project over plugin."""
    return LoraRecipe(merge(plugin.spec.lora, entry.lora, run.spec.lora), trainer_image, plugin.spec.script)


def problem(request: RunRequest, source: BaseModelSource | None) -> Problem | None:
    """Check that parameters are where they count, and that a base model is named and stays inside its claim."""
    hint = "parameters is for containers and services; use lora."
    if (found := misplaced(request.entry, request.run, "parameters", hint)) is not None:
        return found
    if source is None:
        return Problem(
            Reason.BASE_MODEL_NOT_SET,
            f"Plugin {request.plugin.metadata.name!r}: set spec.lora.baseModel.uri, or that of the Project's entry.",
        )
    if ".." in source.uri.split("/"):
        return Problem(
            Reason.BAD_CONFIGURATION, "lora.baseModel.uri must stay inside the volume or image: remove the '..' parts."
        )
    return None


def named_claim(source: BaseModelSource | None) -> NamedClaim | None:
    """Name the user's own claim that the base model is on."""
    scheme, _, rest = source.uri.partition("://") if source is not None else ("", "", "")
    return NamedClaim("lora.baseModel.uri", rest.partition("/")[0]) if scheme == "pvc" else None


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


def freeze(
    request: RunRequest, recipe: LoraRecipe, common: Mapping[str, Any], *, resume: TrainingRun | None
) -> RunConfig:
    """Write run.json."""
    lora, checkpoint = recipe.parameters, request.plugin.spec.checkpoint
    base = base_location(lora.base_model, request.project) if lora.base_model is not None else FrozenBaseModel()
    return RunConfig(
        **common,
        base_model_uri=base.uri,
        base_model_path=base.image_path or str(contract.BASE_DIR),
        image=recipe.image,
        base_model=base,
        resume_model=resume.status.model.name if resume and resume.status.model else None,
        resume_adapter_path=str(contract.RESUME_DIR) if resume else None,
        encoder_decoder=resolve(lora, family="encoderDecoder"),
        decoder=resolve(lora, family="decoder"),
        checkpoint_every_seconds=checkpoint.every_seconds,
        checkpoint_keep=checkpoint.keep,
        grace_seconds=checkpoint.grace_seconds,
        script=_script_config(recipe.script) if recipe.script is not None else None,
    )


def _script_config(script: LoraScript) -> LoraScriptConfig:
    source = script.config_map
    if source is not None:
        return LoraScriptConfig(
            root=str(contract.SCRIPT_DIR), path=source.key, sha256=script.sha256, config_map=source.name
        )
    return LoraScriptConfig(root=str(contract.IMAGE_SCRIPTS_DIR), path=script.path or "", sha256=script.sha256)
