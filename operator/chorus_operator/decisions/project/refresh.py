"""When the data of a Project is looked at again, and which look made the frame that is in use.

Looks are counted from the first one of the Project, over all of its specs, and each has a key of its own. So what an
earlier look found is never taken for that of a newer one, also when a spec comes back: its frame may be gone by then.
`refreshSeconds` after a look has ended the next one is due. All of it follows from the Project's status and the time
that is handed in, so an operator that was killed anywhere decides the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from chorus_api.project import Looks, Project
from chorus_operator.decisions import names


def looks_of(project: Project) -> Looks:
    """What is written down of the looks at the present spec; the next one for a spec that is new."""
    base = names.dataset_hash(project)
    known = project.status.looks
    if known is None or known.key == base:
        return known or Looks(key=base)
    return Looks(key=base, number=known.number + 1)


def looks_now(project: Project, now: datetime) -> Looks:
    """The looks with the next one begun if it is due. A Project that stands still looks at nothing."""
    looks = looks_of(project)
    due = next_look(project, looks)
    if due is None or now < due or project.spec.suspend:
        return looks
    return looks.model_copy(update={"number": looks.number + 1, "ended_time": None})


def next_look(project: Project, looks: Looks) -> datetime | None:
    """When the next look is due; None without `refreshSeconds`, and while one goes on."""
    seconds = project.spec.dataset.refresh_seconds
    return looks.ended_time + timedelta(seconds=seconds) if seconds and looks.ended_time else None


def current_preparation_id(looks: Looks) -> str:
    """Name what the newest look's Job and result are called by."""
    return names.preparation_id(looks.key, looks.number)


def kept_preparation_id(looks: Looks) -> str | None:
    """Name the result of an earlier look whose frame is in use until the newest look has one."""
    kept = looks.frame_number
    return names.preparation_id(looks.key, kept) if kept is not None and kept != looks.number else None


def ended(looks: Looks, *, ready: bool, now: datetime) -> Looks:
    """Write down that the newest look has ended, and whether its frame is the one in use from now on."""
    return looks.model_copy(
        update={
            "ended_time": looks.ended_time or now,
            "frame_number": looks.number if ready else looks.frame_number,
        }
    )


def outdated_keys(before: Looks, after: Looks) -> Iterator[str]:
    """Name the looks whose Jobs and results nobody needs once the newest one has ended.

    Each ended look removes those before it, so that there never are more than two and the one that goes on.
    """
    if before.ended_time is not None or after.ended_time is None:
        return
    needed = (after.number, after.frame_number)
    for number in dict.fromkeys((after.number - 1, before.frame_number)):
        if number is not None and number >= 0 and number not in needed:
            yield names.preparation_id(after.key, number)
