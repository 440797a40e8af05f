"""Publish a run's artefact: check it, rename it to where models live, promote it, and sweep what deleted runs left.

The steps may be cut off anywhere and done again: until the one rename the artefact is in the run's directory, after it
in the model's, and each later step does nothing where it was done before.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chorus_api.contract import LATEST, MODELS, RUNS
from chorus_api.reasons import Reason
from chorus_api.run_config import PublishConfig, RunRecord, TerminationRecord
from chorus_client import StopFlag
from chorus_client.termination import clip
from chorus_dataset.artefact import ADDED_FILES, RECORD_FILE, SUMS_FILE, Artefact, check_artefact, seal_files
from chorus_dataset.errors import DataError
from chorus_dataset.files import make_dir, sync, sync_tree

LOG = logging.getLogger(__name__)
OUT = "out"
SWEEP_MARGIN_SECONDS = 600
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def run_publish(
    config: PublishConfig, volume: Path, *, stop: StopFlag, step: Callable[[str], None] = lambda _: None
) -> TerminationRecord:
    """Publish the run's artefact and return the termination record.

    Raises `DataError`: DigestMismatch, PublishFailed, or BadConfiguration for a name that is no file name. `step` is
    called with a name before each step that changes the volume.
    """
    _check_names(config)
    run_dir, model_dir = volume / RUNS / config.run_uid, volume / MODELS / config.model_name
    out = run_dir / OUT
    if os.path.lexists(out):
        if config.kind == "files" and out.is_dir() and not out.is_symlink():
            seal_files(out, where=f"{RUNS}/{config.run_uid}/{OUT}")
        artefact = _check(out, where=f"{RUNS}/{config.run_uid}/{OUT}", config=config, stop=stop)
        record = _record(run_dir / RECORD_FILE, config)
        _move(run_dir, model_dir, digest=artefact.digest, stop=stop, step=step)
    elif model_dir.is_dir():
        LOG.info("the artefact is already at %s/%s", MODELS, config.model_name)
        artefact = _check(model_dir, where=f"{MODELS}/{config.model_name}", config=config, stop=stop)
        record = _record(model_dir / RECORD_FILE, config)
    elif config.optional:
        return TerminationRecord(outcome="succeeded", message="there is no artefact, and there need not be one")
    else:
        raise DataError(
            Reason.PUBLISH_FAILED,
            f"there is neither {RUNS}/{config.run_uid}/{OUT} nor {MODELS}/{config.model_name}",
            hint="the training ended without an artefact: look at its log",
        )
    if config.promote:
        _promote(volume, plugin=config.plugin, model_name=config.model_name, step=step)
    if config.keep_run_uids is not None:
        _sweep(volume / RUNS, keep={config.run_uid, *config.keep_run_uids}, model_dir=model_dir, step=step)
    return TerminationRecord(
        outcome="succeeded",
        reason=Reason.MODEL_PUBLISHED,
        model_name=config.model_name,
        digest=artefact.digest,
        bytes=_size(model_dir),
        promoted=config.promote,
        **(_told(record) if record is not None else {}),
    )


def _told(record: RunRecord) -> dict[str, Any]:
    """What the run record adds to the termination record."""
    return {
        "base_model": clip(record.base_model, 200),
        "samples": record.samples_used,
        "final_loss": record.final_loss,
        "eval_loss": record.eval_loss,
        "step": record.steps,
    }


def _record(path: Path, config: PublishConfig) -> RunRecord | None:
    """Read the run record; a container need not leave one."""
    if config.kind == "files" and not os.path.lexists(path):
        return None
    return read_record(path)


def read_record(path: Path) -> RunRecord:
    """Read a run record; `PublishFailed` naming the field if it is missing, not valid, or a loss is not finite."""
    try:
        if path.is_symlink():
            raise OSError(0, "is a symbolic link")
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            Reason.PUBLISH_FAILED, f"{RECORD_FILE} cannot be read: {error.strerror}", hint="look at the training's log"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(
            Reason.PUBLISH_FAILED,
            f"{RECORD_FILE}: {field or 'content'}: {first['msg']}",
            hint="a model is published only with a complete record and a finite loss",
        ) from error


def _check_names(config: PublishConfig) -> None:
    for field, value in (("runUid", config.run_uid), ("modelName", config.model_name), ("plugin", config.plugin)):
        if not _NAME.fullmatch(value) or ".." in value:
            raise DataError(Reason.BAD_CONFIGURATION, f"{field} {value!r} cannot be the name of a file")


def _check(folder: Path, *, where: str, config: PublishConfig, stop: StopFlag) -> Artefact:
    if folder.is_symlink() or not folder.is_dir():
        raise DataError(Reason.PUBLISH_FAILED, f"{where} is no directory")
    artefact = check_artefact(folder, where=where, adapter=config.kind == "adapter", check=stop.check)
    if config.expected_digest is not None and artefact.digest != config.expected_digest:
        raise DataError(
            Reason.DIGEST_MISMATCH,
            f"{where} has the digest {artefact.digest}, but the training reported {config.expected_digest}",
            hint="train again: the artefact was changed after the training",
        )
    return artefact


def _move(run_dir: Path, model_dir: Path, *, digest: str, stop: StopFlag, step: Callable[[str], None]) -> None:
    """Add the record and the metrics to the artefact, and rename it to the model's directory."""
    out = run_dir / OUT
    make_dir(model_dir.parent)
    if model_dir.exists():
        raise DataError(
            Reason.PUBLISH_FAILED,
            f"{MODELS}/{model_dir.name} is there already and holds another run's model ({digest} is to be published)",
            hint="delete that model, or make a new run",
        )
    named = (out / SUMS_FILE).read_text(encoding="utf-8", errors="replace")
    for name in ADDED_FILES:
        if not re.search(rf" [ *](?:\./)?{re.escape(name)}$", named, re.MULTILINE):
            step(f"add {name}")
            _add(run_dir / name, out / name)
    stop.check()
    step("sync")
    sync_tree(out)
    step("rename")
    out.rename(model_dir)
    step("sync directories")
    sync(model_dir.parent)
    sync(run_dir)


