"""What a run trains with, apart from the frame: its parameters, all layers over one another, and what runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chorus_api.ids import content_hash
from chorus_api.lora import LoraParameters, merge
from chorus_api.plugin import ContainerPlugin, LoraScript, Plugin, ServicePlugin
from chorus_api.project import ProjectPlugin
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import parameters
from chorus_operator.decisions.service_address import target_url


@dataclass(frozen=True)
class LoraRecipe:
    """The LoRA parameters, and the trainer's image."""

    parameters: LoraParameters
    image: str
    script: LoraScript | None = None

    def told(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return self.parameters.model_dump(mode="json", by_alias=True, exclude_none=True)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        script = [self.script.sha256] if self.script is not None else []
        return content_hash([frame, self.parameters.model_dump(mode="json", exclude_none=True), self.image, *script])


@dataclass(frozen=True)
class ContainerRecipe:
    """A container as its Plugin has it, and its parameters."""

    parameters: dict[str, int | str]
    container: ContainerPlugin

    def told(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return dict(self.parameters)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        container = self.container.model_dump(mode="json", exclude_none=True, exclude={"describe"})
        return content_hash([frame, self.parameters, container])


@dataclass(frozen=True)
class ServiceRecipe:
    """Where a service is, and its parameters."""

    parameters: dict[str, int | str]
    service: ServicePlugin
    url: str

    def told(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return dict(self.parameters)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        return content_hash([frame, self.parameters, self.url, self.service.artefact])


Recipe = LoraRecipe | ContainerRecipe | ServiceRecipe


def lora_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None = None) -> LoraParameters:
    """Overlay LoRA parameters: run over project over plugin."""
    return merge(plugin.spec.lora, entry.lora, run.spec.lora if run else None)


def recipe_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None = None, *, trainer_image: str) -> Recipe:
    """Resolve what a run of the plugin trains with."""
    if plugin.spec.container is not None:
        return ContainerRecipe(parameters.resolved(plugin, entry, run), plugin.spec.container)
    if plugin.spec.service is not None:
        values = parameters.resolved(plugin, entry, run)
        return ServiceRecipe(values, plugin.spec.service, target_url(plugin.spec.service, plugin.metadata.namespace))
    return LoraRecipe(lora_of(plugin, entry, run), trainer_image, plugin.spec.script)
