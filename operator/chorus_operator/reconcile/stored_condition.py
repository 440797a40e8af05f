"""Write one condition into a stored status, beside what is there: where no decision about the object could be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_kube.resources import Resource
from chorus_operator.reconcile.context import ReconcileContext


async def write_condition(
    context: ReconcileContext,
    resource: Resource,
    stored: Mapping[str, Any],
    kind: ConditionType,
    reason: Reason,
    message: str,
    shown: Mapping[str, str],
) -> None:
    """Set a condition to False, unless it says so already; `shown`: more fields of the status that go with it."""
    metadata, before = stored["metadata"], stored.get("status", {})
    conditions = {condition["type"]: condition for condition in before.get("conditions", ())}
    if conditions.get(kind, {}).get("message") == message:
        return
    conditions[str(kind)] = Condition(
        type=kind,
        status="False",
        reason=reason.value,
        message=message,
        last_transition_time=context.clock(),
        observed_generation=metadata.get("generation", 0),
    ).model_dump(mode="json", by_alias=True)
    patch = {"conditions": [conditions[name] for name in sorted(conditions)], **shown}
    await context.kube.patch_status(
        resource,
        namespace=metadata["namespace"],
        name=metadata["name"],
        status=patch,
        resource_version=metadata["resourceVersion"],
    )
    context.observer.status_written(resource.kind, before, patch)
