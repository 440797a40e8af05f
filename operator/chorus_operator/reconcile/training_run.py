"""Reconcile a TrainingRun: read it and its children live, decide, act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.run_config import ListedRuns
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_kube.errors import Conflict, Invalid
from chorus_kube.resources import CONFIG_MAPS, JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.decision import (
    Action,
    Decision,
    DeleteJob,
    DeletePod,
    DeleteRun,
    Deliver,
    ForceDeletePod,
    Freeze,
    StartAttempt,
    StartFetch,
    StartPublish,
    SuspendJob,
)
from chorus_operator.decisions.names import ChildName
from chorus_operator.decisions.observed import JobPods, JobView, PodView, job_view, newest, pod_view
from chorus_operator.decisions.project.admission import is_accepted
from chorus_operator.decisions.project.listed_runs import listed_runs
from chorus_operator.decisions.resolve import NamedClaim
from chorus_operator.decisions.run.decide import await_name, decide_run, refuse_run, request_of
from chorus_operator.decisions.run.plugin_type import PluginType, WantedAttempt, WantedFetch, all_roles
from chorus_operator.decisions.run.pod_end import is_written_down
from chorus_operator.decisions.run.state import AcceptedView, RunView
from chorus_operator.manifests.frozen import frozen_config_map
from chorus_operator.manifests.publish import publish_manifests
from chorus_operator.reconcile.act import create_once, finish
from chorus_operator.reconcile.children import (
    Owner,
    Taken,
    read_child,
    read_if_owned,
    read_pods,
)
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.frozen import read_frozen, stored_config, with_former_names
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.meant import if_missing, meant_reference, meant_run
from chorus_operator.reconcile.object_events import read_events
from chorus_operator.reconcile.services import deliver, token_of
from chorus_operator.services.outbound import about_attempt
from chorus_operator.services.tokens import token_hash

SWEEP_SECONDS = 600.0
"""One publication of a Project in this time sweeps what its deleted runs left, since that takes a list of all runs."""


async def reconcile_run(context: ReconcileContext, key: Key) -> float | None:
    """Bring one run forward; returns the seconds after which to look again."""
    stored = await context.kube.get(TRAINING_RUNS, namespace=key.namespace, name=key.name)
    if stored is None:
        context.observer.run_gone(key.namespace, key.name)
        return None
    if stored["metadata"].get("deletionTimestamp"):
        return None
    run = await parse(context, TRAINING_RUNS, TrainingRun, stored)
    if run is None:
        return None
    decision = await _bring_forward(context, run)
    if any(isinstance(action, Freeze) for action in decision.actions):
        accepted = run.status.model_copy(update={"resolved": decision.status.resolved})
        decision = await _bring_forward(context, run.model_copy(update={"status": accepted}))
    return await finish(context, TRAINING_RUNS, stored, decision)


async def _bring_forward(context: ReconcileContext, run: TrainingRun) -> Decision[TrainingRunStatus]:
    view = RunView(**_known(context, run))
    try:
        view = await _read(context, run)
        decision = decide_run(view, context.plugin_types)
        if _ends_a_running_pod(view, decision):
            tail = await log_tail(context.kube, run.metadata.namespace, view.pods, running=True)
            view = replace(view, log_tail=tail)
            decision = decide_run(view, context.plugin_types)
        for action in decision.actions:
            await _act(context, view, action)
    except Taken as error:
        return await _stop_if_ended(context, run, await_name(view, str(error)))
    except Invalid as error:
        return await _stop_if_ended(context, run, refuse_run(view, str(error)))
    return decision


async def _stop_if_ended(
    context: ReconcileContext, run: TrainingRun, decision: Decision[TrainingRunStatus]
) -> Decision[TrainingRunStatus]:
    """Delete the Jobs of a run that ends because something of it cannot be read or made: they may still train."""
    if decision.status.phase in FINAL:
        for each in await _read_jobs(context, None, run, all_roles(context.plugin_types), claim="", own_only=True):
            if each.job is not None and not each.job.finished and not each.job.deleting:
                await context.kube.delete(JOBS, namespace=run.metadata.namespace, name=each.job.name, uid=each.job.uid)
    return decision


def _ends_a_running_pod(view: RunView, decision: Decision[TrainingRunStatus]) -> bool:
    """Tell whether a run fails while its pod runs, such as at a deadline: its log goes with the pod."""
    failure = decision.status.failure
    running = any(pod.started is not None and not pod.ended for pod in view.pods)
    return running and failure is not None and failure != view.run.status.failure and failure.log_tail is None


def _known(context: ReconcileContext, run: TrainingRun) -> dict[str, Any]:
    """Say what a view holds before anything is read for it."""
    return {
        "run": run,
        "now": context.clock(),
        "operator_since": context.since,
        "messages_url": context.messages_url,
        "trainer_image": context.trainer_image,
        "default_job_resources": context.job_resources,
        "judge_url": context.judge_url,
    }


async def _read(context: ReconcileContext, run: TrainingRun) -> RunView:
    known = _known(context, run)
    if run.status.phase in FINAL:
        return RunView(**known)
    project = await _read_project(context, run)
    if not is_accepted(run):
        plugin = await _read_plugin(context, project, run)
        meant = await meant_reference(context, run, project, plugin)
        return RunView(**known, project=project, plugin=plugin, meant=meant)
    resolved = run.status.resolved
    unwritten = resolved is None or resolved.digest is None
    job = await _read_first_job(context, run) if unwritten else None
    if resolved is None and job is None:
        # No Job has the present name: maybe a former version made them.
        run = known["run"] = await with_former_names(context, run)
        job = await _read_first_job(context, run) if run.status.resolved is not None else None
    if run.spec.cancel:
        # Whatever is wrong with the rest: to stop, its Jobs are all that is needed.
        jobs = await _read_jobs(context, project, run, all_roles(context.plugin_types), claim="", own_only=True)
        return RunView(**known, project=project, attempt=jobs)
    frozen = await read_frozen(context, run, known=job.frozen_digest if job is not None else None)
    if frozen.accepted is None or project is None:
        begun = run.status.resolved is not None or job is not None
        resume = await _read_resume(context, run)
        unfrozen = RunView(
            **known,
            attempt=await _read_jobs(context, project, run, all_roles(context.plugin_types), claim="") if begun else (),
            project=project,
            plugin=await _read_plugin(context, project, run),
            stored=frozen.stored,
            incomplete=frozen.incomplete,
            resume=resume,
            meant=await meant_run(context, run) if resume is None else None,
        )
        return replace(unfrozen, missing_claim=await _missing_claim(context, unfrozen))
    plugin_type = context.plugin_types[frozen.accepted.config.type]
    claim = frozen.accepted.operator.claim
    known["attempt"] = await _read_jobs(context, project, run, plugin_type.roles, claim=claim)
    if plugin_type.reads_plugin:
        known["plugin"] = await _read_plugin(context, project, run)
    about = about_attempt(run.metadata.uid, run.status.attempts.current)
    delivery = context.dispatcher.known(about, namespace=run.metadata.namespace)
    view = AcceptedView(**known, project=project, accepted=frozen.accepted, delivery=delivery)
    return await _read_side_jobs(context, view, plugin_type)


async def _read_first_job(context: ReconcileContext, run: TrainingRun) -> JobView | None:
    """Read the Job that the operator may have made before it ended, and could not write into the status."""
    name = names.attempt_job(run, max(1, run.status.attempts.current))
    return job_view(await read_if_owned(context.kube, JOBS, name=name, owner=Owner.of(run)))


async def _read_project(context: ReconcileContext, run: TrainingRun) -> Project | None:
    name = run.spec.project_ref.name
    stored = await context.kube.get(PROJECTS, namespace=run.metadata.namespace, name=name)
    return Project.model_validate(stored) if stored is not None else None


async def _read_plugin(context: ReconcileContext, project: Project | None, run: TrainingRun) -> Plugin | None:
    """Read the run's Plugin: live until its configuration is frozen, so that an edit that came before it counts."""
    entry = resolve.entry_of(project, run.spec.plugin) if project is not None else None
    if entry is None:
        return None
    namespace, name = run.metadata.namespace, entry.plugin_ref.name
    if run.status.resolved is None:
        stored = await context.kube.get(PLUGINS, namespace=namespace, name=name)
    else:
        stored = await context.cache.plugin(namespace, name)
    return Plugin.model_validate(stored) if stored is not None else None


