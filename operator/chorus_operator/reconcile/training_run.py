"""Reconcile a TrainingRun: read it and its children live, decide, act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chorus_api import contract
from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.run_config import ContainerConfig, FrozenFile, ListedRuns, RunConfig, ServiceConfig
from chorus_api.training_run import Resolved, TrainingRun, TrainingRunStatus
from chorus_kube.errors import Invalid
from chorus_kube.resources import CLAIMS, CONFIG_MAPS, JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.decision import (
    Action,
    Decision,
    DeleteJob,
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
from chorus_operator.decisions.observed import JobView, PodView, job_view, pod_view
from chorus_operator.decisions.project.listed_runs import listed_runs
from chorus_operator.decisions.run.base_model import base_model_id
from chorus_operator.decisions.run.decide import await_name, decide_run, is_published, refuse_run
from chorus_operator.decisions.run.state import RunView
from chorus_operator.manifests import job as manifests
from chorus_operator.manifests.container import container_job, forward_config
from chorus_operator.manifests.exchange import exchange_manifests
from chorus_operator.manifests.prepare import fetch_manifests, publish_manifests
from chorus_operator.reconcile.act import create_once, finish
from chorus_operator.reconcile.children import (
    Owner,
    Taken,
    read_child,
    read_if_owned,
    read_named_by_user,
    read_pods,
)
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.services import deliver, token_of
from chorus_operator.services.outbound import about_attempt
from chorus_operator.services.tokens import token_hash
from chorus_protocol.messages import TrainingData

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
        decision = await _bring_forward(context, run)  # with the configuration that is now stored
    return await finish(context, TRAINING_RUNS, stored, decision)


async def _bring_forward(context: ReconcileContext, run: TrainingRun) -> Decision[TrainingRunStatus]:
    known = _known(context, run)
    view = RunView(**known)
    try:
        view = await _read(context, run, known)
        decision = decide_run(view)
        for action in decision.actions:
            await _act(context, view, action)
    except Taken as error:
        return await_name(view, str(error))
    except Invalid as error:
        return refuse_run(view, str(error))
    return decision


def _known(context: ReconcileContext, run: TrainingRun) -> dict[str, Any]:
    """Say what a view holds before anything is read for it."""
    return {
        "run": run,
        "project": None,
        "plugin": None,
        "now": context.clock(),
        "operator_since": context.since,
        "messages_url": context.messages_url,
        "trainer_image": context.trainer_image,
        "judge_url": context.judge_url,
    }


async def _read(context: ReconcileContext, run: TrainingRun, known: dict[str, Any]) -> RunView:
    if run.status.phase in FINAL:
        return RunView(**known)
    kube, namespace = context.kube, run.metadata.namespace
    project_json = await kube.get(PROJECTS, namespace=namespace, name=run.spec.project_ref.name)
    if project_json is not None:
        project = Project.model_validate(project_json)
        known["project"] = project
        entry = resolve.entry_of(project, run.spec.plugin)
        plugin_json = await _read_plugin(context, run, entry.plugin_ref.name) if entry else None
        known["plugin"] = Plugin.model_validate(plugin_json) if plugin_json else None
    if not _is_accepted(run):
        return RunView(**known)
    known |= await _read_frozen(context, run)
    if isinstance(known.get("frozen"), ServiceConfig):
        about = about_attempt(run.metadata.uid, run.status.attempts.current)
        known["delivery"] = context.dispatcher.known(about, namespace=namespace)
    if "frozen" not in known:
        return RunView(**known, missing_claim=await _missing_claim(context, RunView(**known)))
    run, current = known["run"], run.status.attempts.current
    name = names.attempt_job(run, max(1, current))
    known["job"], known["pods"] = await _read_job(context, Owner.of(run), name, begun=current > 0)
    return await _read_side_jobs(context, RunView(**known), known)


async def _read_plugin(context: ReconcileContext, run: TrainingRun, name: str) -> dict[str, Any] | None:
    """Read live what the run's configuration is made from: an edit that came before the run shall count."""
    namespace = run.metadata.namespace
    if run.status.resolved is None:
        return await context.kube.get(PLUGINS, namespace=namespace, name=name)
    return await context.cache.plugin(namespace, name)


def _is_accepted(run: TrainingRun) -> bool:
    return any(c.type == ConditionType.ACCEPTED and c.status == "True" for c in run.status.conditions)


