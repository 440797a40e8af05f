"""Reconcile a TrainingRun: see what is known of it and its children, decide, confirm what must not be wrong, act.

A run is admitted by its Project's reconcile, which goes on with `start_admitted` at once: its configuration is frozen,
its first Job made, and both written with the admission in one status. A ConfigMap that could be made proves that no Job
of the run was made before. When that is in doubt, the admission alone is written, and the run's own reconcile goes on
with live reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.project import Project
from chorus_api.run_config import ListedRuns
from chorus_api.training_run import TrainingRun, TrainingRunStatus
from chorus_kube.errors import AlreadyExists, Conflict, Invalid
from chorus_kube.resources import CONFIG_MAPS, JOBS, PODS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names
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
from chorus_operator.decisions.observed import JobView, job_view
from chorus_operator.decisions.project.admission import accepted_by_job, is_accepted
from chorus_operator.decisions.project.listed_runs import listed_runs
from chorus_operator.decisions.run.decide import await_name, decide_run, refuse_run
from chorus_operator.decisions.run.plugin_type import WantedAttempt, WantedFetch, all_roles
from chorus_operator.decisions.run.publication import announces
from chorus_operator.decisions.run.quiet import seconds_to_wait
from chorus_operator.decisions.run.state import AcceptedView, RunView
from chorus_operator.manifests.frozen import frozen_config_map
from chorus_operator.manifests.publish import publish_manifests
from chorus_operator.reconcile.act import create_once, finish
from chorus_operator.reconcile.children import (
    Owner,
    Taken,
    is_owned,
    read_if_owned,
)
from chorus_operator.reconcile.confirm import confirm_no_other_pods, confirm_no_pods, confirm_unchanged
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.frozen import read_frozen, stored_config
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.run_view import Admitted, Unsure, known_before, read_admitted, read_jobs, read_run
from chorus_operator.reconcile.services import deliver, token_of
from chorus_operator.services.tokens import token_hash

Manifest = dict[str, Any]
SWEEP_SECONDS = 600.0
"""One publication of a Project in this time sweeps what its deleted runs left, since that takes a list of all runs."""


async def reconcile_run(context: ReconcileContext, key: Key) -> float | None:
    """Bring one run forward; returns the seconds after which to look again."""
    stored = await context.stores.get(TRAINING_RUNS, namespace=key.namespace, name=key.name)
    if stored is None:
        context.observer.run_gone(key.namespace, key.name)
        return None
    if stored["metadata"].get("deletionTimestamp"):
        return None
    run = await parse(context, TRAINING_RUNS, TrainingRun, stored)
    if run is None:
        return None
    if run.status.phase in FINAL or run.status.attempts.current > 1:
        await _delete_stray_jobs(context, run)
    written = run.status
    run = await counted_as_accepted(context, run)
    step = await _bring_forward(context, run)
    if _freezes(step):
        step = await _bring_forward(context, _with_resolved(run, step))
    wait = 0.0
    if not step.decision.events and not step.afterwards:
        wait = seconds_to_wait(written, step.decision.status, now=step.view.now)
    if wait > 0:
        again = step.decision.requeue_after
        return wait if again is None else min(wait, again)
    return await _finish(context, stored, step)


async def start_admitted(
    context: ReconcileContext, stored: Manifest, run: TrainingRun, project: Project
) -> float | None:
    """Start a run that is being admitted, and write both into its status; `run`: with its admission.

    Raises Unsure when it is not certain that nothing of the run was made before: then nothing is written.
    """
    admitted = Admitted(project)
    step = await _bring_forward(context, run, admitted=admitted)
    if _freezes(step):
        step = await _bring_forward(context, _with_resolved(run, step), admitted=admitted)
    return await _finish(context, stored, step)


async def counted_as_accepted(context: ReconcileContext, run: TrainingRun) -> TrainingRun:
    """Count a run as accepted that has a Job: the operator ended before it could write so into the status."""
    if is_accepted(run) or run.status.phase in FINAL:
        return run
    owner = Owner.of(run)
    jobs = await context.stores.all_of(JOBS, "run", owner.namespace, owner.name)
    return accepted_by_job(run, now=context.clock()) if any(is_owned(job, owner) for job in jobs) else run


@dataclass(frozen=True)
class _Step:
    """A decision whose actions are done, but for those that wait until its status is written."""

    view: RunView
    decision: Decision[TrainingRunStatus]
    afterwards: Sequence[Action] = ()


async def _finish(context: ReconcileContext, stored: Manifest, step: _Step) -> float | None:
    status = step.decision.status
    if status.phase in FINAL and status.resolved is not None and status.resolved.digest is not None:
        context.stores.forget_frozen(run_uid=stored["metadata"]["uid"], digest=status.resolved.digest)
    again = await finish(context, TRAINING_RUNS, stored, step.decision)
    try:
        for action in step.afterwards:
            await _act(context, step.view, action, admitted=False)
    except (Taken, Invalid):
        return 0.0  # the next try finds the same, and writes it into the status
    return again


def _freezes(step: _Step) -> bool:
    return any(isinstance(action, Freeze) for action in step.decision.actions)


def _with_resolved(run: TrainingRun, step: _Step) -> TrainingRun:
    status = run.status.model_copy(update={"resolved": step.decision.status.resolved})
    return run.model_copy(update={"status": status})


async def _bring_forward(context: ReconcileContext, run: TrainingRun, *, admitted: Admitted | None = None) -> _Step:
    view = RunView(**known_before(context, run))
    try:
        view = await read_run(context, run) if admitted is None else await read_admitted(context, run, admitted)
        decision = decide_run(view, context.plugin_types)
        if _ends_a_running_pod(view, decision):
            tail = await log_tail(context.kube, run.metadata.namespace, view.pods, running=True)
            view = replace(view, log_tail=tail)
            decision = decide_run(view, context.plugin_types)
        afterwards = [each for each in decision.actions if isinstance(each, StartPublish) and announces(view, decision)]
        now = [each for each in decision.actions if each not in afterwards]
        if admitted is None:
            await _confirm(context, view, now)
        for action in now:
            await _act(context, view, action, admitted=admitted is not None)
    except Taken as error:
        return _Step(view, await _stop_if_ended(context, run, await_name(view, str(error))))
    except Invalid as error:
        return _Step(view, await _stop_if_ended(context, run, refuse_run(view, str(error))))
    return _Step(view, decision, afterwards)


async def _stop_if_ended(
    context: ReconcileContext, run: TrainingRun, decision: Decision[TrainingRunStatus]
) -> Decision[TrainingRunStatus]:
    """Delete the Jobs of a run that ends because something of it cannot be read or made: they may still train."""
    if decision.status.phase in FINAL:
        for each in await read_jobs(context, None, run, all_roles(context.plugin_types), claim="", own_only=True):
            if each.job is not None and not each.job.finished and not each.job.deleting:
                await context.kube.delete(JOBS, namespace=run.metadata.namespace, name=each.job.name, uid=each.job.uid)
    return decision


async def _delete_stray_jobs(context: ReconcileContext, run: TrainingRun) -> None:
    """Delete the Jobs that go on although their run has ended, or is at a later attempt.

    Who held the Lease before may have had the creation of one under way while the present holder went on.
    """
    owner, suffixes = Owner.of(run), ("", *all_roles(context.plugin_types))
    earlier = {
        names.attempt_job(run, number, suffix=suffix)
        for number in range(1, run.status.attempts.current)
        for suffix in suffixes
    }
    for known in await context.stores.all_of(JOBS, "run", owner.namespace, owner.name):
        name = known["metadata"]["name"]
        if not is_owned(known, owner) or not (run.status.phase in FINAL or name in earlier):
            continue
        if not _goes_on(job_view(known)):
            continue
        job = job_view(await read_if_owned(context.kube, JOBS, name=name, owner=owner))
        if job is not None and _goes_on(job):
            await context.kube.delete(JOBS, namespace=owner.namespace, name=job.name, uid=job.uid)


def _goes_on(job: JobView | None) -> bool:
    return job is not None and not job.finished and not job.deleting


async def _confirm(context: ReconcileContext, view: RunView, actions: Sequence[Action]) -> None:
    """Read live what must not be wrong, before anything is done. Raises Conflict when it is."""
    if not any(isinstance(action, _CONFIRMED) for action in actions):
        return
    await confirm_unchanged(context, view.run)
    for action in actions:
        if isinstance(action, StartAttempt):
            assert isinstance(view, AcceptedView)
            await _confirm_frozen(context, view)
            roles = context.plugin_types[view.accepted.config.type].roles
            wanted = _attempt_jobs(view.run, action.attempt, roles)
            await confirm_no_pods(context, Owner.of(view.run), wanted)
            if action.attempt > 1:
                await confirm_no_other_pods(context, Owner.of(view.run), wanted)


async def _confirm_frozen(context: ReconcileContext, view: AcceptedView) -> None:
    """Read the configuration live that a pod is about to mount. Raises Conflict when somebody has deleted it."""
    digest = view.accepted.digest
    context.stores.forget_frozen(run_uid=view.run.metadata.uid, digest=digest)
    found = await read_frozen(context, view.run, known=digest)
    if found.accepted is None or found.accepted.digest != digest:
        raise Conflict(f"ConfigMap {view.accepted.config_map} has changed", status=409, reason="Conflict")


_CONFIRMED = (StartAttempt, StartPublish, StartFetch, DeleteJob, ForceDeletePod, DeleteRun)
"""What cannot be taken back. Freezing can: a Job is made only of the content whose digest is in the run's status."""


