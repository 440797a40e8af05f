"""The decision about one Project: its claim, its frame, its runs and their order, and what they add up to.

Everything is decided anew each time, so there is no state to get stuck in.
"""

from __future__ import annotations

from collections.abc import Sequence

from chorus_api import contract
from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.ids import message_id
from chorus_api.phases import Phase
from chorus_api.project import FrameSummary, PluginRow, ProjectPlugin, ProjectStatus
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.applicability import Verdict, suits
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.decision import Decision, Event, MakeClaim, MakeRun
from chorus_operator.decisions.plugin.status import problem
from chorus_operator.decisions.project import history
from chorus_operator.decisions.project.admission import admit, is_accepted, is_final
from chorus_operator.decisions.project.frame import MISSING_SOURCE_SECONDS, prepare
from chorus_operator.decisions.project.missing import without_plugin
from chorus_operator.decisions.project.phase import Entry, project_phase
from chorus_operator.decisions.project.refresh import preparations_now
from chorus_operator.decisions.project.state import ProjectDraft, ProjectView
from chorus_operator.decisions.requirements import requirements_of
from chorus_protocol.messages import FrameManifest

COLUMNS_SHOWN = 50
NAMES_TRIED = 20
"""Names that are tried for an automatic run in one decision about a Project."""
MORE_NAMES_SECONDS = 1.0
HIGHEST_SEQUENCE = 10 ** (names.SEQUENCE_DIGITS + 1) - 1
"""Highest number that is believed: an older version counted on from any that a user wrote into a run's name."""


def decide_project(view: ProjectView) -> Decision[ProjectStatus]:
    """Decide about a Project."""
    project = view.project
    if project.metadata.deletion_timestamp:
        return Decision(project.status)
    draft = ProjectDraft(
        view,
        Conditions(project.status.conditions, generation=project.metadata.generation, now=view.now),
        preparations_now(project, view.now),
    )
    _ensure_claim(draft)
    again = prepare(draft)
    frame = draft.frame
    entries = [_entry(draft, entry, frame) for entry in project.spec.plugins]
    if frame is not None and not draft.suspended and view.refused is None:
        entries = [
            _run_and_admit(draft, entry, shown, frame) for entry, shown in zip(_specs(view), entries, strict=True)
        ]
    draft.actions += history.beyond_history(project, view.runs)
    return _close(draft, entries, frame, again)


def _specs(view: ProjectView) -> Sequence[ProjectPlugin]:
    return view.project.spec.plugins


def _ensure_claim(draft: ProjectDraft) -> None:
    storage = draft.view.project.spec.storage
    if not draft.view.claim_exists and not (storage and storage.claim_name):
        draft.actions.append(MakeClaim())


def _runs_of(view: ProjectView, plugin: str) -> list[TrainingRun]:
    return [run for run in view.runs if run.spec.plugin == plugin]


def verdict_for(view: ProjectView, entry: ProjectPlugin, frame: FrameManifest | None) -> Verdict | None:
    """Tell whether an entry's plugin suits the frame; None while that cannot be known."""
    plugin = view.plugins.get(entry.plugin_ref.name)
    if plugin is None or frame is None or not view.types[plugin.spec.type].is_known(plugin):
        return None
    needs = requirements_of(plugin, columns=view.types[plugin.spec.type].columns)
    return suits(needs, frame, view.project.spec.dataset.info)


def _entry(draft: ProjectDraft, entry: ProjectPlugin, frame: FrameManifest | None) -> Entry:
    """Show a plugin by its newest run; without a run, by what is known of it."""
    view = draft.view
    before = next((row for row in view.project.status.plugins if row.name == entry.name), PluginRow(name=entry.name))
    runs = _runs_of(view, entry.name)
    row = _numbered(view, before, runs)
    verdict = verdict_for(view, entry, frame)
    row = row.model_copy(update=_shown(view, entry, verdict, runs))
    return Entry(row=row, optional=entry.optional, enabled=entry.enabled)


def _numbered(view: ProjectView, before: PluginRow, runs: Sequence[TrainingRun]) -> PluginRow:
    """Count on from the runs that are there: the operator may have ended between making one and writing it down."""
    numbers = {names.run_sequence(view.project.metadata.name, before.name, run.metadata.name): run for run in runs}
    written = before.sequence if before.sequence <= HIGHEST_SEQUENCE else 0
    highest = max([written, *numbers])
    key = before.trigger_key
    for number in sorted(numbers):
        if number > written:
            key = numbers[number].metadata.annotations.get(contract.TRIGGER_KEY_ANNOTATION, key)
    return PluginRow(name=before.name, sequence=highest, trigger_key=key)


