"""Prepare a training frame on a Project's volume, and tell the control plane until it has heard."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import ValidationError

from chorus_api.contract import FRAMES
from chorus_api.reasons import Reason
from chorus_api.records import TerminationRecord
from chorus_api.run_config import PrepareConfig
from chorus_client.sender import Sender
from chorus_client.stop import StopFlag
from chorus_client.termination import tidy
from chorus_dataset.errors import DataError
from chorus_dataset.files import make_dir, sync, sync_tree, work_dir, write_file
from chorus_dataset.frame.ingest import ingest
from chorus_dataset.frame.kept_frames import sweep, take_up
from chorus_dataset.frame.manifest import fit
from chorus_dataset.frame.mapping import Mapping
from chorus_dataset.frame.spool import Spool
from chorus_dataset.frame.write import EVAL_FILE, TRAIN_FILE, parse_fraction, write_frame
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.source import open_dataset
from chorus_protocol.messages import FrameFailed, FrameManifest, FrameReady, Payload

LOG = logging.getLogger(__name__)
MANIFEST_FILE = "frame.json"
DELIVER_SECONDS = 600.0
_PLACE_TRIES = 10
"""How often a frame is brought to its place while other Jobs do the same."""


def prepare_frame(
    config: PrepareConfig,
    volume: Path,
    *,
    check: Callable[[], None] = lambda: None,
    egress: Egress | None = None,
    now: Callable[[], float] = time.time,
) -> FrameManifest:
    """Read, check, map and split the source, and put the frame into `frames/<name>/` of the volume.

    A frame of the same content that is already there is used again. Those that the Project needs no more are removed
    first: the volume may be full of them. `check` is called often and may raise to stop.
    `egress`: where data may come from; by default as the configuration says. Raises `DataError` for everything that is
    wrong with the data or the configuration.
    """
    egress = egress or Egress(api_server=config.api_server)
    fraction = parse_fraction(config.eval_fraction)
    mapping = Mapping(config.fields)
    with work_dir(volume / FRAMES) as folder, Spool(folder) as spool:
        if config.keep_frames is not None:
            aside = make_dir(folder / "unneeded")
            user = config.project_uid
            sweep(volume / FRAMES, user=user, keep=config.keep_frames, now=now(), aside=aside, check=check)
        reading = make_dir(folder / "source")
        with open_dataset(config, volume=volume, work_dir=reading, egress=egress, check=check) as reader:
            ingested = ingest(reader, mapping=mapping, spool=spool, max_rows=config.max_rows, check=check)
        frame = make_dir(folder / "frame")
        written = write_frame(spool, ingested.columns, fraction=fraction, folder=frame, check=check)
        manifest = fit(
            FrameManifest(
                name=written.name,
                digest=written.digest,
                rows=written.rows,
                eval_rows=written.eval_rows,
                read_rows=ingested.read_rows,
                columns=written.columns,
                rejected=ingested.rejects.report(),
                info=config.info,
            )
        )
        write_file(frame / MANIFEST_FILE, manifest.model_dump_json(indent=1, exclude_none=True).encode())
        take_up(volume / FRAMES, manifest.name, user=config.project_uid)
        _put_in_place(frame, manifest, volume / FRAMES / manifest.name)
    return manifest


def run_prepare(
    config: PrepareConfig,
    volume: Path,
    *,
    stop: StopFlag,
    sender: Sender | None = None,
    deliver_seconds: float = DELIVER_SECONDS,
    egress: Egress | None = None,
) -> TerminationRecord:
    """Prepare, and report FRAME_READY or FRAME_FAILED until it is acknowledged, for at most `deliver_seconds`.

    `egress`: see `prepare_frame`. Raises the `DataError` of the preparation once it is reported, `Stopped` if the pod
    is stopped meanwhile, and `DataError` with reason PreparationFailed if the control plane did not take the message.
    """
    try:
        manifest = prepare_frame(config, volume, check=stop.check, egress=egress)
    except DataError as error:
        if not error.retryable:
            failed = FrameFailed(
                project_id=config.project_id,
                prepare_key=config.prepare_key,
                reason=error.reason,
                detail=tidy(error.detail, 4096),
            )
            try:
                _deliver(failed, config, sender=sender, stop=stop, seconds=deliver_seconds)
            except DataError as undelivered:
                LOG.error("%s", undelivered.message)
        raise
    LOG.info("frame %s: %d rows and %d for evaluation", manifest.name, manifest.rows, manifest.eval_rows)
    ready = FrameReady(project_id=config.project_id, prepare_key=config.prepare_key, frame=manifest)
    _deliver(ready, config, sender=sender, stop=stop, seconds=deliver_seconds)
    return TerminationRecord(
        outcome="succeeded",
        reason=Reason.FRAME_READY,
        message=f"frame {manifest.name}: {manifest.rows} rows and {manifest.eval_rows} for evaluation",
        digest=manifest.digest,
        samples=manifest.rows,
    )


def _deliver(payload: Payload, config: PrepareConfig, *, sender: Sender | None, stop: StopFlag, seconds: float) -> None:
    sender = sender or Sender(config.messaging, attempt=0)
    sender.send(payload)
    end = time.monotonic() + seconds
    while not sender.flush(min(0.25, max(0.0, end - time.monotonic()))):
        if stop.requested or time.monotonic() >= end:
            break
    lost = sender.close(0.0)
    if not lost:
        return
    stop.check()
    raise DataError(
        Reason.PREPARATION_FAILED,
        f"the control plane {'refused' if lost[0].refused else 'did not acknowledge'} {lost[0].type}: {lost[0].error}",
        hint="" if lost[0].refused else "see whether the operator runs and whether pods may reach it",
        retryable=not lost[0].refused,
    )


def _put_in_place(frame: Path, manifest: FrameManifest, target: Path) -> None:
    """Rename the frame to its name, or use the equal one that is there; only a damaged one is replaced.

    Another Project's Job may put an equal frame there at any moment, and its runs use that as soon as it is there.
    """
    if not _is_intact(target, manifest):
        sync_tree(frame)
    for number in range(_PLACE_TRIES):
        if _is_intact(target, manifest):
            LOG.info("the frame %s is already there", target.name)
            # The digest covers the rows; counts of rejected rows and additional information may be new.
            write_file(target / MANIFEST_FILE, (frame / MANIFEST_FILE).read_bytes())
            return
        try:
            frame.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            _move_damaged_aside(target, manifest, frame.with_name(f"replaced-{number}"))
            continue
        sync(target.parent)
        return
    message = f"{FRAMES}/{target.name} of the claim changes all the time: other Jobs write there"
    raise DataError(Reason.INTERNAL_ERROR, message, retryable=True)


def _move_damaged_aside(target: Path, manifest: FrameManifest, aside: Path) -> None:
    """Move a frame that is not intact out of its place; it goes with the work directory."""
    if _is_intact(target, manifest):
        return
    with suppress(FileNotFoundError):
        target.rename(aside)
    if _is_intact(aside, manifest):  # another Job has put it there since it was looked at
        with suppress(OSError):
            aside.rename(target)


def _is_intact(target: Path, manifest: FrameManifest) -> bool:
    """Whether there is a frame with this digest whose files can be read."""
    try:
        there = FrameManifest.model_validate_json((target / MANIFEST_FILE).read_bytes())
        rows = pq.read_metadata(target / TRAIN_FILE).num_rows
        eval_rows = pq.read_metadata(target / EVAL_FILE).num_rows
    except (OSError, ValueError, ValidationError):  # ArrowInvalid is a ValueError
        return False
    return (there.digest, rows, eval_rows) == (manifest.digest, manifest.rows, manifest.eval_rows)
