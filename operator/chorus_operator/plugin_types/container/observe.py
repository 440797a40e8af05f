"""A container's run: it ends with exit code 0, must have named its model, and may have no artefact to publish."""

from __future__ import annotations

from chorus_api.run_config import ContainerConfig
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.run import attempt, publication
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.decisions.run.train import train as train_by_job


def train(draft: AcceptedDraft, config: ContainerConfig) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward."""
    return train_by_job(draft, trained=lambda draft: _trained(draft, config), heeds_refusals=True, names_model=True)


def _trained(draft: AcceptedDraft, config: ContainerConfig) -> Decision[TrainingRunStatus]:
    name = attempt.model_name(draft)
    if name is None:  # its sidecar is still sending
        return draft.done(again=1.0)
    if config.artefact == "None":
        return publication.without_artefact(draft, name)
    return publication.publish(draft, publication.Artefact("files"))
