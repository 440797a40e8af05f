"""Write to a volume so that a reader sees everything or nothing, also after a crash."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.untrusted import Directory

STALE_SECONDS = 24 * 3600
WORK_PREFIX = ".chorus-work-"
"""Begins the names of work directories: what else is beside them, on a claim that holds other data, stays."""


def sync(path: Path) -> None:
    """Bring a file or a directory (its list of names) to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring a directory with everything in it to the disk."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def make_dir(path: Path) -> Path:
    """Make a directory with its parents, readable and writable by the group as the umask allows; return it."""
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def work_dir(parent: Path, *, now: float | None = None) -> Iterator[Path]:
    """Give a fresh directory beside the target, so that a rename is atomic; it is removed if it is still there.

    Directories that crashed processes left there more than a day ago are removed too.
    """
    make_dir(parent)
    oldest = (time.time() if now is None else now) - STALE_SECONDS
    with Directory.at(parent) as folder:
        for name in list(folder.names()):
            with suppress(OSError):
                if name.startswith(WORK_PREFIX) and _is_directory_before(folder, name, oldest):
                    folder.remove(name)
        name = f"{WORK_PREFIX}{secrets.token_hex(8)}"
        (parent / name).mkdir()
        try:
            yield parent / name
        finally:
            with suppress(OSError):
                folder.remove(name)


def _is_directory_before(folder: Directory, name: str, moment: float) -> bool:
    status = folder.status(name)
    return stat.S_ISDIR(status.st_mode) and status.st_mtime < moment


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    with Directory.at(path.parent) as folder:
        folder.write(path.name, content)
        folder.sync()


def check_room(folder: Directory, needed: int, *, what: str) -> None:
    """Raise `VolumeFull` with both sizes unless so many bytes can be added to the volume; `what` needs them."""
    free = folder.free_bytes()
    if needed > free:
        raise DataError(
            Reason.VOLUME_FULL,
            f"{what} needs {_size(needed)}, but the Project's volume has {_size(free)} free",
            hint="make room on the Project's claim, or have it enlarged",
        )


def _size(number: int) -> str:
    unit, name = next(((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB")) if number >= unit), (1, "bytes"))
    return f"{number / unit:.1f} {name}" if unit > 1 else f"{number} {name}"
