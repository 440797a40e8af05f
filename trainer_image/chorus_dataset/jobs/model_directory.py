"""Bring a run's artefact to `models/<model name>`: take it from the run's directory, check it, rename it.

What was checked is what is published: the artefact is first renamed to `models/.publishing/<run uid>/out`, which no
training pod can write, and no pod of the run is left that could hold a file of it open. It is never copied. One that is
refused goes back to the run's directory, where its owner can look at it.
"""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chorus_api.contract import MODELS, RUNS
from chorus_api.publication import PublishConfig
from chorus_api.reasons import Reason
from chorus_api.records import RunRecord
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.files import check_room
from chorus_dataset.jobs.artefact import (
    METRICS_FILE,
    RECORD_FILE,
    Artefact,
    check_artefact,
    open_to_owner,
    permitted,
    seal_files,
    size_of,
    sync_artefact,
)
from chorus_dataset.jobs.kept_runs import PUBLISHING
from chorus_dataset.jobs.owners import Owner, own, owner_of
from chorus_dataset.jobs.run_record import MAX_RECORD_BYTES, read_record
from chorus_dataset.untrusted import Directory, Refused

LOG = logging.getLogger(__name__)
OUT = "out"
MAX_METRICS_BYTES = 64 << 20
_ADDED: Mapping[str, int] = {RECORD_FILE: MAX_RECORD_BYTES, METRICS_FILE: MAX_METRICS_BYTES}
"""Files of the run that are put beside the artefact, and how many bytes of each are taken."""

Step = Callable[[str], None]


@dataclass(frozen=True)
class Placed:
    """A model that is in its place."""

    digest: str
    bytes: int
    record: RunRecord | None


def place_model(
    root: Directory, config: PublishConfig, *, owner: Owner | None, stop: StopFlag, step: Step
) -> Placed | None:
    """Bring the artefact to its place, or see that it is there; None when there is none and need not be one.

    `owner`: the Project, if it is known. Raises `DataError`: DigestMismatch, PublishFailed, VolumeFull.
    """
    run = owner.model_copy(update={"run_uid": config.run_uid}) if owner is not None else None
    placing = _Placing(root, config, owner=run, stop=stop, step=step)
    try:
        placed = placing.take_and_move() if placing.is_to_be_taken() else placing.see_in_place()
        if placed is not None:
            placing.clear()
    except Refused as error:
        raise DataError(
            Reason.PUBLISH_FAILED, f"{MODELS} or {RUNS} of the claim: {error.strerror}", hint="let Chorus make them"
        ) from error
    return placed


