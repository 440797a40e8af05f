"""Reconcile a Project: see what is known of it, its runs and its prepare Job, decide, confirm, act, admit runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chorus_api import contract
from chorus_api.ids import message_id
from chorus_api.plugin import Plugin
from chorus_api.project import Preparations, Project, ProjectStatus
from chorus_api.reasons import Reason
from chorus_api.run_config import KeptFrames
from chorus_api.training_run import TrainingRun
from chorus_kube.errors import AlreadyExists, Conflict, Invalid
from chorus_kube.resources import CONFIG_MAPS, JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names
from chorus_operator.decisions.decision import (
    Action,
    Admit,
    Decision,
    DeletePod,
    DeleteRun,
    MakeClaim,
    MakeRun,
    RemovePreparation,
    StartPrepare,
)
from chorus_operator.decisions.job_resources import job_resources
from chorus_operator.decisions.observed import job_view
from chorus_operator.decisions.project.admission import is_accepted, is_final
from chorus_operator.decisions.project.decide import decide_project
from chorus_operator.decisions.project.quiet import seconds_between_writes
from chorus_operator.decisions.project.refresh import current_preparation_id, kept_preparation_id, preparations_now
from chorus_operator.decisions.project.state import FrameResult, ProjectView
from chorus_operator.manifests import job as manifests
from chorus_operator.manifests.prepare import prepare_manifests
from chorus_operator.reconcile.act import create_once, finish
from chorus_operator.reconcile.admit import admit_run
from chorus_operator.reconcile.children import (
    Owner,
    Taken,
    is_owned,
    read_child,
    read_claim,
    read_if_owned,
    read_pods,
)
from chorus_operator.reconcile.claims import make_claim, with_claim
from chorus_operator.reconcile.confirm import confirm_unchanged
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.meant import meant_names
from chorus_operator.reconcile.object_events import read_events
from chorus_operator.reconcile.patch import status_patch
from chorus_operator.reconcile.source import source_problem
from chorus_operator.reconcile.training_run import counted_as_accepted
from chorus_protocol.messages import StoredFrame


async def reconcile_project(context: ReconcileContext, key: Key) -> float | None:
    """Bring one Project forward; returns the seconds after which to look again."""
    stored = await context.stores.get(PROJECTS, namespace=key.namespace, name=key.name)
    if stored is None or stored["metadata"].get("deletionTimestamp"):
        return None
    project = await parse(context, PROJECTS, Project, stored)
    if project is None:
        return None
    return await _bring_forward(context, stored, _with_id(project))


async def _bring_forward(context: ReconcileContext, stored: dict[str, Any], project: Project) -> float | None:
    project = await with_claim(context.kube, project)
    view = await _read(context, project)
    decision = decide_project(view)
    try:
        await _confirm(context, view, decision.actions)
        for action in decision.actions:
            if not isinstance(action, MakeRun | Admit):
                await _act(context, view, action)
        decision = await _make_runs(context, view, decision)
    except Taken as error:
        decision = decide_project(replace(view, refused=(Reason.NAME_TAKEN, str(error))))
    except Invalid as error:
        decision = decide_project(replace(view, refused=(Reason.JOB_REJECTED, str(error))))
    if project.metadata.generation != project.status.observed_generation:
        _wake_runs(context, view)
    again = await _write(context, stored, decision)
    # What is frozen for a run is taken from the Project as it was just decided about.
    decided = project.model_copy(update={"status": decision.status})
    for action in decision.actions:
        if isinstance(action, Admit):
            await admit_run(context, decided, view, action)
    return again


async def _write(context: ReconcileContext, stored: dict[str, Any], decision: Decision[ProjectStatus]) -> float | None:
    """Write the status, at most once a second: what runs and plugins do would else have it written all the time.

    What a user changed is answered at once, and how far runs have come is written more seldom. A status that waits is
    decided anew then, as after a restart.
    """
    metadata, before = stored["metadata"], stored.get("status", {})
    if not status_patch(before, decision.status):
        return decision.requeue_after
    if decision.status.observed_generation == before.get("observedGeneration"):
        wait = context.pace.seconds_left(metadata["uid"], every=seconds_between_writes(before, decision.status))
        if wait > 0:
            return wait if decision.requeue_after is None else min(wait, decision.requeue_after)
    context.pace.begin(metadata["uid"])
    return await finish(context, PROJECTS, stored, decision)


async def _confirm(context: ReconcileContext, view: ProjectView, actions: Sequence[Action]) -> None:
    """Read live what must not be wrong, before anything is done. Raises Conflict when it is."""
    if any(isinstance(action, StartPrepare | RemovePreparation | DeleteRun) for action in actions):
        await confirm_unchanged(context, view.project)


async def _make_runs(
    context: ReconcileContext, view: ProjectView, decision: Decision[ProjectStatus]
) -> Decision[ProjectStatus]:
    """Make the runs that were decided on. While another run has the name of one, decide again without that name."""
    made: set[str] = set()
    while True:
        taken: set[str] = set()
        for action in decision.actions:
            if isinstance(action, MakeRun) and action.name not in made:
                (made if await _make_run(context, view.project, action) else taken).add(action.name)
        if not taken:
            return decision
        view = replace(view, taken=view.taken | taken)
        decision = decide_project(view)


async def _make_run(context: ReconcileContext, project: Project, action: MakeRun) -> bool:
    """Make an automatic run, unless it was made for this already; False when another run has the name."""
    namespace = project.metadata.namespace
    try:
        await context.kube.create(manifests.training_run(project, action.entry.name, action.name, action.trigger_key))
    except AlreadyExists:
        there = await context.kube.get(TRAINING_RUNS, namespace=namespace, name=action.name)
        if there is None:
            raise Conflict(f"run {action.name} was just deleted", status=409, reason="Conflict") from None
        made_for = there["metadata"].get("annotations", {}).get(contract.TRIGGER_KEY_ANNOTATION)
        ours = is_owned(there, Owner.of(project)) and there["spec"]["plugin"] == action.entry.name
        return ours and made_for == action.trigger_key
    return True


def _with_id(project: Project) -> Project:
    """The id goes into the prepare Job, which is made before the first status is written."""
    return project.model_copy(
        update={"status": project.status.model_copy(update={"id": message_id(project.metadata.uid)})}
    )


def _wake_runs(context: ReconcileContext, view: ProjectView) -> None:
    """An edit of the Project, such as suspend, may concern its runs."""
    for run in view.runs:
        if not is_final(run):
            context.wake(_run_key(run))


def _run_key(run: TrainingRun) -> Key:
    return Key("TrainingRun", run.metadata.namespace, run.metadata.name, run.spec.project_ref.name)


async def _read(context: ReconcileContext, project: Project) -> ProjectView:
    namespace, name = project.metadata.namespace, project.metadata.name
    context.observer.runs_listed(
        namespace, name, set(context.stores.of(TRAINING_RUNS).having("project", namespace, name))
    )

    async def parse_run(stored: dict[str, Any]) -> TrainingRun | None:
        return await parse(context, TRAINING_RUNS, TrainingRun, stored)

    found = await context.stores.models(TRAINING_RUNS, "project", namespace, name, parse_run)
    runs = [await counted_as_accepted(context, run) if run is not None else None for run in found]
    known: dict[str, Any] = {
        "project": project,
        "runs": [run for run in runs if run is not None],
        "runs_unreadable": None in runs,
        "now": context.clock(),
        "trainer_image": context.trainer_image,
        "types": context.plugin_types,
    } | await _read_plugins(context, project)
    preparations = preparations_now(project, known["now"])
    try:
        known |= await _read_frames(context, project, preparations)
        # The claim is looked for before something is started on it.
        starts = known["frame"] is None or any(not is_accepted(run) and not is_final(run) for run in known["runs"])
        known["claim_exists"] = not starts or await _claim_exists(context, project)
    except Taken as error:
        known |= {"refused": (Reason.NAME_TAKEN, str(error)), "claim_exists": True}
    return ProjectView(**known)


async def _read_frames(context: ReconcileContext, project: Project, preparations: Preparations) -> dict[str, Any]:
    """Read the result of the newest preparation, that of the one whose frame is in use meanwhile, and a running Job."""
    key, kept = current_preparation_id(preparations), kept_preparation_id(preparations)
    known: dict[str, Any] = {"frame": await _remembered_frame(context, project, key)}
    if kept is not None and (known["frame"] is None or known["frame"].ready is None):
        known["kept"] = await _remembered_frame(context, project, kept)
    if known["frame"] is None:
        known |= await _read_prepare(context, project, key)
    return known


async def _claim_exists(context: ReconcileContext, project: Project) -> bool:
    """Look for the Project's claim. One that its spec names is looked for with the source, and never made."""
    storage = project.spec.storage
    if storage and storage.claim_name:
        return True
    name = names.claim(project)
    # A claim that is deleted within the minute is missed by the pods that mount it, and their run says so.
    found = await context.stores.constant(
        lambda: read_claim(context.kube, name=name, project=project), "claim", project.metadata.uid, name
    )
    return found is not None


