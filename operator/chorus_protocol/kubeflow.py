"""Progress in the wire form of Kubeflow Trainer's status server, which transformers' own Trainer speaks.

Source of the form: KubeflowCallback of transformers 5 and the TrainJob status server of Kubeflow Trainer 2.3.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from chorus_protocol.messages import ProgressReport
from chorus_protocol.refusals import Cause, FieldProblem, Refused

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,63}")
_STEPS = {"current_step": "step", "total_steps": "total_steps"}
_NUMBERS = ("loss", "epoch")
MAX_METRICS = 32
KUBEFLOW_INSTANCE = "kubeflow"
"""Instance of progress in this form, which has no numbers: the receiver gives it some."""


class _Form(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class _Metric(_Form):
    name: str
    value: str


class _Status(_Form):
    progress_percentage: int | None = Field(None, ge=0, le=100)
    estimated_remaining_seconds: int | None = Field(None, ge=0)
    metrics: list[_Metric] = Field(default_factory=list, max_length=256)


class _Body(_Form):
    trainer_status: _Status


def read_progress(body: bytes, *, project_id: int, plugin_id: int) -> ProgressReport:
    """Read a TrainJob status update as progress; Refused (malformed) with the fields that are wrong.

    Metrics that are no finite numbers are left out: a status server is told texts of any kind.
    """
    try:
        status = _Body.model_validate(json.loads(body)).trainer_status
    except ValidationError as error:
        fields = tuple(
            FieldProblem(".".join(str(part) for part in problem["loc"]), problem["msg"])
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:20]
        )
        raise Refused(Cause.MALFORMED, "; ".join(f"{f.field}: {f.problem}" for f in fields), fields=fields) from error
    except (ValueError, RecursionError) as error:
        raise Refused(Cause.MALFORMED, f"the body is not JSON: {error}"[:500]) from error
    values = dict(filter(None, (_number(metric) for metric in status.metrics)))
    said: dict[str, Any] = {
        field: int(value)
        for name, field in _STEPS.items()
        if (value := values.pop(name, None)) is not None and value >= 0
    }
    said |= {name: values.pop(name) for name in _NUMBERS if name in values}
    return ProgressReport(
        project_id=project_id,
        plugin_id=plugin_id,
        percent=status.progress_percentage or 0,
        eta_seconds=status.estimated_remaining_seconds,
        metrics=dict(list(values.items())[:MAX_METRICS]),
        **said,
    )


def _number(metric: _Metric) -> tuple[str, float] | None:
    try:
        value = float(metric.value)
    except ValueError:
        return None
    return (metric.name, value) if math.isfinite(value) and _NAME.fullmatch(metric.name) else None
