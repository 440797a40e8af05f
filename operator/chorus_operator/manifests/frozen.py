"""The immutable ConfigMap that holds what an accepted run uses."""

from __future__ import annotations

from collections.abc import Mapping

from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.accepted import AcceptedRun
from chorus_operator.manifests.job import config_map, run_owner
from chorus_operator.manifests.pod import Manifest


def frozen_config_map(run: TrainingRun, accepted: AcceptedRun, content: Mapping[str, str]) -> Manifest:
    """Build it of its content."""
    config = accepted.config
    labels = names.labels(config.project, role="config", plugin=config.plugin, run=config.run_name)
    return config_map(accepted.config_map, config.namespace, labels, run_owner(run), content)