def _attempt_jobs(run: TrainingRun, number: int, roles: Sequence[str]) -> list[str]:
    return [names.attempt_job(run, number, suffix=role if index else "") for index, role in enumerate(roles)]


def _ends_a_running_pod(view: RunView, decision: Decision[TrainingRunStatus]) -> bool:
    """Tell whether a run fails while its pod runs, such as at a deadline: its log goes with the pod."""
    failure = decision.status.failure
    running = any(pod.started is not None and not pod.ended for pod in view.pods)
    return running and failure is not None and failure != view.run.status.failure and failure.log_tail is None


async def _act(context: ReconcileContext, view: RunView, action: Action, *, admitted: bool) -> None:
    kube, namespace = context.kube, view.run.metadata.namespace
    match action:
        case Freeze() if admitted:
            await _freeze_first(context, view.run, action)
        case Freeze():
            await _freeze(context, view.run, action)
        case StartFetch() | StartAttempt() | StartPublish():
            assert isinstance(view, AcceptedView)
            await context.ensure_namespace(namespace)
            owner = view.project if isinstance(action, StartFetch) else view.run
            await create_once(context, await _job_manifests(context, view, action), owner=Owner.of(owner))
            if isinstance(action, StartPublish) and context.stores.is_due("sweep", view.project.metadata.uid):
                context.stores.done("sweep", view.project.metadata.uid, every=SWEEP_SECONDS)
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
    context.stores.keep_frozen(action.accepted, run_uid=run.metadata.uid, digest=action.accepted.digest)


async def _freeze_first(context: ReconcileContext, run: TrainingRun, action: Freeze) -> None:
    """Store what a run uses that is being admitted. Raises Unsure when something is stored already."""
    try:
        await context.kube.create(frozen_config_map(run, action.accepted, action.content))
    except AlreadyExists as error:
        raise Unsure(str(error)) from error
    context.stores.keep_frozen(action.accepted, run_uid=run.metadata.uid, digest=action.accepted.digest)


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
    if not context.stores.is_due("sweep", project.metadata.uid):
        return None
    listed = context.clock()
    runs = await context.kube.list(TRAINING_RUNS, namespace=project.metadata.namespace)
    return listed_runs(project, runs, listed=listed)