class _Placing:
    """One try."""

    def __init__(
        self, root: Directory, config: PublishConfig, *, owner: Owner | None, stop: StopFlag, step: Step
    ) -> None:
        self._root = root
        self._config = config
        self._owner = owner
        self._stop = stop
        self._step = step
        self._run = f"{RUNS}/{config.run_uid}"
        self._work = f"{MODELS}/{PUBLISHING}/{config.run_uid}"
        self._model = f"{MODELS}/{config.model_name}"
        self._where = f"{self._run}/{OUT}"
        """For messages, also when the artefact has been taken: if it is refused, there it will be."""

    def is_to_be_taken(self) -> bool:
        with suppress(FileNotFoundError):
            self._root.open_to_owner(self._run)
        with permitted(self._run):
            return self._root.has(f"{self._work}/{OUT}") or self._root.has(f"{self._run}/{OUT}")

    def take_and_move(self) -> Placed:
        with self._root.directory(self._run) as run, self._root.make(self._work) as work:
            try:
                self._take(run, work)
                with _taken(work, where=self._where) as out:
                    open_to_owner(out, where=self._where)
                    artefact, record = self._check_run(out, run, work)
                    self._add(out, run, work, artefact)
                    self._stop.check()
                    self._step("sync")
                    sync_artefact(out)
                self._move(work, digest=artefact.digest)
            except Exception:
                self._give_back(run, work)
                raise
        with self._root.directory(self._model) as model:
            return Placed(artefact.digest, size_of(model), record)

    def see_in_place(self) -> Placed | None:
        """Check what an earlier try has put in place."""
        try:
            model = self._root.directory(self._model)
        except FileNotFoundError as error:
            if self._config.optional:
                return None
            raise DataError(
                Reason.PUBLISH_FAILED,
                f"there is neither {self._where} nor {self._model}",
                hint="the training ended without an artefact: look at its log",
            ) from error
        except Refused as error:
            raise DataError(Reason.PUBLISH_FAILED, f"{self._model} {error.strerror}") from error
        self._check_owner()
        LOG.info("the artefact is already at %s", self._model)
        with model:
            artefact = self._check(model, where=self._model)
            return Placed(artefact.digest, size_of(model), self._record(model))

    def clear(self) -> None:
        """Remove the work directory, with what a try that was cut off has left."""
        if self._root.has(self._work):
            self._step("remove work directory")
            self._root.remove(self._work, check=self._stop.check)

    def _take(self, run: Directory, work: Directory) -> None:
        if not work.has(OUT):
            if not stat.S_ISDIR(run.status(OUT).st_mode):
                raise _no_directory(self._where)
            self._step("take")
            run.open_to_owner(OUT)
            with permitted(self._where):
                run.move(OUT, work, OUT)
            self._step("sync taken")
            work.sync()
            run.sync()
        for left in list(work.names()):
            if left != OUT:  # of a try that was cut off
                work.remove(left)

    def _check_run(self, out: Directory, run: Directory, work: Directory) -> tuple[Artefact, RunRecord | None]:
        if self._config.kind == "files":
            self._step("seal")
            seal_files(out, where=self._where, aside=work, check=self._stop.check)
        artefact = self._check(out, where=self._where)
        for name in _ADDED:
            with suppress(FileNotFoundError):
                run.open_to_owner(name)
        return artefact, self._record(run)

    def _check(self, folder: Directory, *, where: str) -> Artefact:
        config = self._config
        artefact = check_artefact(folder, where=where, adapter=config.kind == "adapter", check=self._stop.check)
        if config.expected_digest is not None and artefact.digest != config.expected_digest:
            raise DataError(
                Reason.DIGEST_MISMATCH,
                f"{where} has the digest {artefact.digest}, but the training reported {config.expected_digest}",
                hint="train again: the artefact was changed after the training",
            )
        return artefact

    def _record(self, folder: Directory) -> RunRecord | None:
        """Read the run record; a container need not leave one."""
        return None if self._config.kind == "files" and not folder.has(RECORD_FILE) else read_record(folder)

    def _add(self, out: Directory, run: Directory, work: Directory, artefact: Artefact) -> None:
        """Put the record and the metrics beside the artefact; what a run does not have is left out."""
        names = [name for name in _ADDED if name not in artefact.named]
        check_room(work, sum(_size_of_added(run, name) for name in names), what=f"{self._model} ({', '.join(names)})")
        for name in names:
            self._step(f"add {name}")
            if not run.has(name):
                out.remove_file(name)
                continue
            temporary, target = work.create_random()
            with target, run.file(name, limit=_ADDED[name]) as source:
                shutil.copyfileobj(source, target)
            work.move(temporary, out, name)

    def _move(self, work: Directory, *, digest: str) -> None:
        with self._root.directory(MODELS) as models:
            if models.has(self._config.model_name):
                raise DataError(
                    Reason.PUBLISH_FAILED,
                    f"{self._model} is there already and holds another run's model ({digest} is to be published)",
                    hint="delete that model, or make a new run",
                )
            if self._owner is not None:
                self._step("own model")
                own(models, self._config.model_name, self._owner)
                self._check_owner()
            self._step("rename")
            work.move(OUT, models, self._config.model_name)
            self._step("sync directories")
            models.sync()
            work.sync()

    def _check_owner(self) -> None:
        """Raise `PublishFailed` when the model's name is known to be another run's."""
        with self._root.directory(MODELS) as models:
            known = owner_of(models, self._config.model_name)
        if known is not None and known.run_uid != self._config.run_uid:
            raise DataError(
                Reason.PUBLISH_FAILED,
                f"{self._model} is of another run, {known.run_uid}, of {known.shown}",
                hint="make a new run",
            )

    def _give_back(self, run: Directory, work: Directory) -> None:
        try:
            if work.has(OUT) and not run.has(OUT):
                self._step("give back")
                work.move(OUT, run, OUT)
            if not work.has(OUT):
                self.clear()
        except OSError as error:
            LOG.warning("the refused artefact stays at %s/%s: %s", self._work, OUT, error)


def _taken(work: Directory, *, where: str) -> Directory:
    try:
        with permitted(where):
            work.open_to_owner(OUT)
            return work.directory(OUT)
    except Refused as error:
        raise _no_directory(where) from error


def _no_directory(where: str) -> DataError:
    return DataError(
        Reason.PUBLISH_FAILED,
        f"{where} is no directory",
        hint="the training must leave a directory, and no link to one",
    )


def _size_of_added(run: Directory, name: str) -> int:
    """Size of a file that will be added; `PublishFailed` when it is not taken."""
    try:
        with permitted(name), run.file(name, limit=_ADDED[name]) as file:
            return file.seek(0, 2)
    except FileNotFoundError:
        return 0
    except Refused as error:
        raise DataError(
            Reason.PUBLISH_FAILED, f"{name} {error.strerror}", hint="leave a plain file, or none"
        ) from error
