"""The phase of a TrainingRun: a pure function of its conditions. It holds no information of its own."""

from __future__ import annotations

from collections.abc import Sequence

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.phases import Phase
from chorus_api.reasons import Reason
from chorus_operator.decisions.conditions import find, is_true

NOT_APPLICABLE = frozenset(
    {
        Reason.NOT_APPLICABLE,
        Reason.MISSING_COLUMNS,
        Reason.TOO_FEW_DISTINCT_VALUES,
        Reason.MISSING_INFO,
        Reason.TOO_FEW_ROWS,
    }
)
_CANCELLED = frozenset({Reason.CANCELLED_BY_USER, Reason.CONCURRENCY_FORBIDDEN})


def run_phase(conditions: Sequence[Condition]) -> tuple[Phase, str, str]:
    """Derive phase, reason and message; first match wins."""
    succeeded = find(conditions, ConditionType.SUCCEEDED)
    if succeeded is not None and succeeded.status in ("True", "False"):
        return _final(succeeded), succeeded.reason, succeeded.message
    if is_true(conditions, ConditionType.SUSPENDED):
        suspended = find(conditions, ConditionType.SUSPENDED)
        assert suspended is not None
        return Phase.SUSPENDED, suspended.reason, suspended.message
    pods_ready = find(conditions, ConditionType.PODS_READY)
    if pods_ready is not None and pods_ready.reason == Reason.JOB_SUSPENDED:
        return Phase.QUEUED, pods_ready.reason, pods_ready.message
    for name, phase in (
        (ConditionType.TRAINING_STARTED, Phase.TRAINING),
        (ConditionType.POD_STARTED, Phase.PREPROCESSING),
    ):
        started = find(conditions, name)
        if started is not None and started.status == "True":
            word = _newest_word(conditions) or started
            return phase, word.reason, word.message
    retrying = find(conditions, ConditionType.RETRYING)
    if retrying is not None and retrying.status == "True" and pods_ready and pods_ready.reason == Reason.PENDING:
        return Phase.QUEUED, retrying.reason, retrying.message  # why the last attempt failed says more
    waiting = pods_ready or find(conditions, ConditionType.ACCEPTED)
    return Phase.QUEUED, *((waiting.reason, waiting.message) if waiting else (Reason.AWAITING_ADMISSION.value, ""))


def _final(succeeded: Condition) -> Phase:
    if succeeded.status == "True":
        return Phase.TRAINED
    if succeeded.reason in NOT_APPLICABLE:
        return Phase.NOT_APPLICABLE
    return Phase.CANCELLED if succeeded.reason in _CANCELLED else Phase.FAILED


def _newest_word(conditions: Sequence[Condition]) -> Condition | None:
    """A retry, a publication or a message on its way says more than "training has started"."""
    blocked = find(conditions, ConditionType.BLOCKED)
    if blocked is not None and blocked.reason == Reason.NAME_TAKEN:
        return blocked
    retrying = find(conditions, ConditionType.RETRYING)
    if retrying is not None and retrying.status == "True":
        return retrying
    for name in (ConditionType.MODEL_PUBLISHED, ConditionType.TRAINING_DATA_DELIVERED):
        word = find(conditions, name)
        if word is not None and word.status == "False":
            return word
    return None
