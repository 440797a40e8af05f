"""See what a decision about a run may read: as the stores know it, and live where that is not enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.names import ChildName
from chorus_operator.decisions.observed import JobPods, JobView, PodView, job_view, newest, pod_view
from chorus_operator.decisions.project.admission import is_accepted
from chorus_operator.decisions.resolve import NamedClaim
from chorus_operator.decisions.run.decide import request_of
from chorus_operator.decisions.run.plugin_type import PluginType, all_roles
from chorus_operator.decisions.run.pod_end import is_written_down
from chorus_operator.decisions.run.state import AcceptedView, RunView
from chorus_operator.reconcile.children import (
    Owner,
    Reader,
    is_pod_of_run,
    read_child,
    read_if_owned,
    read_pods,
)
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.frozen import read_frozen, with_former_names
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.meant import if_missing, meant_reference, meant_run
from chorus_operator.reconcile.object_events import read_events
from chorus_operator.services.outbound import about_attempt


@dataclass(frozen=True)
class Admitted:
    """A run is being admitted by its Project, as it was decided about: nothing of the run was made before."""

    project: Project


class Unsure(Exception):
    """Something of a run that is being admitted is there already."""


def known_before(context: ReconcileContext, run: TrainingRun) -> dict[str, Any]:
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


async def read_run(context: ReconcileContext, run: TrainingRun) -> RunView:
    """See what the decision about a run turns on, and no more. Raises Foreign or EarlierLife."""
    known = known_before(context, run)
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
        jobs = await read_jobs(context, project, run, all_roles(context.plugin_types), claim="", own_only=True)
        return RunView(**known, project=project, attempt=jobs)
    frozen = await read_frozen(context, run, known=job.frozen_digest if job is not None else None)
    if frozen.accepted is None or project is None:
        begun = run.status.resolved is not None or job is not None
        resume = await _read_resume(context, run)
        unfrozen = RunView(
            **known,
            attempt=await read_jobs(context, project, run, all_roles(context.plugin_types), claim="") if begun else (),
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
    known["attempt"] = await read_jobs(context, project, run, plugin_type.roles, claim=claim)
    if plugin_type.reads_plugin:
        known["plugin"] = await _read_plugin(context, project, run)
    about = about_attempt(run.metadata.uid, run.status.attempts.current)
    delivery = context.dispatcher.known(about, namespace=run.metadata.namespace)
    view = AcceptedView(**known, project=project, accepted=frozen.accepted, delivery=delivery)
    return await _read_side_jobs(context, view, plugin_type)


async def read_admitted(context: ReconcileContext, run: TrainingRun, admitted: Admitted) -> RunView:
    """See what starts a run that is being admitted: nothing of it was made before, so nothing is looked for.

    Raises Unsure when its frozen configuration is gone again.
    """
    known, project = known_before(context, run), admitted.project
    resolved = run.status.resolved
    if resolved is not None and resolved.digest is not None:
        frozen = await read_frozen(context, run, known=resolved.digest)
        if frozen.accepted is None:
            raise Unsure(f"ConfigMap {resolved.config_map} is not there any more")
        return AcceptedView(**known, project=project, accepted=frozen.accepted)
    plugin = await _read_plugin(context, project, run)
    resume = await _read_resume(context, run)
    unfrozen = RunView(
        **known,
        project=project,
        plugin=plugin,
        resume=resume,
        meant=await meant_run(context, run) if resume is None else None,
    )
    return replace(unfrozen, missing_claim=await _missing_claim(context, unfrozen))


async def _read_first_job(context: ReconcileContext, run: TrainingRun) -> JobView | None:
    """Read the Job that the operator may have made before it ended, and could not write into the status."""
    name = names.attempt_job(run, max(1, run.status.attempts.current))
    return job_view(await read_if_owned(context.stores, JOBS, name=name, owner=Owner.of(run)))


async def _read_project(context: ReconcileContext, run: TrainingRun) -> Project | None:
    name = run.spec.project_ref.name
    stored = await context.stores.find(PROJECTS, namespace=run.metadata.namespace, name=name)
    return Project.model_validate(stored) if stored is not None else None


async def _read_plugin(context: ReconcileContext, project: Project | None, run: TrainingRun) -> Plugin | None:
    """Give the run's Plugin. An edit counts for a run whose configuration is frozen after the watch has told of it."""
    entry = resolve.entry_of(project, run.spec.plugin) if project is not None else None
    if entry is None:
        return None
    namespace, name = run.metadata.namespace, entry.plugin_ref.name
    stored = await context.stores.find(PLUGINS, namespace=namespace, name=name)
    return Plugin.model_validate(stored) if stored is not None else None


async def _read_resume(context: ReconcileContext, run: TrainingRun) -> TrainingRun | None:
    if run.spec.resume_from is None:
        return None
    name = run.spec.resume_from.run
    stored = await context.stores.find(TRAINING_RUNS, namespace=run.metadata.namespace, name=name)
    return TrainingRun.model_validate(stored) if stored is not None else None


async def _missing_claim(context: ReconcileContext, view: RunView) -> NamedClaim | None:
    """Find the user's own claim that the run mounts, if it is not there."""
    request = request_of(view)
    named = context.plugin_types[request.plugin.spec.type].named_claim(request) if request is not None else None
    return await if_missing(context, view.run.metadata.namespace, named) if named is not None else None


async def read_jobs(
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
    job = await _job(context.stores, owner, name, own_only=own_only)
    if job is None and begun:
        job = await _job(context.kube, owner, name, own_only=own_only)
    job_name = job.name if job is not None else name if isinstance(name, str) else name.name
    if job is None and not begun and not await context.stores.pods(owner.namespace, job_name):
        return JobPods(role)
    pods = await read_pods(context.stores, owner=owner, job_name=job_name, job=job)
    events = await read_events(context.kube, owner.namespace, job, pods, claim=claim, now=context.clock())
    return JobPods(role, job, pods, events)


async def _job(reader: Reader, owner: Owner, name: str | ChildName, *, own_only: bool) -> JobView | None:
    if own_only:
        assert isinstance(name, str)
        return job_view(await read_if_owned(reader, JOBS, name=name, owner=owner))
    return job_view(await read_child(reader, JOBS, name=name, owner=owner))


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
    ours = [pod_view(pod) for pod in pods if is_pod_of_run(pod, run.metadata.uid)]
    return tuple(pod for pod in ours if not pod.ended)
