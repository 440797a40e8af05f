"""Write to a volume so that a reader sees everything or nothing, also after a crash."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STALE_SECONDS = 24 * 3600
_PREFIX = ".tmp-"


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
    for left in parent.glob(f"{_PREFIX}*"):
        if left.is_dir() and left.stat().st_mtime < oldest:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    # mkdtemp lets only its owner in; the pods of a Project share a group, not a user.
    folder.chmod(0o777 & ~current_umask())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f"{_PREFIX}{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def current_umask() -> int:
    """Return the process' umask, which can only be read by setting it."""
    mask = os.umask(0o002)
    os.umask(mask)
    return mask
