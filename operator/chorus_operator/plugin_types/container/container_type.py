"""The type `container`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.project import ProjectPlugin
from chorus_api.resources import Resources
from chorus_api.run_config import ContainerConfig, FrozenRun, Messaging
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.parameters import problem
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.resolve import Problem
from chorus_operator.decisions.run.plugin_type import Manifest, PluginType, RunRequest, WantedAttempt
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.plugin_types.container import manifests, observe, requirements, resolve


class ContainerType(PluginType):
    """An image that speaks the plugin protocol, in a Job of its own."""

    name = "container"
    config = ContainerConfig

    def is_known(self, plugin: Plugin) -> bool:
        """Wait for the image's own report."""
        return self.image_to_describe(plugin) is None

    def image_to_describe(self, plugin: Plugin) -> str | None:
        """Name the image, unless it has answered for the Plugin's generation."""
        return requirements.image_to_describe(plugin)

    def describe_manifests(
        self, plugin: Plugin, messaging: Messaging, *, operator_image: str, job_resources: Resources
    ) -> list[Manifest]:
        """Make the Job that asks the image."""
        return manifests.describe_manifests(
            plugin, messaging, operator_image=operator_image, job_resources=job_resources
        )

    def decide_plugin(self, view: PluginView) -> Decision[PluginStatus]:
        """Ask the image once."""
        return requirements.decide_plugin(view)

    def refuse_plugin(self, view: PluginView, message: str) -> Decision[PluginStatus]:
        """Say that the image cannot be asked."""
        return requirements.refuse_plugin(view, message)

    def recipe(self, plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> Recipe:
        """Overlay the parameters."""
        return resolve.recipe_of(plugin, entry, run)

    def problem(self, request: RunRequest, recipe: Recipe, *, judge_url: Callable[[str], str | None]) -> Problem | None:
        """Check the parameters."""
        return problem(request.plugin, request.entry, request.run)

    def freeze(
        self, request: RunRequest, recipe: Recipe, common: Mapping[str, Any], *, resume: TrainingRun | None
    ) -> FrozenRun:
        """Write run.json of the container."""
        assert isinstance(recipe, resolve.ContainerRecipe)
        return resolve.freeze(recipe, common)

    def files(self, config: FrozenRun) -> Mapping[str, str]:
        """Write the configuration of the sidecar."""
        return resolve.files(_config(config))

    def attempt_manifests(self, wanted: WantedAttempt) -> list[Manifest]:
        """Make the Job."""
        return [manifests.container_job(wanted, _config(wanted.accepted.config))]

    def train(self, draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
        """Bring an attempt forward."""
        return observe.train(draft, _config(draft.view.accepted.config))


def _config(config: FrozenRun) -> ContainerConfig:
    assert isinstance(config, ContainerConfig)
    return config
