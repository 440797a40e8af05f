"""Objects that this version cannot read, such as those of a newer one: they are reported, not crashed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from chorus_api.conditions import ConditionType
from chorus_api.phases import Phase
from chorus_api.quoting import needs_quotes
from chorus_api.reasons import Reason
from chorus_kube.resources import PLUGINS, Resource
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.stored_condition import write_condition

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
    problems = [f"{'.'.join(str(part) for part in e['loc'])}: {_message(e)}" for e in error.errors()[:ERRORS_SHOWN]]
    more = error.error_count() - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more > 0 else "")


def _message(error: ErrorDetails) -> str:
    value = error["input"]
    if error["type"] == "string_type" and isinstance(value, bool | int | float):
        return needs_quotes(value)
    return error["msg"]


async def _report(context: ReconcileContext, resource: Resource, stored: Mapping[str, Any], message: str) -> None:
    message, reason = message[:1024], Reason.INVALID_SPEC
    shown = {} if resource is PLUGINS else {"phase": Phase.FAILED, "reason": reason.value, "message": message}
    await write_condition(context, resource, stored, ConditionType.READY, reason, message, shown)
