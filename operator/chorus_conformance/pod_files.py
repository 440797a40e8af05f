"""The directories and files that one execution of a plugin is given, and what is found in them afterwards."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chorus_api import contract
from chorus_api.reasons import Reason
from chorus_conformance.observed import OutFile, Publication
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.artefact import SUMS_FILE, check_artefact, seal_files
from chorus_dataset.untrusted import Directory

_SCAN_BYTES = 64 << 20
_OPEN = 0o777  # whoever the plugin runs as may write here


@dataclass(frozen=True)
class PodFiles:
    """Directories of this machine; `run` is kept from one attempt to the next."""

    root: Path
    run: Path

    @classmethod
    def make(cls, root: Path, *, run: Path | None = None) -> PodFiles:
        """Make the directories below `root`, which must not exist."""
        pod_files = cls(root, run or root / "run")
        for folder in (root, pod_files.data, pod_files.identity):
            folder.mkdir(parents=True)
            folder.chmod(0o755)
        for folder in (pod_files.run, pod_files.out, pod_files.messages, pod_files.tmp):
            folder.mkdir(exist_ok=True)
            folder.chmod(_OPEN)
        pod_files.termination.touch()
        pod_files.termination.chmod(0o666)
        return pod_files

    @property
    def data(self) -> Path:
        """The frame."""
        return self.root / "data"

    @property
    def identity(self) -> Path:
        """Token and CA bundle."""
        return self.root / "identity"

    @property
    def out(self) -> Path:
        """The artefact."""
        return self.run / "out"

    @property
    def messages(self) -> Path:
        """The messages file of a plugin that speaks by file."""
        return self.root / "messages"

    @property
    def tmp(self) -> Path:
        """The temporary directory of a process."""
        return self.root / "tmp"

    @property
    def termination(self) -> Path:
        """The termination message of a container."""
        return self.root / "termination-log"

    @property
    def token(self) -> Path:
        """The token, as the plugin reads it."""
        return self.identity / "token"

    @property
    def log(self) -> Path:
        """What the plugin printed."""
        return self.root / "output.txt"

    def here(self) -> dict[PurePosixPath, Path]:
        """Map each path of the contract to the path on this machine."""
        return {
            contract.RUN_CONFIG: self.root / "run.json",
            contract.TRAINING_DATA: self.root / "training_data.json",
            contract.DATA_DIR: self.data,
            contract.RUN_DIR: self.run,
            contract.MESSAGES_DIR: self.messages,
            contract.IDENTITY_DIR: self.identity,
        }

    def write_token(self, token: str) -> None:
        """Put a token in place of the one that is there, as the kubelet does: by a rename."""
        fresh = self.token.with_name("token.new")
        fresh.write_text(token, encoding="ascii")
        fresh.chmod(0o644)
        fresh.rename(self.token)


def snapshot(*folders: Path, but: tuple[Path, ...] = ()) -> Mapping[str, tuple[int, int]]:
    """Note size and time of every file below the folders, without those below `but`."""
    found = {}
    for folder in folders:
        for path in _walk(folder, but):
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def _walk(folder: Path, but: tuple[Path, ...]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry in but:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, but)
        else:
            yield entry


def changed(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Name the files that are new, gone or other than before."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def out_files(out: Path) -> tuple[OutFile, ...]:
    """List the artefact."""
    if not out.is_dir():
        return ()
    return tuple(OutFile(path.relative_to(out).as_posix(), path.lstat().st_size) for path in _walk(out, ()))


def try_to_publish(out: Path, scratch: Path) -> Publication:
    """Check a copy of an artefact as the publish Job would, that of a plugin without SHA256SUMS included."""
    try:
        shutil.copytree(out, scratch, symlinks=True)
        with Directory.at(scratch) as folder, Directory.at(scratch.parent) as aside:
            seal_files(folder, where=out.name, aside=aside)
            return Publication(digest=check_artefact(folder, where=out.name, adapter=False).digest)
    except DataError as error:
        return Publication(fault=error)
    except (OSError, shutil.Error) as error:
        fault = DataError(
            Reason.PUBLISH_FAILED, f"the files cannot be read: {error}"[:500], hint="let others read them"
        )
        return Publication(fault=fault)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def has_sums(out: Path) -> bool:
    """Whether the plugin wrote SHA256SUMS itself."""
    return (out / SUMS_FILE).is_file()


def showing(token: str, *folders: Path, but: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Name the files below the folders that hold the token."""
    wanted = token.encode()
    paths = [
        path for folder in folders if folder.exists() for path in ([folder] if folder.is_file() else _walk(folder, but))
    ]
    return tuple(path.name for path in paths if _holds(path, wanted))


def _holds(path: Path, wanted: bytes) -> bool:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return wanted in file.read(_SCAN_BYTES)
    except OSError:
        return False


def tail(path: Path, size: int = 16 << 10) -> str:
    """Read the end of a file as text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
