"""Doing what was decided: children are created once, the status is written last and once, then users are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from chorus_kube.errors import AlreadyExists, Conflict
from chorus_kube.resources import Resource, of
from chorus_operator.decisions.decision import Decision
from chorus_operator.events import emit_event
from chorus_operator.reconcile.children import Owner, read_child
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.patch import status_patch

Manifest = dict[str, Any]


async def create_once(context: ReconcileContext, manifests: Sequence[Manifest], *, owner: Owner) -> Sequence[Manifest]:
    """Create children in order, and give them as they are stored. One that is there already is left as it is.

    Raises Foreign or EarlierLife when another object has the name.
    """
    stored = []
    for manifest in manifests:
        try:
            stored.append(await context.kube.create(manifest))
        except AlreadyExists:
            stored.append(await existing_child(context, manifest, owner))
    return stored


async def existing_child(context: ReconcileContext, manifest: Manifest, owner: Owner) -> Manifest:
    """Read a child that could not be made because its name is taken. Raises Foreign, EarlierLife, or Conflict."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    there = await read_child(context.kube, of(manifest), name=name, owner=owner)
    if there is None:
        raise Conflict(f"{kind} {name} was just deleted", status=409, reason="Conflict")
    if there["metadata"].get("deletionTimestamp"):
        raise Conflict(f"{kind} {name} is being deleted", status=409, reason="Conflict")
    return there


async def finish(
    context: ReconcileContext, resource: Resource, stored: Mapping[str, Any], decision: Decision[Any]
) -> float | None:
    """Write the status if it changed, then send the Events; returns when to look again."""
    metadata = stored["metadata"]
    if await write_status(context, resource, stored, decision.status):
        for event in decision.events:
            await emit_event(
                context.kube,
                dict(stored),
                reason=event.reason.value,
                message=event.message,
                warning=event.warning,
                now=context.clock(),
                occurrence=metadata["resourceVersion"],
            )
    return decision.requeue_after


async def write_status(
    context: ReconcileContext, resource: Resource, stored: Mapping[str, Any], status: BaseModel
) -> bool:
    """Write a status once, by merge patch; Conflict when the object changed since it was read. False: no change."""
    patch = status_patch(stored.get("status", {}), status)
    if not patch:
        return False
    metadata = stored["metadata"]
    await context.kube.patch_status(
        resource,
        namespace=metadata["namespace"],
        name=metadata["name"],
        status=patch,
        resource_version=metadata["resourceVersion"],
    )
    context.observer.status_written(resource.kind, stored.get("status", {}), patch)
    return True