def _shown(
    view: ProjectView, entry: ProjectPlugin, verdict: Verdict | None, runs: Sequence[TrainingRun]
) -> dict[str, object]:
    if not entry.enabled:
        return {"reason": Reason.PLUGIN_DISABLED.value, "message": "enabled is false."} | _newest_run(view, runs, entry)
    if entry.plugin_ref.name not in view.plugins:
        return without_plugin(view, entry, runs)
    plugin = view.plugins[entry.plugin_ref.name]
    if not view.types[plugin.spec.type].is_known(plugin):
        unknown = problem(plugin)
        return {"phase": unknown.phase, "reason": unknown.reason, "message": unknown.message} | _run_of(
            view, runs, entry
        )
    if verdict is not None and not verdict.applicable:
        return {
            "phase": Phase.NOT_APPLICABLE,
            "applicable": False,
            "reason": verdict.reason.value,
            "message": verdict.message,
        } | _run_of(view, runs, entry)
    shown = {"applicable": verdict.applicable if verdict else None} | _newest_run(view, runs, entry)
    if shown.get("phase") == Phase.NOT_APPLICABLE:
        shown["applicable"] = False
    return shown


def _run_of(view: ProjectView, runs: Sequence[TrainingRun], entry: ProjectPlugin) -> dict[str, object]:
    return {key: value for key, value in _newest_run(view, runs, entry).items() if key == "run"}


def _newest_run(view: ProjectView, runs: Sequence[TrainingRun], entry: ProjectPlugin) -> dict[str, object]:
    if not runs:
        return {}
    newest = max(runs, key=history.made)
    trained = [run for run in runs if run.status.model is not None]
    model = max(trained, key=history.made).status.model if trained else None
    return {
        "run": newest.metadata.name,
        "phase": newest.status.phase or Phase.QUEUED,
        "reason": newest.status.reason,
        "message": newest.status.message,
        "model_name": model.name if model else None,
        "metrics": dict(newest.status.model.metrics) if newest.status.model else {},
        "outdated": _outdated(view, newest, entry),
    }


def _outdated(view: ProjectView, run: TrainingRun, entry: ProjectPlugin) -> bool:
    plugin = view.plugins.get(entry.plugin_ref.name)
    if plugin is None or run.status.resolved is None:
        return False
    recipe = view.types[plugin.spec.type].recipe(plugin, entry, run, trainer_image=view.trainer_image)
    return recipe.training_hash(run.status.resolved.frame) != run.status.resolved.hash


def _run_and_admit(draft: ProjectDraft, entry: ProjectPlugin, shown: Entry, frame: FrameManifest) -> Entry:
    """Make the automatic run that is wanted, and let the first in line go."""
    view = draft.view
    verdict = verdict_for(view, entry, frame)
    runs = _runs_of(view, entry.name)
    if verdict is None or not entry.enabled:
        return shown
    draft.actions += admit(runs, verdict, policy=view.project.spec.concurrency_policy)
    key = names.trigger_hash(frame.name, entry)
    busy = any(not is_final(run) for run in runs) and view.project.spec.concurrency_policy == "Forbid"
    wanted = view.project.spec.train_on == "Change" and shown.row.trigger_key != key and verdict.applicable and not busy
    if not wanted:
        return shown
    sequence = _free_number(view, entry, after=shown.row.sequence)
    if sequence is None:
        return _without_a_name(draft, entry, shown)
    name = names.run_name(view.project.metadata.name, entry.name, sequence)
    draft.actions.append(MakeRun(entry, name, key))
    row = shown.row.model_copy(
        update={
            "run": name,
            "sequence": sequence,
            "trigger_key": key,
            "phase": Phase.QUEUED,
            "reason": Reason.AWAITING_ADMISSION.value,
            "message": "The run is being made.",
            "metrics": {},
            "outdated": False,
        }
    )
    return Entry(row=row, optional=shown.optional, enabled=shown.enabled)


def _free_number(view: ProjectView, entry: ProjectPlugin, *, after: int) -> int | None:
    """Find the first number whose name no other run is known to have; None when NAMES_TRIED of them are taken."""
    # A run of the same entry is not passed over unseen: it may be the very one that is wanted, made a moment ago.
    others = {run.metadata.name for run in view.runs if run.spec.plugin != entry.name} | view.taken
    numbers = range(after + 1, after + 1 + NAMES_TRIED)
    name = view.project.metadata.name
    return next((number for number in numbers if names.run_name(name, entry.name, number) not in others), None)


