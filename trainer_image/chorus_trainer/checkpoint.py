"""Checkpoints that are whole or not there: written aside, flushed, renamed, and hashed, so that damage shows.

`checkpoints/<attempt>-<step>/` holds the files of one checkpoint and the marker COMPLETE with their SHA-256. Only a
directory whose marker agrees with its files is ever resumed from, whichever attempt of the run wrote it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)
COMPLETE = "COMPLETE"
_NAME = re.compile(r"^(\d+)-(\d+)$")
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on the volume."""

    path: Path
    attempt: int
    step: int


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run. `fingerprint` says what they were trained on: others are not resumed from."""

    root: Path
    attempt: int
    keep: int
    fingerprint: str
    _rejected: set[str] = field(default_factory=set)

    def save(self, step: int, write: Callable[[Path], None]) -> Checkpoint:
        """Make the checkpoint of `step`: `write` puts its files into the directory it is given. Old ones go.

        Raises OSError when the volume is full or gone; no half checkpoint is left under a valid name.
        """
        target = self.root / f"{self.attempt}-{step}"
        aside = self.root / f"{_TEMPORARY}{target.name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            write(aside)
            for path in aside.iterdir():
                path.chmod(0o664)  # libraries make some files their owner's alone; a pod of the next attempt must read
            files = {path.name: _flushed_digest(path) for path in sorted(aside.iterdir())}
            marker = {"step": step, "attempt": self.attempt, "fingerprint": self.fingerprint, "files": files}
            (aside / COMPLETE).write_text(json.dumps(marker, indent=1))
            _flushed_digest(aside / COMPLETE)
            flush_directory(aside)
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        flush_directory(self.root)
        self._rejected.discard(target.name)
        self._prune()
        return Checkpoint(target, self.attempt, step)

    def newest(self) -> Checkpoint | None:
        """The checkpoint of the highest step that is whole and of this training; what is not is skipped, and said."""
        for found in self._by_step():
            problem = self._problem(found)
            if problem is None:
                return found
            logger.warning("checkpoint %s is not used: %s", found.path.name, problem)
            self._rejected.add(found.path.name)
        return None

    def _by_step(self) -> list[Checkpoint]:
        names = [_NAME.match(path.name) for path in self.root.glob("*")] if self.root.is_dir() else []
        found = [Checkpoint(self.root / m.group(0), int(m.group(1)), int(m.group(2))) for m in names if m]
        return sorted(found, key=lambda one: (one.step, one.attempt), reverse=True)

    def _problem(self, checkpoint: Checkpoint) -> str | None:
        try:
            marker = json.loads((checkpoint.path / COMPLETE).read_bytes())
            if marker["fingerprint"] != self.fingerprint:
                return "it belongs to a training with other parameters, data or base model"
            if marker["step"] != checkpoint.step:
                return f"its name says step {checkpoint.step}, its marker {marker['step']}"
            for name, digest in marker["files"].items():
                if digest_of(checkpoint.path / name) != digest:
                    return f"{name} is damaged"
        except OSError as error:
            return f"it is incomplete: {error.strerror}: {Path(str(error.filename)).name}"
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"its {COMPLETE} is damaged"
        return None

    def _prune(self) -> None:
        whole = [one for one in self._by_step() if one.path.name not in self._rejected]
        superfluous = [one.path for one in whole[max(self.keep, 1) :]]
        for path in [*superfluous, *(self.root / name for name in self._rejected), *self.root.glob(f"{_TEMPORARY}*")]:
            shutil.rmtree(path, ignore_errors=True)
        self._rejected.clear()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flushed_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_directory(path: Path) -> None:
    """Have the names in a directory survive a crash of the node."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
