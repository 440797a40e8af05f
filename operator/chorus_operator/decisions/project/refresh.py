"""When the data of a Project is prepared again, and which preparation made the frame that is in use.

Preparations are counted from the first one of the Project, over all of its specs, and each has a key of its own. So
what an earlier one found is never taken for that of a newer one, also when a spec comes back: its frame may be gone by
then. `refreshSeconds` after a preparation has ended the next one is due. All of it follows from the Project's status
and the time that is handed in, so an operator that was killed anywhere decides the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from chorus_api.project import Preparations, Project
from chorus_operator.decisions import names


def preparations_of(project: Project) -> Preparations:
    """Read the preparations of the present spec from the status; begin the next one for a spec that is new."""
    base = names.dataset_hash(project)
    known = project.status.preparations or project.status.looks
    if known is None or known.key == base:
        return known or Preparations(key=base)
    return Preparations(key=base, number=known.number + 1)


def preparations_now(project: Project, now: datetime) -> Preparations:
    """The preparations with the next one begun if it is due. A Project that stands still preparations at nothing."""
    preparations = preparations_of(project)
    due = next_preparation(project, preparations)
    if due is None or now < due or project.spec.suspend:
        return preparations
    return preparations.model_copy(update={"number": preparations.number + 1, "ended_time": None})


def next_preparation(project: Project, preparations: Preparations) -> datetime | None:
    """When the next preparation is due; None without `refreshSeconds`, and while one goes on."""
    seconds = project.spec.dataset.refresh_seconds
    return preparations.ended_time + timedelta(seconds=seconds) if seconds and preparations.ended_time else None


def current_preparation_id(preparations: Preparations) -> str:
    """Name the Job and the result of the newest preparation."""
    return names.preparation_id(preparations.key, preparations.number)


def kept_preparation_id(preparations: Preparations) -> str | None:
    """Name the result of an earlier preparation whose frame is in use until the newest one has a frame."""
    kept = preparations.frame_number
    return names.preparation_id(preparations.key, kept) if kept is not None and kept != preparations.number else None


def ended(preparations: Preparations, *, ready: bool, now: datetime) -> Preparations:
    """Record that the newest preparation has ended, and whether its frame is the one in use from now on."""
    return preparations.model_copy(
        update={
            "ended_time": preparations.ended_time or now,
            "frame_number": preparations.number if ready else preparations.frame_number,
        }
    )


def outdated_keys(before: Preparations, after: Preparations) -> Iterator[str]:
    """Name the preparations whose Jobs and results nobody needs once the newest one has ended.

    Each ended preparation removes those before it, so that there never are more than two and the one that goes on.
    """
    if before.ended_time is not None or after.ended_time is None:
        return
    needed = (after.number, after.frame_number)
    for number in dict.fromkeys((after.number - 1, before.frame_number)):
        if number is not None and number >= 0 and number not in needed:
            yield names.preparation_id(after.key, number)
