"""Objects that this version cannot read, such as those of a newer one: they are reported, not crashed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from chorus_api.base import Condition
from chorus_api.reasons import Reason
from chorus_kube.resources import Resource
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.patch import merge_patch

T = TypeVar("T", bound=BaseModel)
ERRORS_SHOWN = 5


async def parse(context: ReconcileContext, resource: Resource, model: type[T], stored: Mapping[str, Any]) -> T | None:
    """Read a stored object; when it cannot be read, say so in its status and return None."""
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        await _report(context, resource, stored, describe(error))
        return None


def describe(error: ValidationError) -> str:
    """Name the fields that are wrong."""
    problems = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:ERRORS_SHOWN]]
    more = error.error_count() - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more > 0 else "")


async def _report(context: ReconcileContext, resource: Resource, stored: Mapping[str, Any], message: str) -> None:
    condition = Condition(
        type="Ready",
        status="False",
        reason=Reason.INVALID_SPEC.value,
        message=message[:1024],
        last_transition_time=context.clock(),
        observed_generation=stored["metadata"].get("generation", 0),
    ).model_dump(mode="json", by_alias=True)
    before = stored.get("status", {})
    known = next((c for c in before.get("conditions", ()) if c["type"] == "Ready"), None)
    if known is not None and known["message"] == condition["message"]:
        return
    others = [c for c in before.get("conditions", ()) if c["type"] != "Ready"]
    wanted: dict[str, Any] = {"conditions": [*others, condition]}
    if resource.kind != "Plugin":
        wanted |= {"phase": "failed", "reason": Reason.INVALID_SPEC.value, "message": condition["message"]}
    patch = merge_patch({}, wanted)
    await context.kube.patch_status(
        resource,
        namespace=stored["metadata"]["namespace"],
        name=stored["metadata"]["name"],
        status=patch,
        resource_version=stored["metadata"]["resourceVersion"],
    )
    context.observer.status_written(resource.kind, before, patch)