async def _read_plugins(context: ReconcileContext, project: Project) -> dict[str, Any]:
    """Read the Plugins that the Project names, and of those that are not there the names that were likely meant."""
    namespace = project.metadata.namespace
    found: dict[str, Plugin] = {}
    missing: list[str] = []

    async def parse_plugin(stored: dict[str, Any]) -> Plugin | None:
        return await parse(context, PLUGINS, Plugin, stored)

    for name in sorted({entry.plugin_ref.name for entry in project.spec.plugins}):
        plugin = await context.stores.model(PLUGINS, namespace=namespace, name=name, parse=parse_plugin)
        if plugin is not None:
            found[name] = plugin
        elif await context.stores.find(PLUGINS, namespace=namespace, name=name) is None:
            missing.append(name)
    return {
        "plugins": found,
        "missing_plugins": await meant_names(context, PLUGINS, namespace=namespace, wanted=missing),
    }


async def _remembered_frame(context: ReconcileContext, project: Project, key: str) -> FrameResult | None:
    return await context.stores.constant(lambda: _read_frame(context, project, key), "frame", project.metadata.uid, key)


async def _read_frame(context: ReconcileContext, project: Project, key: str) -> FrameResult | None:
    name = names.frame_config_map(project, key)
    stored = await read_child(context.kube, CONFIG_MAPS, name=name, owner=Owner.of(project))
    if stored is None:
        return None
    result = frame_result(stored["data"]["result.json"])
    return replace(result, config_map=stored["metadata"]["name"])


