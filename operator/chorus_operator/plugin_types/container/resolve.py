"""From a container's spec and its parameters to its run configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chorus_api import contract
from chorus_api.ids import content_hash
from chorus_api.plugin import ContainerPlugin, Plugin
from chorus_api.project import ProjectPlugin
from chorus_api.run_config import ContainerConfig, ForwardConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import parameters
from chorus_operator.decisions.resolve import frozen_script


@dataclass(frozen=True)
class ContainerRecipe:
    """A container as its Plugin has it, and its parameters."""

    parameters: dict[str, int | str]
    container: ContainerPlugin

    def training_data(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return dict(self.parameters)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        container = self.container.model_dump(mode="json", exclude_none=True, exclude={"describe"})
        return content_hash([frame, self.parameters, container])


def container_of(plugin: Plugin) -> ContainerPlugin:
    """Give the container of a Plugin of this type."""
    assert plugin.spec.container is not None
    return plugin.spec.container


def recipe_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun) -> ContainerRecipe:
    """Overlay the parameters: run over project over plugin."""
    return ContainerRecipe(parameters.resolved(plugin, entry, run), container_of(plugin))


def freeze(recipe: ContainerRecipe, common: Mapping[str, Any]) -> ContainerConfig:
    """Write run.json."""
    container, script = recipe.container, recipe.container.script
    return ContainerConfig(
        **common,
        image=container.image,
        command=list(container.command),
        args=list(container.args),
        messages=container.messages,
        artefact=container.artefact,
        frame_format=container.frame_format,
        script=frozen_script(script) if script is not None else None,
        parameters=recipe.parameters,
    )


def files(config: ContainerConfig) -> dict[str, str]:
    """Write what the sidecar reads that forwards messages out of a file."""
    if config.messages != "File":
        return {}
    forward = ForwardConfig(
        messages_file=str(contract.MESSAGES_FILE),
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        messaging=config.messaging,
    )
    return {"forward.json": forward.model_dump_json(by_alias=True, indent=1)}