def _add(source: Path, target: Path) -> None:
    """Copy a file beside its target and rename it; what a run does not have is left out."""
    if source.is_symlink() or not source.is_file():
        target.unlink(missing_ok=True)
        return
    # No other name than the target's own may be in the directory when the work is cut off: it would not be known.
    temporary = source.with_name(f"{source.name}.publish")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _promote(volume: Path, *, plugin: str, model_name: str, step: Callable[[str], None]) -> None:
    """Point `latest/<plugin>` to the model, in one step."""
    folder = make_dir(volume / LATEST)
    link, target = folder / plugin, Path("..") / MODELS / model_name
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = folder / f".{plugin}.new"
    temporary.unlink(missing_ok=True)
    step("link")
    temporary.symlink_to(target)
    step("promote")
    temporary.replace(link)
    step("sync latest")
    sync(folder)


def _sweep(runs: Path, *, keep: Iterable[str], model_dir: Path, step: Callable[[str], None]) -> None:
    """Remove the directories of runs that are gone.

    The list of those to keep was made after this run's training had ended. So a directory that is not on it, but was
    touched since, may belong to a younger run, and is left to a later sweep.
    """
    kept = set(keep)
    youngest = (model_dir / SUMS_FILE).stat().st_mtime - SWEEP_MARGIN_SECONDS
    with os.scandir(runs) as entries:
        gone = [
            each for each in entries if each.name not in kept and each.stat(follow_symlinks=False).st_mtime < youngest
        ]
    for entry in sorted(gone, key=lambda each: each.name):
        step(f"sweep {entry.name}")
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        except OSError as error:
            LOG.warning("%s/%s cannot be removed: %s", RUNS, entry.name, error)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
