"""Progress in the wire form of Kubeflow Trainer, which transformers' own Trainer speaks."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from chorus_api.messages import ProgressReport
from chorus_operator.messages.refusals import Cause, FieldProblem, Refused


def progress_of(body: bytes, *, ids: tuple[int, int] | None) -> ProgressReport:
    """Read `{"trainerStatus": {...}}` as the progress of the run with these ids; Refused when it is not that."""
    if ids is None:
        raise Refused(Cause.WRONG_POD, "progress is not a message of this role")
    try:
        status = json.loads(body)["trainerStatus"]
        values: dict[str, Any] = {
            "percent": status["progressPercentage"] if status.get("progressPercentage") is not None else 0,
            "eta_seconds": status.get("estimatedRemainingSeconds"),
            "metrics": {each["name"]: each["value"] for each in status.get("metrics") or ()},
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        fault = FieldProblem("data.trainerStatus", f"is not of Kubeflow Trainer's form: {error!r}"[:300])
        raise Refused(Cause.MALFORMED, f"{fault.field} {fault.problem}", fields=(fault,)) from error
    try:
        return ProgressReport.model_validate({"project_id": ids[0], "plugin_id": ids[1], **values})
    except ValidationError as error:
        fields = tuple(
            FieldProblem("data." + ".".join(map(str, each["loc"])), each["msg"])
            for each in error.errors(include_url=False)[:20]
        )
        text = "; ".join(f"{each.field}: {each.problem}" for each in fields)
        raise Refused(Cause.MALFORMED, text[:1000], fields=fields) from error