async def _read_resume(context: ReconcileContext, run: TrainingRun) -> TrainingRun | None:
    if run.spec.resume_from is None:
        return None
    name = run.spec.resume_from.run
    stored = await context.kube.get(TRAINING_RUNS, namespace=run.metadata.namespace, name=name)
    return TrainingRun.model_validate(stored) if stored is not None else None


async def _missing_claim(context: ReconcileContext, view: RunView) -> NamedClaim | None:
    """Find the user's own claim that the run mounts, if it is not there."""
    request = request_of(view)
    named = context.plugin_types[request.plugin.spec.type].named_claim(request) if request is not None else None
    return await if_missing(context, view.run.metadata.namespace, named) if named is not None else None


async def _read_jobs(
    context: ReconcileContext,
    project: Project | None,
    run: TrainingRun,
    roles: Sequence[str],
    *,
    claim: str,
    own_only: bool = False,
) -> Sequence[JobPods]:
    """Read the Jobs of the present attempt, and their pods.

    Of a run that is to stop also those of the next one: the operator may have made them, and could not write so. They
    must stop as well.
    """
    current = run.status.attempts.current
    present = await _read_attempt(
        context, run, max(1, current), roles, claim=claim, begun=current > 0, own_only=own_only
    )
    if current == 0 or not (run.spec.cancel or run.spec.suspend or (project is not None and project.spec.suspend)):
        return present
    later = await _read_attempt(context, run, current + 1, roles, claim=claim, own_only=own_only)
    return [*present, *(each for each in later if each.job is not None)]


