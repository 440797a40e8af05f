"""A test's directory and rights of a user who is not root, as Chorus's pods have them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65532


@contextmanager
def directory_of_a_user() -> Iterator[Path]:
    """Give a directory that a user who is not root can reach; it is removed with whatever modes are in it."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        yield folder
    finally:
        for below, directories, _ in os.walk(folder):
            for name in directories:
                os.chmod(Path(below) / name, 0o700)
        shutil.rmtree(folder)


@contextmanager
def without_rights_of_root(folder: Path) -> Iterator[None]:
    """Run as the owner of everything in `folder`, to whom modes apply; whoever is no root stays who they are."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
