"""How the runs of a Project stand: the leaderboard, the promoted models, and which ended runs have had their time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chorus_api.conditions import ConditionType
from chorus_api.phases import Phase
from chorus_api.project import LatestModel, LeaderboardRow, Project
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.conditions import find
from chorus_operator.decisions.decision import DeleteRun
from chorus_operator.decisions.project.admission import is_final
from chorus_operator.decisions.run.publication import latest_row, metric_of

LEADERBOARD_ROWS = 10


def leaderboard(project: Project, runs: Iterable[TrainingRun], frame: str) -> list[LeaderboardRow]:
    """Order the TRAINED runs on the present frame by the objective, best first."""
    objective = project.spec.objective
    scored = []
    for run in runs:
        trained_here = run.status.phase == Phase.TRAINED and run.status.resolved and run.status.resolved.frame == frame
        value = metric_of(run.status.model.metrics, objective) if trained_here and run.status.model else None
        if value is not None:
            scored.append((value if objective.direction == "minimize" else -value, run.metadata.name, value, run))
    return [
        LeaderboardRow(plugin=run.spec.plugin, run=name, value=f"{value:.6g}")
        for _, name, value, run in sorted(scored, key=lambda row: row[:2])[:LEADERBOARD_ROWS]
    ]


def latest_models(project: Project, runs: Sequence[TrainingRun]) -> list[LatestModel]:
    """Give the promoted model of each plugin: that of the newest promoted run, else the one known before.

    None where a later run has found that `latest/<plugin>` is somebody else's.
    """
    rows = {row.plugin: row for row in project.status.latest_model}
    for run in sorted(runs, key=_ended):
        if latest_problem(run) is not None:
            rows.pop(run.spec.plugin, None)
        if run.status.model is None or not run.status.model.promoted:
            continue
        frame = run.status.resolved.frame if run.status.resolved else ""
        rows[run.spec.plugin] = latest_row(
            run.spec.plugin, run.metadata.name, run.status.model, project.spec.objective, frame
        )
    return [rows[plugin] for plugin in sorted(rows)]


def latest_problem(run: TrainingRun) -> str | None:
    """Say whose `latest/<plugin>` is, if the run's model could not become it for that."""
    degraded = find(run.status.conditions, ConditionType.DEGRADED)
    return degraded.message if degraded is not None and degraded.reason == Reason.LATEST_NOT_OWNED else None


def beyond_history(project: Project, runs: Sequence[TrainingRun]) -> list[DeleteRun]:
    """Pick the ended runs beyond the history limits; never a plugin's newest run or the one `latest` came from."""
    kept = {row.run for row in project.status.latest_model}
    by_plugin: dict[str, list[TrainingRun]] = {}
    for run in runs:
        by_plugin.setdefault(run.spec.plugin, []).append(run)
    gone: list[DeleteRun] = []
    for group in by_plugin.values():
        newest = max(group, key=made)
        ended = sorted((run for run in group if is_final(run)), key=_ended, reverse=True)
        for limit, good in ((project.spec.history.succeeded, True), (project.spec.history.failed, False)):
            beyond = [run for run in ended if (run.status.phase == Phase.TRAINED) is good][limit:]
            gone += [
                DeleteRun(run.metadata.name, run.metadata.uid)
                for run in beyond
                if run is not newest and run.metadata.name not in kept and not run.metadata.deletion_timestamp
            ]
    return gone


def made(run: TrainingRun) -> tuple[str, int, str]:
    """Order runs by when they were made; equal seconds by the number in the name, then by uid."""
    number = names.run_sequence(run.spec.project_ref.name, run.spec.plugin, run.metadata.name)
    return (run.metadata.creation_timestamp, number, run.metadata.uid)


def _ended(run: TrainingRun) -> tuple[float, str]:
    time = run.status.completion_time
    return (time.timestamp() if time else 0.0, run.metadata.name)
