"""Live reads before what cannot be taken back: what is known of an object may be old, and of a Job that is not there.

Two watches lag behind the API server, each by its own time. A Job made, or a pod removed, for a state that has passed
would train twice, or end a training that goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from chorus_api import contract
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_kube.errors import Conflict
from chorus_kube.resources import JOBS, PODS
from chorus_operator.decisions.observed import pod_view
from chorus_operator.decisions.startup import is_lost
from chorus_operator.reconcile.children import Owner, is_pod_of_run, read_child, read_owner
from chorus_operator.reconcile.context import ReconcileContext


async def confirm_unchanged(context: ReconcileContext, owner: Project | Plugin | TrainingRun) -> None:
    """Read the object live that was decided about. Raises Conflict when it has changed: the next try sees it."""
    metadata = owner.metadata
    stored = await read_owner(context.kube, owner)
    now = (stored["metadata"]["uid"], stored["metadata"]["resourceVersion"]) if stored is not None else None
    if now != (metadata.uid, metadata.resource_version):
        raise Conflict(f"{type(owner).__name__} {metadata.name} has changed", status=409, reason="Conflict")


async def confirm_no_pods(context: ReconcileContext, owner: Owner, names: Sequence[str]) -> None:
    """Make sure that no pod is left of a Job of one of these names that is not there. Raises Conflict when one is.

    Such a Job was made and deleted before the operator could write that down. A Job that is there is no obstacle: it
    is not made a second time. Raises Foreign or EarlierLife when another object has the name.
    """
    for name in names:
        if await read_child(context.kube, JOBS, name=name, owner=owner) is not None:
            continue
        pods = await context.stores.pods_now(owner.namespace, name)
        if any(is_pod_of_run(pod, owner.uid) for pod in pods):
            raise Conflict(f"pods of Job {name} are there", status=409, reason="Conflict")


async def confirm_no_other_pods(context: ReconcileContext, run: Owner, names: Sequence[str]) -> None:
    """Make sure that no pod of a run goes on but those of Jobs of these names. Raises Conflict when one does.

    A Job of an earlier attempt may have been made again by who held the Lease before. A pod that is lost with its node
    is no obstacle: nobody says that it has ended.
    """
    for pod in await context.kube.list(PODS, namespace=run.namespace, labels={contract.RUN_LABEL: run.name}):
        if not is_pod_of_run(pod, run.uid) or pod["metadata"]["labels"].get(contract.JOB_NAME_LABEL) in names:
            continue
        view = pod_view(pod)
        if not view.ended and not is_lost(view, now=context.clock()):
            raise Conflict(f"pod {view.name} is there", status=409, reason="Conflict")
