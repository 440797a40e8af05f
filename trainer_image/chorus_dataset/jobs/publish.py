"""Publish a run's artefact: bring it to where models live, promote it, and sweep what deleted runs left.

The steps may be cut off anywhere and done again: where the artefact is tells how far they came, and each step does
nothing where it was done before.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chorus_api.publication import PublishConfig
from chorus_api.reasons import Reason
from chorus_api.records import RunRecord, TerminationRecord
from chorus_client.stop import StopFlag
from chorus_client.termination import clip
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.kept_runs import mark, sweep
from chorus_dataset.jobs.latest import promote
from chorus_dataset.jobs.model_directory import Step, place_model
from chorus_dataset.jobs.owners import Owner
from chorus_dataset.untrusted import Directory

LOG = logging.getLogger(__name__)
LATEST_OWNER_CHARACTERS = 200
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def run_publish(
    config: PublishConfig,
    volume: Path,
    *,
    stop: StopFlag,
    step: Step = lambda _: None,
    now: Callable[[], float] = time.time,
) -> TerminationRecord:
    """Publish the run's artefact and return the termination record.

    Raises `DataError`: DigestMismatch, PublishFailed, VolumeFull, or BadConfiguration for a name that is no file name.
    `step` is called with a name before each step that changes the volume; `now` gives seconds since 1970.
    """
    _check_names(config)
    owner = _owner(config)
    with Directory.at(volume) as root:
        if owner is not None:
            _mark(root, config, owner, step=step)
        placed = place_model(root, config, owner=owner, stop=stop, step=step)
        if placed is None:
            return TerminationRecord(outcome="succeeded", message="there is no artefact, and there need not be one")
        other = None
        if config.promote:
            other = promote(
                root,
                plugin=config.plugin,
                model_name=config.model_name,
                owner=owner,
                promoted_before=config.promoted_before,
                step=step,
            )
        if owner is not None and config.listed_runs is not None:
            _sweep(root, config, owner, now=now(), stop=stop, step=step)
    return TerminationRecord(
        outcome="succeeded",
        reason=Reason.MODEL_PUBLISHED,
        model_name=config.model_name,
        digest=placed.digest,
        bytes=placed.bytes,
        promoted=config.promote and other is None,
        latest_owner=None if other is None else clip(other, LATEST_OWNER_CHARACTERS),
        **(_told(placed.record) if placed.record is not None else {}),
    )


def _told(record: RunRecord) -> dict[str, Any]:
    """What the run record adds to the termination record."""
    return {
        "base_model": clip(record.base_model, 200),
        "samples": record.samples_used,
        "final_loss": record.final_loss,
        "eval_loss": record.eval_loss,
        "eval_loss_without_adapter": record.eval_loss_without_adapter,
        "step": record.steps,
    }


def _check_names(config: PublishConfig) -> None:
    names = [("runUid", config.run_uid), ("modelName", config.model_name), ("plugin", config.plugin)]
    names += [("projectUid", config.project_uid)] if config.project_uid else []
    for field, value in names:
        if not _NAME.fullmatch(value) or ".." in value:
            raise DataError(Reason.BAD_CONFIGURATION, f"{field} {value!r} cannot be the name of a file")


def _owner(config: PublishConfig) -> Owner | None:
    """The Project that publishes; None for a configuration of a Chorus that did not say which it is."""
    if not config.project_uid:
        return None
    return Owner(project_uid=config.project_uid, namespace=config.namespace, project=config.project)


def _mark(root: Directory, config: PublishConfig, owner: Owner, *, step: Step) -> None:
    """Mark the directories of the Project's runs. A model is published also where that cannot be done."""
    step("mark")
    listed = config.listed_runs.own if config.listed_runs is not None else []
    try:
        mark(root, {config.run_uid, *listed}, project_uid=owner.project_uid)
    except OSError as error:
        LOG.warning("the runs' directories cannot be marked, so they will not be swept: %s", error)


def _sweep(root: Directory, config: PublishConfig, owner: Owner, *, now: float, stop: StopFlag, step: Step) -> None:
    assert config.listed_runs is not None
    listed = config.listed_runs.model_copy(update={"own": [config.run_uid, *config.listed_runs.own]})
    try:
        sweep(root, project_uid=owner.project_uid, listed=listed, now=now, step=step, check=stop.check)
    except OSError as error:
        LOG.warning("the directories of deleted runs cannot be swept: %s", error)