async def _read_attempt(
    context: ReconcileContext,
    run: TrainingRun,
    number: int,
    roles: Sequence[str],
    *,
    claim: str,
    begun: bool = False,
    own_only: bool = False,
) -> Sequence[JobPods]:
    return [
        await _read_job(
            context,
            Owner.of(run),
            names.attempt_job(run, number, suffix=role if index else ""),
            role=role,
            claim=claim,
            begun=begun,
            own_only=own_only,
        )
        for index, role in enumerate(roles)
    ]


async def _read_job(
    context: ReconcileContext,
    owner: Owner,
    name: str | ChildName,
    *,
    role: str,
    claim: str,
    begun: bool = False,
    own_only: bool = False,
) -> JobPods:
    """Read a Job and its pods, and why they are blocked; `claim`: which they mount.

    A Job that had begun may be gone while its pods still save and stop. `own_only`: another object of the name does
    not count, and is not in the way.
    """
    if own_only:
        job = job_view(await read_if_owned(context.kube, JOBS, name=str(name), owner=owner))
    else:
        job = job_view(await read_child(context.kube, JOBS, name=name, owner=owner))
    if job is None and not begun:
        return JobPods(role)
    job_name = job.name if job is not None else str(name)
    pods = await read_pods(context.cache, owner=owner, job_name=job_name, job=job)
    events = await read_events(context.kube, owner.namespace, job, pods, claim=claim, now=context.clock())
    return JobPods(role, job, pods, events)


async def _read_side_jobs(context: ReconcileContext, view: AcceptedView, plugin_type: PluginType) -> AcceptedView:
    """Read the fetch and publish Jobs, and the log of whatever failed, only when the decision can turn on them."""
    fetch, publish, claim = view.fetch, view.publish, view.accepted.operator.claim
    pods_left: Sequence[PodView] = ()
    failed, failure = None, view.run.status.failure
    if not is_written_down(view) or failure is None or failure.log_tail is None:
        failed = next((each for each in view.attempt if _has_log_of_failure(each)), None)
    key = plugin_type.fetch_key(view.accepted.config)
    if key is not None and not view.jobs:
        name = names.fetch_job(view.project, key)
        fetch = await _read_job(context, Owner.of(view.project), name, role="fetch", claim=claim)
        failed = fetch if fetch.job is not None and fetch.job.failed else failed
    if plugin_type.is_trained(view):
        publish = await _read_job(context, Owner.of(view.run), names.publish_job(view.run), role="publish", claim=claim)
        if publish.job is None and _may_have_left_pods(view):
            pods_left = await _pods_left(context, view.run)
        failed = publish if publish.job is not None and publish.job.failed else None
    tail = await log_tail(context.kube, view.run.metadata.namespace, failed.pods) if failed and failed.pods else None
    return replace(view, fetch=fetch, publish=publish, pods_left=pods_left, log_tail=tail)


def _has_log_of_failure(each: JobPods) -> bool:
    """Tell whether a log says why a Job failed, or will fail."""
    pod = newest(each.pods)
    return (each.job is not None and each.job.failed) or (pod is not None and pod.exit_code not in (None, 0))


def _may_have_left_pods(view: AcceptedView) -> bool:
    """Tell whether pods may be left although the training is over, so that they are worth a list.

    The Job controller says Complete only when every pod of the Job has ended. But earlier attempts had pods too, and
    the Job of an exchange is stopped, not complete.
    """
    complete = all(each.job is not None and each.job.complete for each in view.attempt)
    return view.run.status.attempts.current > 1 or not complete


