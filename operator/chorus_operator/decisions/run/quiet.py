"""Which statuses of a run are not worth a write yet: that its pod is being scheduled, pulls its image, and the like.

Most pods start within seconds, and a write of a status is the dearest request there is. So what a run waits for is
written once it has waited for a while. What may keep a pod from starting for good is written at once.
"""

from __future__ import annotations

from datetime import datetime

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.conditions import find

SECONDS = 5.0
_FOLLOWS = ("reason", "message", "shown", "conditions")
"""Fields that follow from the conditions."""


def seconds_to_wait(before: TrainingRunStatus, after: TrainingRunStatus, *, now: datetime) -> float:
    """Seconds for which a status need not be written; 0 when it says more than what its pod waits for just now."""
    ready = find(after.conditions, ConditionType.PODS_READY)
    if ready is None or (ready.status, ready.reason) != ("False", Reason.PENDING) or not _waited_before(before):
        return 0.0
    if before == after or _others(before) != _others(after) or before.model_copy(update=_of(after)) != after:
        return 0.0
    return max(0.0, SECONDS - (now - ready.last_transition_time).total_seconds())


def _waited_before(status: TrainingRunStatus) -> bool:
    ready = find(status.conditions, ConditionType.PODS_READY)
    return ready is not None and ready.status == "False"


def _others(status: TrainingRunStatus) -> list[Condition]:
    return [condition for condition in status.conditions if condition.type != ConditionType.PODS_READY]


def _of(status: TrainingRunStatus) -> dict[str, object]:
    return {name: getattr(status, name) for name in _FOLLOWS}