def frame_result(text: str) -> FrameResult:
    """Read what the message receiver stored of FRAME_READY or FRAME_FAILED."""
    result = StoredFrame.model_validate_json(text)
    failed = result.failed
    return FrameResult(result.ready, failed.reason if failed else "", failed.detail if failed else "")


async def _read_prepare(context: ReconcileContext, project: Project, key: str) -> dict[str, Any]:
    kube, owner = context.kube, Owner.of(project)
    job = job_view(await read_child(context.stores, JOBS, name=names.prepare_job(project, key), owner=owner))
    if job is None:
        return {"source_problem": await source_problem(context, project)}
    pods = await read_pods(context.stores, owner=owner, job_name=job.name, job=job)
    tail = await log_tail(kube, owner.namespace, pods) if job.failed else None
    events = await read_events(kube, owner.namespace, job, pods, claim=names.claim(project), now=context.clock())
    return {"prepare": job, "prepare_pods": pods, "prepare_events": events, "log_tail": tail}


async def _act(context: ReconcileContext, view: ProjectView, action: Action) -> None:
    project = view.project
    namespace = project.metadata.namespace
    match action:
        case MakeClaim():
            await make_claim(context.kube, project)
        case StartPrepare():
            await context.ensure_namespace(namespace)
            await create_once(
                context,
                prepare_manifests(
                    project,
                    action.key,
                    image=context.operator_image,
                    plugins=_enabled_plugins(view),
                    resources=job_resources(context.job_resources, project.spec.job_resources),
                    messages_url=context.messages_url,
                    keep_frames=_kept_frames(view, action),
                    api_server=(await context.api_server()).texts(),
                ),
                owner=Owner.of(project),
            )
        case RemovePreparation():
            await _remove_preparation(context, project, action.key)
        case DeletePod():
            await context.kube.delete(
                PODS, namespace=namespace, name=action.name, uid=action.uid, grace_seconds=action.grace_seconds
            )
        case DeleteRun():
            await context.kube.delete(TRAINING_RUNS, namespace=namespace, name=action.name, uid=action.uid)
        case _:
            raise AssertionError(f"{action} is not a Project's action")


def _kept_frames(view: ProjectView, action: StartPrepare) -> KeptFrames | None:
    return None if action.keep_frames is None else KeptFrames(names=list(action.keep_frames), listed=view.now)


async def _remove_preparation(context: ReconcileContext, project: Project, key: str) -> None:
    """Delete a preparation's Job and its ConfigMaps: its configuration, and its result."""
    kube, owner = context.kube, Owner.of(project)
    job, frame = names.prepare_job(project, key), names.frame_config_map(project, key)
    for resource, child in ((JOBS, job), (CONFIG_MAPS, job), (CONFIG_MAPS, frame)):
        for name in child:
            stored = await read_if_owned(kube, resource, name=name, owner=owner)
            if stored is not None:
                await kube.delete(resource, namespace=owner.namespace, name=name, uid=stored["metadata"]["uid"])


def _enabled_plugins(view: ProjectView) -> Sequence[Plugin]:
    enabled = {entry.plugin_ref.name for entry in view.project.spec.plugins if entry.enabled}
    return [plugin for name, plugin in sorted(view.plugins.items()) if name in enabled]