def _without_a_name(draft: ProjectDraft, entry: ProjectPlugin, shown: Entry) -> Entry:
    """Say that a run cannot be made yet, and go on with later numbers next time."""
    project, sequence = draft.view.project.metadata.name, shown.row.sequence
    first, last = (names.run_name(project, entry.name, number) for number in (sequence + 1, sequence + NAMES_TRIED))
    changes = {
        "sequence": sequence + NAMES_TRIED,
        "phase": Phase.QUEUED,
        "reason": Reason.NAME_TAKEN.value,
        "message": f"A run is to be made, and other runs have the names from {first} to {last}.",
    }
    draft.names_tried = True
    return Entry(row=shown.row.model_copy(update=changes), optional=shown.optional, enabled=shown.enabled)


def _close(
    draft: ProjectDraft, entries: Sequence[Entry], frame: FrameManifest | None, again: float | None
) -> Decision[ProjectStatus]:
    view = draft.view
    busy = any(is_accepted(run) and not is_final(run) and run.status.phase != Phase.SUSPENDED for run in view.runs) or (
        view.prepare is not None and not view.prepare.finished and not view.prepare.suspended
    )
    draft.conditions.set(ConditionType.DEGRADED, *_degraded(draft, entries))
    phase, reason, message = project_phase(entries, draft.conditions.all(), suspended=draft.suspended, busy=busy)
    draft.conditions.set(ConditionType.READY, phase == Phase.TRAINED, reason, message)
    status = view.project.status.model_copy(
        update={
            "id": message_id(view.project.metadata.uid),
            "phase": phase,
            "reason": reason,
            "message": message,
            "observed_generation": view.project.metadata.generation,
            "conditions": draft.conditions.all(),
            "plugins": [entry.row for entry in entries],
            "latest_model": history.latest_models(view.project, view.runs),
            "leaderboard": history.leaderboard(view.project, view.runs, frame.name) if frame else [],
        }
        | {"preparations": draft.preparations, "looks": None}
        | ({"dataset": summary(draft, frame)} if frame else {})
    )
    return Decision(
        status=status,
        actions=tuple(draft.actions),
        events=_events(view.project.status, phase, reason, message, draft.conditions.get(ConditionType.DATASET_READY)),
        requeue_after=_requeue_seconds(draft, again),
    )


def _degraded(draft: ProjectDraft, entries: Sequence[Entry]) -> tuple[bool, Reason, str]:
    """Say what is not well although the Project may be TRAINED: names, failed optional plugins, links of others."""
    refused = draft.view.refused
    if refused is not None and draft.frame is not None:  # without a frame DatasetReady says it
        return True, *refused
    broken = [entry.row for entry in entries if entry.optional and entry.row.phase in (Phase.FAILED, Phase.CANCELLED)]
    shown = {entry.row.run for entry in entries}
    problems = [
        f"{run.spec.plugin}: {problem}"
        for run in draft.view.runs
        if run.metadata.name in shown and (problem := history.latest_problem(run)) is not None
    ]
    if not broken and not problems:
        return False, Reason.ALL_WELL, ""
    message = "; ".join([*(f"{row.name}: {row.reason}" for row in broken), *problems])
    return True, Reason.PLUGIN_FAILED if broken else Reason.LATEST_NOT_OWNED, message


def _requeue_seconds(draft: ProjectDraft, again: float | None) -> float | None:
    waits = [again]
    if draft.view.refused is not None:
        waits.append(MISSING_SOURCE_SECONDS)
    if draft.names_tried:
        waits.append(MORE_NAMES_SECONDS)
    return min((wait for wait in waits if wait is not None), default=None)


def summary(draft: ProjectDraft, frame: FrameManifest) -> FrameSummary:
    """Show a frame in the Project's status."""
    return FrameSummary(
        name=frame.name,
        digest=frame.digest,
        rows=frame.rows,
        eval_rows=frame.eval_rows,
        rejected_rows=sum(rejected.count for rejected in frame.rejected),
        columns=[column.name for column in frame.columns[:COLUMNS_SHOWN]],
        config_map=draft.result.config_map if draft.result is not None else None,
    )


def _events(
    before: ProjectStatus, phase: str, reason: str, message: str, dataset: Condition | None
) -> tuple[Event, ...]:
    events = []
    was_ready = any(c.type == ConditionType.DATASET_READY and c.status == "True" for c in before.conditions)
    if dataset is not None and dataset.status == "True" and not was_ready:
        events.append(Event(Reason.FRAME_READY, dataset.message))
    if phase != before.phase and phase in (Phase.TRAINED, Phase.FAILED):
        events.append(Event(Reason(reason), message, warning=phase == Phase.FAILED))
    return tuple(events)
