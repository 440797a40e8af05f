"""The type: what a run of it uses, its two Jobs, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chorus_api import contract
from chorus_api.ids import content_hash
from chorus_api.plugin import Plugin
from chorus_api.project import ProjectPlugin
from chorus_api.run_config import FrozenRun
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.resolve import Problem
from chorus_operator.decisions.run.plugin_type import Manifest, PluginType, RunRequest, WantedAttempt
from chorus_operator.decisions.run.publication import Artefact, publish
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.decisions.run.train import train
from chorus_operator.manifests.job import attempt_job, compute
from chorus_operator.manifests.pod import IDENTITY_MOUNT, Mount, claim_volume, config_map_volume, identity_volume
from pair_type.models import PairConfig, PairPlugin, PairSpec


@dataclass(frozen=True)
class PairRecipe:
    """The two images."""

    pair: PairPlugin

    def training_data(self) -> dict[str, Any]:
        return {}

    def training_hash(self, frame: str) -> str:
        return content_hash([frame, self.pair.model_dump(mode="json")])


class PairType(PluginType):
    """Two Jobs for each attempt, which must both end well."""

    name = "pair"
    config = PairConfig
    roles = ("train", "pupil")

    def recipe(self, plugin: Plugin, entry: ProjectPlugin, run: TrainingRun, *, trainer_image: str) -> Recipe:
        assert isinstance(plugin.spec, PairSpec)
        assert plugin.spec.pair is not None
        return PairRecipe(plugin.spec.pair)

    def problem(self, request: RunRequest, recipe: Recipe, *, judge_url: Callable[[str], str | None]) -> Problem | None:
        return None

    def freeze(
        self, request: RunRequest, recipe: Recipe, common: Mapping[str, Any], *, resume: TrainingRun | None
    ) -> FrozenRun:
        assert isinstance(recipe, PairRecipe)
        return PairConfig(**common, teacher=recipe.pair.teacher, pupil=recipe.pair.pupil)

    def attempt_manifests(self, wanted: WantedAttempt) -> list[Manifest]:
        config = wanted.accepted.config
        assert isinstance(config, PairConfig)
        return [self._job(wanted, "train", config.teacher), self._job(wanted, "pupil", config.pupil)]

    def _job(self, wanted: WantedAttempt, role: str, image: str) -> Manifest:
        accepted, config = wanted.accepted, wanted.accepted.config
        env = {contract.ATTEMPT_ENV: str(wanted.number)}
        return attempt_job(
            wanted.run,
            accepted,
            attempt=wanted.number,
            role=role,
            suffix="" if role == "train" else role,
            container={"name": role, "image": image} | compute(accepted.operator, env),
            volumes=[
                claim_volume("data", accepted.operator.claim),
                config_map_volume("config", accepted.config_map),
                identity_volume(),
            ],
            mounts=[
                Mount("data", str(contract.DATA_DIR), f"{contract.FRAMES}/{config.frame_name}", read_only=True),
                Mount("config", str(contract.RUN_CONFIG), "run.json", read_only=True),
                IDENTITY_MOUNT,
            ],
        )

    def train(self, draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
        return train(draft, trained=lambda draft: publish(draft, Artefact("files")))
