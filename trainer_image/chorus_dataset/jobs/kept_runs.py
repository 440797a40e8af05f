"""Whose the directories in `runs/` are, and the removal of those whose run is gone.

A claim may hold other things than Chorus's, also in a directory `runs`, and Projects of several namespaces and clusters
may share it. So a Project marks the directories of its runs: `runs/.owners/<uid of the run>.<uid of the Project>`. No
training pod can write that, for it sees its run's own directory alone. Removed is only what bears the Project's own
mark and no other.

The operator lists the runs that there are. The list may be old when the Job runs at last; so what was marked since then
stays. The time of a mark counts, for any time inside a run's directory is what the training makes it.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from chorus_api.contract import MODELS, RUNS
from chorus_api.publication import ListedRuns
from chorus_dataset.jobs.owners import OWNERS
from chorus_dataset.untrusted import Directory

LOG = logging.getLogger(__name__)
PUBLISHING = ".publishing"
"""`models/.publishing/<uid of the run>/`: artefacts that are being published."""
REMOVED = ".removed"
"""`runs/.removed/<uid of the run>.<uid of the Project>`: what is being removed, so that nobody finds half of it."""
MARGIN_SECONDS = 600
"""How far the clocks of the operator and of the volume may be apart."""
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def mark(volume: Directory, run_uids: Iterable[str], *, project_uid: str) -> None:
    """Mark the directories of runs as the Project's: those that are there, and that no Project has marked yet."""
    with volume.make(f"{RUNS}/{OWNERS}") as owners:
        marked = {name.partition(".")[0] for name in owners.names()}
        for uid in run_uids:
            if uid not in marked and _UID.fullmatch(uid) and _is_directory(volume, f"{RUNS}/{uid}"):
                with suppress(FileExistsError):
                    owners.create(f"{uid}.{project_uid}").close()
        owners.sync()


def sweep(
    volume: Directory,
    *,
    project_uid: str,
    listed: ListedRuns,
    now: float,
    step: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Remove what runs of the Project have left that are neither listed nor marked since the list was made.

    `now`: seconds since 1970. `check` is called often and may raise. What cannot be removed is left to a later sweep.
    """
    with volume.make(f"{RUNS}/{OWNERS}") as owners, volume.make(f"{RUNS}/{REMOVED}") as removed:
        oldest = min(listed.listed.timestamp(), now) - MARGIN_SECONDS
        for uid in sorted(_gone(owners, project_uid=project_uid, listed=listed, before=oldest)):
            check()
            try:
                _remove(volume, owners, removed, uid=uid, project_uid=project_uid, step=step, check=check)
            except OSError as error:
                LOG.warning("%s/%s cannot be removed: %s", RUNS, uid, error)


def _gone(owners: Directory, *, project_uid: str, listed: ListedRuns, before: float) -> Iterator[str]:
    """Give the uids of the runs that are gone, of which this Project alone has marked the directory."""
    marks: dict[str, set[str]] = {}
    for name in owners.names():
        uid, _, marked_by = name.partition(".")
        marks.setdefault(uid, set()).add(marked_by)
    there = {*listed.own, *listed.others}
    for uid, projects in marks.items():
        if projects == {project_uid} and uid not in there and _UID.fullmatch(uid):
            if owners.status(f"{uid}.{project_uid}").st_mtime < before:
                yield uid


def _remove(
    volume: Directory,
    owners: Directory,
    removed: Directory,
    *,
    uid: str,
    project_uid: str,
    step: Callable[[str], None],
    check: Callable[[], None],
) -> None:
    """Remove what a run has left, and the mark last, so that what is cut off is done again."""
    aside = f"{uid}.{project_uid}"
    if not removed.has(aside) and _is_directory(volume, f"{RUNS}/{uid}"):
        step(f"sweep {uid}")
        volume.open_to_owner(f"{RUNS}/{uid}")
        volume.move(f"{RUNS}/{uid}", removed, aside)
    step(f"remove {uid}")
    removed.remove(aside, check=check)
    volume.remove(f"{MODELS}/{PUBLISHING}/{uid}", check=check)
    if volume.has(f"{RUNS}/{uid}"):
        return  # no directory: it is not Chorus's
    step(f"unmark {uid}")
    owners.remove_file(aside)
    LOG.info("removed the directory of run %s, which is gone", uid)


def _is_directory(volume: Directory, name: str) -> bool:
    try:
        return stat.S_ISDIR(volume.status(name).st_mode)
    except FileNotFoundError:
        return False
