"""The type `service`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.project import ProjectPlugin
from chorus_api.run_config import FrozenRun, ServiceConfig
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.resolve import Problem
from chorus_operator.decisions.run.plugin_type import Manifest, PluginType, RunRequest, WantedAttempt
from chorus_operator.decisions.run.state import AcceptedDraft, AcceptedView
from chorus_operator.plugin_types.service import manifests, observe, outcomes, requirements, resolve


class ServiceType(PluginType):
    """An HTTP service that is told by POST; an exchange holds its frame and takes its artefact."""

    name = "service"
    config = ServiceConfig
    roles = ("exchange",)
    reads_plugin = True
    speaks_by_account = True
    rows = outcomes.ROWS

    def is_known(self, plugin: Plugin) -> bool:
        """Wait for the service's own report, or until it is found to be offline."""
        return requirements.is_known(plugin)

    def decide_plugin(self, view: PluginView) -> Decision[PluginStatus]:
        """Ask the service again and again."""
        return requirements.decide_plugin(view)

    def account_of_plugin(self, plugin: Plugin) -> str | None:
        """Name the service account of the service's pods."""
        return resolve.service_of(plugin).service_account_name

    def recipe(self, plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> Recipe:
        """Overlay the parameters."""
        return resolve.recipe_of(plugin, entry, run)

    def problem(self, request: RunRequest, recipe: Recipe, *, judge_url: Callable[[str], str | None]) -> Problem | None:
        """Check the address and the parameters."""
        return resolve.problem(request, _service(recipe).url, judge_url=judge_url)

    def freeze(
        self, request: RunRequest, recipe: Recipe, common: Mapping[str, Any], *, resume: TrainingRun | None
    ) -> FrozenRun:
        """Write down where the service is."""
        return resolve.freeze(_service(recipe), common)

    def account(self, config: FrozenRun) -> str | None:
        """Name the service account that the run was accepted with."""
        return _config(config).service_account

    def attempt_manifests(self, wanted: WantedAttempt) -> list[Manifest]:
        """Make the exchange."""
        return manifests.exchange_manifests(wanted, _config(wanted.accepted.config))

    def is_over(self, draft: AcceptedDraft) -> bool:
        """Tell whether the service has named its model."""
        return observe.is_over(draft)

    def suspend(self, draft: AcceptedDraft) -> None:
        """End the attempt: a service saves nothing with us and cannot be halted."""
        draft.stop()

    def is_trained(self, view: AcceptedView) -> bool:
        """Tell whether the service has named its model."""
        return observe.has_named(view)

    def train(self, draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
        """Bring an attempt forward."""
        return observe.train(draft, _config(draft.view.accepted.config))


def _config(config: FrozenRun) -> ServiceConfig:
    assert isinstance(config, ServiceConfig)
    return config


def _service(recipe: Recipe) -> resolve.ServiceRecipe:
    assert isinstance(recipe, resolve.ServiceRecipe)
    return recipe