async def _read_frozen(context: ReconcileContext, run: TrainingRun) -> dict[str, Any]:
    """Read the frozen configuration. The name under which it is found says how the run's other children are named."""
    kube, owner = context.kube, Owner.of(run)
    known: dict[str, Any] = {}

    async def read() -> _Frozen | None:
        stored = await read_child(kube, CONFIG_MAPS, name=names.config_map(run), owner=owner)
        if stored is None and run.status.resolved is None:
            # Maybe an older version made it, and ended before it wrote so into the status.
            stored = await read_if_owned(kube, CONFIG_MAPS, name=names.former_config_map(run), owner=owner)
        return _frozen_of(stored) if stored is not None else None

    frozen = await context.cache.constant(read, *_frozen_key(run))
    if frozen is not None:
        known["frozen"], known["frozen_hash"] = frozen.config, frozen.training_hash
        if run.status.resolved is None:
            resolved = Resolved(config_map=frozen.name, hash=frozen.training_hash, frame=frozen.config.frame_name)
            known["run"] = run.model_copy(update={"status": run.status.model_copy(update={"resolved": resolved})})
    if run.spec.resume_from is not None:
        other = await kube.get(TRAINING_RUNS, namespace=owner.namespace, name=run.spec.resume_from.run)
        known["resume"] = TrainingRun.model_validate(other) if other else None
    return known


@dataclass(frozen=True)
class _Frozen:
    """The frozen configuration of a run, and the name of the ConfigMap that holds it."""

    name: str
    config: RunConfig | ContainerConfig | ServiceConfig
    training_hash: str


def _frozen_of(stored: Mapping[str, Any]) -> _Frozen:
    config = FrozenFile.model_validate_json(stored["data"]["run.json"]).root
    return _Frozen(stored["metadata"]["name"], config, stored["data"]["train-key"])


def _frozen_key(run: TrainingRun) -> tuple[str, str]:
    return "frozen", run.metadata.uid


async def _missing_claim(context: ReconcileContext, view: RunView) -> str | None:
    """Name the claim that the base model should be on, if it is not there."""
    entry = resolve.entry_of(view.project, view.run.spec.plugin) if view.project else None
    if view.project is None or view.plugin is None or entry is None:
        return None
    source = resolve.base_model_of(view.plugin, entry, view.run)
    base = resolve.base_location(source, view.project) if source else None
    if base is None or base.claim is None or base.base_model_id is not None:
        return None
    there = await read_named_by_user(context.kube, CLAIMS, namespace=view.run.metadata.namespace, name=base.claim)
    return None if there else base.claim


async def _read_job(
    context: ReconcileContext, owner: Owner, name: str | ChildName, *, begun: bool = False
) -> tuple[JobView | None, Sequence[PodView]]:
    """Read a Job and its pods. A Job that had begun may be gone while its pods still save and stop."""
    job = job_view(await read_child(context.kube, JOBS, name=name, owner=owner))
    if job is None and not begun:
        return None, ()
    job_name = job.name if job is not None else str(name)
    return job, await read_pods(context.cache, owner=owner, job_name=job_name, job=job)


async def _read_side_jobs(context: ReconcileContext, view: RunView, known: dict[str, Any]) -> RunView:
    """Read the fetch and publish Jobs, and the log of whatever failed, only when the decision can turn on them."""
    key = base_model_id(view) if view.job is None else None
    failed_pods: Sequence[PodView] = view.pods if view.job is not None and view.job.failed else ()
    if key is not None and view.project is not None:
        name = names.fetch_job(view.project, key)
        known["fetch"], known["fetch_pods"] = await _read_job(context, Owner.of(view.project), name)
        failed_pods = known["fetch_pods"] if known["fetch"] is not None and known["fetch"].failed else failed_pods
    if is_published(view):
        known["publish"], known["publish_pods"] = await _read_job(
            context, Owner.of(view.run), names.publish_job(view.run)
        )
        if known["publish"] is None and _may_have_left_pods(view):
            known["pods_left"] = await _pods_left(context, view.run)
        failed_pods = known["publish_pods"] if known["publish"] is not None and known["publish"].failed else ()
    if failed_pods:
        known["log_tail"] = await log_tail(context.kube, view.run.metadata.namespace, failed_pods)
    return RunView(**known)


