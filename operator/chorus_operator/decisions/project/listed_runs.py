"""Which runs of a namespace are a Project's: it neither marks nor removes directories of the others on a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from chorus_api.project import Project
from chorus_api.run_config import ListedRuns
from chorus_operator.decisions.observed import parse_time


def listed_runs(project: Project, runs: Iterable[Mapping[str, Any]], *, listed: datetime) -> ListedRuns:
    """Divide runs, as the API server holds them, into the Project's own and others. `listed`: when the list was begun.

    A Project that was deleted and made again has the name of the first one, whose runs are not its own: those that the
    first one made name it as their owner, and those that users made have ended before there was this one.
    """
    own: list[str] = []
    others: list[str] = []
    for run in runs:
        (own if _is_own(project, run) else others).append(run["metadata"]["uid"])
    return ListedRuns(own=own, others=others, listed=listed)


def _is_own(project: Project, run: Mapping[str, Any]) -> bool:
    metadata = run["metadata"]
    if run.get("spec", {}).get("projectRef", {}).get("name") != project.metadata.name:
        return False
    makers = {owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner.get("kind") == "Project"}
    if makers:
        return project.metadata.uid in makers
    ended = parse_time(run.get("status", {}).get("completionTime"))
    made = parse_time(project.metadata.creation_timestamp)
    return ended is None or made is None or ended >= made
