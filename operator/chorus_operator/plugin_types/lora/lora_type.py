"""The type `lora`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chorus_api.plugin import Plugin
from chorus_api.project import ProjectPlugin
from chorus_api.run_config import FrozenRun, RunConfig
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.resolve import NamedClaim, Problem
from chorus_operator.decisions.run.plugin_type import Manifest, PluginType, RunRequest, WantedAttempt, WantedFetch
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.plugin_types.lora import manifests, observe, outcomes, requirements, resolve


class LoraType(PluginType):
    """A LoRA adapter for a base model, trained by the trainer image or a script in it."""

    name = "lora"
    config = RunConfig
    columns = requirements.COLUMNS
    can_resume = True
    rows = outcomes.ROWS

    def recipe(self, plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> Recipe:
        """Overlay the parameters."""
        return resolve.recipe_of(plugin, entry, run, trainer_image=trainer_image)

    def problem(self, request: RunRequest, recipe: Recipe, *, judge_url: Callable[[str], str | None]) -> Problem | None:
        """Check the base model."""
        return resolve.problem(request, _lora(recipe).parameters.base_model)

    def named_claim(self, request: RunRequest) -> NamedClaim | None:
        """Name the claim that the base model is on."""
        recipe = resolve.recipe_of(request.plugin, request.entry, request.run, trainer_image="")
        return resolve.named_claim(recipe.parameters.base_model)

    def freeze(
        self, request: RunRequest, recipe: Recipe, common: Mapping[str, Any], *, resume: TrainingRun | None
    ) -> FrozenRun:
        """Write run.json of the trainer."""
        return resolve.freeze(request, _lora(recipe), common, resume=resume)

    def attempt_manifests(self, wanted: WantedAttempt) -> list[Manifest]:
        """Make the training Job."""
        return [manifests.training_job(wanted, _config(wanted.accepted.config))]

    def fetch_key(self, config: FrozenRun) -> str | None:
        """Name a hub's base model."""
        return _config(config).base_model.base_model_id

    def fetch_manifests(self, wanted: WantedFetch) -> list[Manifest]:
        """Make the Job that fetches the base model."""
        return manifests.fetch_manifests(wanted, _config(wanted.accepted.config).base_model)

    def is_ready(self, draft: AcceptedDraft) -> bool:
        """Wait for the base model."""
        return observe.is_ready(draft, _config(draft.view.accepted.config))

    def train(self, draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
        """Bring an attempt forward."""
        return observe.train(draft, _config(draft.view.accepted.config))


def _config(config: FrozenRun) -> RunConfig:
    assert isinstance(config, RunConfig)
    return config


def _lora(recipe: Recipe) -> resolve.LoraRecipe:
    assert isinstance(recipe, resolve.LoraRecipe)
    return recipe