def _may_have_left_pods(view: RunView) -> bool:
    """Tell whether pods may be left although the attempt's Job is complete, so that they are worth a list.

    The Job controller says Complete only when every pod of the Job has ended. But earlier attempts had pods too, and
    the Job of an exchange is stopped, not complete.
    """
    return view.run.status.attempts.current > 1 or isinstance(view.frozen, ServiceConfig)


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
            (stored,) = await create_once(context, [_frozen_manifest(view, action)], owner=Owner.of(view.run))
            context.cache.keep(_frozen_of(stored), *_frozen_key(view.run))
        case StartFetch() | StartAttempt() | StartPublish():
            await context.ensure_namespace(namespace)
            owner = view.project if isinstance(action, StartFetch) and view.project else view.run
            await create_once(context, await _job_manifests(context, view, action), owner=Owner.of(owner))
        case Deliver():
            deliver(context, view, action)
        case SuspendJob():
            await kube.patch(
                JOBS, namespace=namespace, name=action.name, merge_patch={"spec": {"suspend": action.suspend}}
            )
        case DeleteJob():
            await kube.delete(JOBS, namespace=namespace, name=action.name, uid=action.uid)
        case ForceDeletePod():
            await kube.delete(PODS, namespace=namespace, name=action.name, uid=action.uid, grace_seconds=0)
        case DeleteRun():
            await kube.delete(TRAINING_RUNS, namespace=namespace, name=action.name, uid=action.uid)
        case _:
            raise AssertionError(f"{action} is not a run's action")


def _frozen_manifest(view: RunView, action: Freeze) -> dict[str, Any]:
    config = action.config
    message = TrainingData(
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        training_df_name=config.frame_name,
        parameters=action.parameters,
        info=config.info,
        location=str(contract.DATA_DIR),
    )
    labels = names.labels(config.project, role="config", plugin=config.plugin, run=config.run_name)
    data = {
        "run.json": config.model_dump_json(by_alias=True, indent=1),
        "training_data.json": message.model_dump_json(indent=1),
        "train-key": action.training_hash,
    }
    if isinstance(config, ContainerConfig) and config.messages == "File":
        forward = forward_config(config.messaging, project_id=config.project_id, plugin_id=config.plugin_id)
        data["forward.json"] = forward.model_dump_json(by_alias=True, indent=1)
    return manifests.config_map(
        names.config_map(view.run), config.namespace, labels, manifests.run_owner(view.run), data
    )


async def _job_manifests(
    context: ReconcileContext, view: RunView, action: StartFetch | StartAttempt | StartPublish
) -> list[dict[str, Any]]:
    assert view.project is not None
    assert view.plugin is not None
    assert view.frozen is not None
    if isinstance(action, StartPublish):
        return publish_manifests(
            view.run,
            view.project,
            view.plugin,
            view.frozen,
            action,
            image=context.operator_image,
            listed_runs=await _runs_to_keep(context, view.project),
        )
    if isinstance(view.frozen, ServiceConfig):
        assert isinstance(action, StartAttempt)
        return exchange_manifests(
            view.run,
            view.project,
            view.plugin,
            view.frozen,
            attempt=action.attempt,
            image=context.operator_image,
            token_sha256=token_hash(token_of(context, view, attempt=action.attempt)),
        )
    if isinstance(view.frozen, ContainerConfig):
        assert isinstance(action, StartAttempt)
        return [
            container_job(
                view.run,
                view.project,
                view.plugin,
                view.frozen,
                attempt=action.attempt,
                operator_image=context.operator_image,
            )
        ]
    entry = resolve.entry_of(view.project, view.run.spec.plugin)
    assert entry is not None
    source = resolve.base_model_of(view.plugin, entry, view.run)
    assert source is not None
    if isinstance(action, StartFetch):
        return fetch_manifests(
            view.project,
            source,
            action.key,
            image=context.operator_image,
            plugin=view.plugin,
            api_server=(await context.api_server()).texts(),
        )
    assert isinstance(view.frozen, RunConfig)
    resume = view.resume.status.model.name if view.resume and view.resume.status.model else None
    return [
        manifests.training_job(
            view.run,
            view.project,
            view.plugin,
            view.frozen,
            resolve.base_location(source, view.project),
            attempt=action.attempt,
            image=context.trainer_image,
            operator_image=context.operator_image,
            resume_model=resume,
        )
    ]


async def _runs_to_keep(context: ReconcileContext, project: Project) -> ListedRuns | None:
    """List the runs of the namespace, for Projects may share a claim; None when the Project did so a while ago."""
    if not context.cache.is_due("sweep", project.metadata.uid, every=SWEEP_SECONDS):
        return None
    listed = context.clock()
    runs = await context.kube.list(TRAINING_RUNS, namespace=project.metadata.namespace)
    return listed_runs(project, runs, listed=listed)
