"""What the row of an entry says when its Plugin is not there: it never was, or it was deleted, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chorus_api.conditions import ConditionType
from chorus_api.phases import Phase
from chorus_api.project import ProjectPlugin
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import resolve
from chorus_operator.decisions.conditions import find
from chorus_operator.decisions.project.admission import is_final
from chorus_operator.decisions.project.state import ProjectView
from chorus_operator.decisions.run.unresolved import in_words


def without_plugin(view: ProjectView, entry: ProjectPlugin, runs: Sequence[TrainingRun]) -> dict[str, object]:
    """Give the fields of the row of an entry whose Plugin is not there, or cannot be read."""
    name = entry.plugin_ref.name
    if name not in view.missing_plugins:
        message = f"Plugin {name!r} cannot be read by this version of Chorus; its condition Ready says why."
        return {"phase": Phase.FAILED, "reason": Reason.INVALID_SPEC.value, "message": message}
    missing = resolve.plugin_missing(view.project, entry, meant=view.missing_plugins[name])
    message = _deleted(view, entry, runs, missing) or missing.message
    return {"phase": Phase.FAILED, "reason": missing.reason.value, "message": message}


def _deleted(
    view: ProjectView, entry: ProjectPlugin, runs: Sequence[TrainingRun], missing: resolve.Problem
) -> str | None:
    """Say when the Plugin was deleted, as its queued runs do; None unless it was there."""
    assert missing.lost is not None
    what = missing.lost.what
    noticed = _noticed_by_runs(runs, what)
    row = next((row for row in view.project.status.plugins if row.name == entry.name), None)
    if noticed is None and row is not None:
        if row.message is not None and row.message.startswith(f"{what} at "):
            return row.message
        if _was_there(view, row.reason):
            noticed = view.now
    return f"{what} at {in_words(noticed)}; {missing.lost.remedy}." if noticed is not None else None


def _noticed_by_runs(runs: Sequence[TrainingRun], what: str) -> datetime | None:
    blocks = [find(run.status.conditions, ConditionType.BLOCKED) for run in runs if not is_final(run)]
    times = [
        block.last_transition_time for block in blocks if block is not None and block.message.startswith(f"{what} at ")
    ]
    return min(times, default=None)


def _was_there(view: ProjectView, reason: str | None) -> bool:
    """Tell whether the Plugin was there at the last look, which was at this very spec: since then it was deleted."""
    project = view.project
    return project.status.observed_generation == project.metadata.generation and reason not in (
        Reason.PLUGIN_NOT_FOUND,
        Reason.PLUGIN_DISABLED,
    )
