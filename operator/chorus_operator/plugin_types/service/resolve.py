"""From a service's spec and its parameters to what the operator freezes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chorus_api.ids import content_hash
from chorus_api.plugin import Plugin, ServicePlugin
from chorus_api.project import ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.run_config import ServiceConfig
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import parameters
from chorus_operator.decisions.decision import Endpoint
from chorus_operator.decisions.resolve import Problem, misplaced
from chorus_operator.decisions.run.plugin_type import RunRequest


@dataclass(frozen=True)
class ServiceRecipe:
    """Where a service is, and its parameters."""

    parameters: dict[str, int | str]
    service: ServicePlugin
    url: str

    def training_data(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""
        return dict(self.parameters)

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
        return content_hash([frame, self.parameters, self.url, self.service.artefact])


def service_of(plugin: Plugin) -> ServicePlugin:
    """Give the service of a Plugin of this type."""
    assert plugin.spec.service is not None
    return plugin.spec.service


def endpoint_of(plugin: Plugin) -> Endpoint:
    """Say where the service of a Plugin is posted to, and what it is known by."""
    service = service_of(plugin)
    ref, ca = service.service_ref, service.ca_config_map
    url = service.url or ""
    if ref is not None:
        url = f"{ref.scheme}://{ref.name}.{plugin.metadata.namespace}.svc:{ref.port}{ref.path or '/'}"
    return Endpoint(url, ca.name if ca else None, ca.key if ca else None)


def recipe_of(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun) -> ServiceRecipe:
    """Overlay the parameters: run over project over plugin."""
    return ServiceRecipe(parameters.resolved(plugin, entry, run), service_of(plugin), endpoint_of(plugin).url)


def problem(request: RunRequest, url: str, *, judge_url: Callable[[str], str | None]) -> Problem | None:
    """Check where the service is, and its parameters."""
    found = misplaced(request.entry, request.run, "lora", "lora is for type lora; use parameters.")
    if found is None and (wrong := judge_url(url)) is not None:
        name = request.plugin.metadata.name
        return Problem(Reason.BAD_CONFIGURATION, f"Plugin {name!r}: spec.service: {wrong}.")
    return found or parameters.problem(request.plugin, request.entry, request.run)


def freeze(recipe: ServiceRecipe, common: Mapping[str, Any]) -> ServiceConfig:
    """Write what the operator freezes. No pod reads it."""
    ca = recipe.service.ca_config_map
    return ServiceConfig(
        **common,
        url=recipe.url,
        ca_config_map=ca.name if ca else None,
        ca_key=ca.key if ca else None,
        artefact=recipe.service.artefact,
        service_account=recipe.service.service_account_name,
        parameters=recipe.parameters,
    )
