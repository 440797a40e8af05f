"""Reconciles that fail again and again: said in the object's status, where its user sees it, not in the log alone."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL
from chorus_api.reasons import Reason
from chorus_client.masking import mask
from chorus_kube.errors import KubeError
from chorus_kube.resources import PLUGINS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.stored_condition import write_condition

log = structlog.get_logger()
REPORTED_FAILURES = 3
REPORT_EVERY = timedelta(minutes=5)
MAX_MESSAGE = 1000
_KINDS = {each.kind: each for each in (PROJECTS, PLUGINS, TRAINING_RUNS)}


class Failures:
    """How often in a row each key has failed. From the third time on its object says why, until it is reconciled."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}
        self._reported: dict[Key, datetime] = {}

    def succeeded(self, key: Key) -> None:
        """Forget a key's failures: the decision that was written has removed the condition."""
        self._counts.pop(key, None)
        self._reported.pop(key, None)

    async def failed(self, context: ReconcileContext, key: Key, error: Exception) -> None:
        """Count a failure, and report it from the third on. A report that fails is logged: the next one may arrive."""
        self._counts[key] = self._counts.get(key, 0) + 1
        last = self._reported.get(key)
        if self._counts[key] < REPORTED_FAILURES:
            return
        if last is not None and context.clock() - last < REPORT_EVERY:
            return  # each report wakes the key: an error that reads otherwise each time would defeat the back-off
        try:
            await _report(context, key, error)
            self._reported[key] = context.clock()
        except KubeError as refused:
            log.warning("a failure could not be reported", key=str(key), error=str(refused)[:MAX_MESSAGE])


async def _report(context: ReconcileContext, key: Key, error: Exception) -> None:
    resource = _KINDS[key.kind]
    stored = await read_named_by_user(context.kube, resource, namespace=key.namespace, name=key.name)
    if stored is None or (resource is TRAINING_RUNS and stored.get("status", {}).get("phase") in FINAL):
        return
    message = mask(f"{type(error).__name__}: {error}")[:MAX_MESSAGE]
    reason = Reason.RECONCILE_FAILED
    shown = {} if resource is PLUGINS else {"reason": reason.value, "message": message}
    await write_condition(context, resource, stored, ConditionType.RECONCILED, reason, message, shown)
