"""Who uses which frame of a claim, and the removal of those that nobody needs any more.

Projects may share a claim, and equal content is one frame. So each Project leaves a mark for every frame that it takes
up: `frames/.users/<frame>.<uid of the Project>`. A frame is removed by a Project that has marked it, and not while
another one has, nor if it was there before there were marks.

The operator lists the frames that the Project still needs. The list may be old when the Job runs at last; so what was
made or taken up since then, which changes its time, is never removed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from chorus_api.run_config import KeptFrames
from chorus_dataset.files import make_dir, sync

LOG = logging.getLogger(__name__)
USERS = ".users"
UNKNOWN = "unknown"
"""Stands for whoever used a frame that nobody had marked."""
MARGIN_SECONDS = 600
"""How far the clocks of the operator and of the volume may be apart."""
_FRAME = re.compile(r"df-[0-9a-f]{12}")


def take_up(frames: Path, name: str, *, user: str) -> None:
    """Mark a frame as used by a Project, before anybody looks whether it is there: from now on it is not removed."""
    marks, target = make_dir(frames / USERS), frames / name
    if os.path.lexists(target) and not _users(marks, name):
        (marks / f"{name}.{UNKNOWN}").touch()
    (marks / f"{name}.{user}").touch()
    sync(marks)
    if _is_folder(target):
        os.utime(target)


def sweep(
    frames: Path, *, user: str, keep: KeptFrames, now: float, aside: Path, check: Callable[[], None] = lambda: None
) -> None:
    """Remove the frames that a Project has used, that nobody else uses and that are neither listed nor young.

    `aside`: a directory of the same volume, which frames are moved to first, so that nobody finds half of one. `check`
    is called before each and may raise. What cannot be removed is left to a later sweep.
    """
    marks = frames / USERS
    if not _is_folder(frames) or not _is_folder(marks):
        return
    youngest = min(keep.listed.timestamp(), now) - MARGIN_SECONDS
    names = {mark.partition(".")[0] for mark in os.listdir(marks) if mark.partition(".")[2] == user}
    for name in sorted(names.difference(keep.names)):
        check()
        try:
            if _FRAME.fullmatch(name):
                _let_go(frames, name, user=user, youngest=youngest, aside=aside)
        except OSError as error:
            LOG.warning("the frame %s cannot be removed: %s", name, error)


def _let_go(frames: Path, name: str, *, user: str, youngest: float, aside: Path) -> None:
    marks, target, moved = frames / USERS, frames / name, aside / name
    if _is_young(target, youngest):
        return
    if _is_folder(target) and _users(marks, name) == {user}:
        target.rename(moved)
        if _is_young(moved, youngest) or _users(marks, name) != {user}:
            moved.rename(target)  # somebody has taken it up in this instant
            return
        shutil.rmtree(moved)
        LOG.info("removed the frame %s, which nothing uses any more", name)
    (marks / f"{name}.{user}").unlink(missing_ok=True)


def _users(marks: Path, name: str) -> set[str]:
    return {user for frame, _, user in (mark.partition(".") for mark in os.listdir(marks)) if frame == name}


def _is_folder(path: Path) -> bool:
    """Whether there is a directory, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _is_young(path: Path, youngest: float) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_mtime >= youngest