async def _pods_left(context: ReconcileContext, run: TrainingRun) -> Sequence[PodView]:
    """Read the pods of any attempt that have not ended: they may write to the artefact that is to be published."""
    labels = {contract.RUN_LABEL: run.metadata.name}
    pods = await context.kube.list(PODS, namespace=run.metadata.namespace, labels=labels)
    key, uid = contract.RUN_UID_ANNOTATION, run.metadata.uid
    ours = [pod_view(pod) for pod in pods if pod["metadata"].get("annotations", {}).get(key) == uid]
    return tuple(pod for pod in ours if not pod.ended)


async def _act(context: ReconcileContext, view: RunView, action: Action) -> None:
    kube, namespace = context.kube, view.run.metadata.namespace
    match action:
        case Freeze():
            await _freeze(context, view.run, action)
        case StartFetch() | StartAttempt() | StartPublish():
            assert isinstance(view, AcceptedView)
            await context.ensure_namespace(namespace)
            owner = view.project if isinstance(action, StartFetch) else view.run
            await create_once(context, await _job_manifests(context, view, action), owner=Owner.of(owner))
        case Deliver():
            assert isinstance(view, AcceptedView)
            deliver(context, view.run, view.accepted.config, action)
        case SuspendJob():
            mark = {contract.SUSPENDED_ANNOTATION: "true" if action.suspend else None}
            patch = {"metadata": {"annotations": mark}, "spec": {"suspend": action.suspend}}
            await kube.patch(
                JOBS,
                namespace=namespace,
                name=action.name,
                merge_patch=patch,
                uid=action.uid,
                resource_version=action.resource_version,
            )
        case DeleteJob():
            await kube.delete(JOBS, namespace=namespace, name=action.name, uid=action.uid)
        case DeletePod():
            await kube.delete(
                PODS, namespace=namespace, name=action.name, uid=action.uid, grace_seconds=action.grace_seconds
            )
        case ForceDeletePod():
            await kube.delete(PODS, namespace=namespace, name=action.name, uid=action.uid, grace_seconds=0)
        case DeleteRun():
            await kube.delete(TRAINING_RUNS, namespace=namespace, name=action.name, uid=action.uid)
        case _:
            raise AssertionError(f"{action} is not a run's action")


async def _freeze(context: ReconcileContext, run: TrainingRun, action: Freeze) -> None:
    """Store what the run uses. One that is stored already must be the same."""
    if (old := action.replaced) is not None:
        await context.kube.delete(CONFIG_MAPS, namespace=run.metadata.namespace, name=old.name, uid=old.uid)
    manifest = frozen_config_map(run, action.accepted, action.content)
    (stored,) = await create_once(context, [manifest], owner=Owner.of(run))
    there = stored_config(stored)
    if there is None or there.digest != action.accepted.digest:
        name = action.accepted.config_map
        raise Conflict(f"ConfigMap {name} was written by somebody else", status=409, reason="Conflict")
    context.cache.keep(action.accepted, "frozen", run.metadata.uid, action.accepted.digest)


async def _job_manifests(
    context: ReconcileContext, view: AcceptedView, action: StartFetch | StartAttempt | StartPublish
) -> list[dict[str, Any]]:
    run, accepted, image = view.run, view.accepted, context.operator_image
    plugin_type = context.plugin_types[accepted.config.type]
    match action:
        case StartPublish():
            listed = await _runs_to_keep(context, view.project)
            return publish_manifests(run, view.project, accepted, action, image=image, listed_runs=listed)
        case StartFetch():
            api_server = (await context.api_server()).texts()
            return plugin_type.fetch_manifests(WantedFetch(view.project, accepted, action.key, image, api_server))
        case StartAttempt():

            def token() -> str:
                return token_hash(token_of(context, run, accepted.config, attempt=action.attempt))

            return plugin_type.attempt_manifests(WantedAttempt(run, accepted, action.attempt, image, token))


async def _runs_to_keep(context: ReconcileContext, project: Project) -> ListedRuns | None:
    """List the runs of the namespace, for Projects may share a claim; None when the Project did so a while ago."""
    if not context.cache.is_due("sweep", project.metadata.uid, every=SWEEP_SECONDS):
        return None
    listed = context.clock()
    runs = await context.kube.list(TRAINING_RUNS, namespace=project.metadata.namespace)
    return listed_runs(project, runs, listed=listed)
