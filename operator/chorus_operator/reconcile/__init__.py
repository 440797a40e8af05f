"""Read, decide, act: one reconcile function for each kind, behind one function of a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chorus_kube.errors import Conflict
from chorus_kube.work_queue import Key
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.failures import Failures
from chorus_operator.reconcile.plugin import reconcile_plugin
from chorus_operator.reconcile.project import reconcile_project
from chorus_operator.reconcile.training_run import reconcile_run

_RECONCILES = {"Project": reconcile_project, "Plugin": reconcile_plugin, "TrainingRun": reconcile_run}


def make_reconciler(
    context: ReconcileContext, failures: Failures | None = None
) -> Callable[[Key], Awaitable[float | None]]:
    """Bind the reconciles to their world. The result takes a key and gives the seconds until the next look, if any."""

    known = failures if failures is not None else Failures()

    async def reconcile(key: Key) -> float | None:
        try:
            again = await _RECONCILES[key.kind](context, key)
        except Conflict:
            raise  # somebody else wrote: the next try sees it
        except Exception as error:
            await known.failed(context, key, error)
            raise
        known.succeeded(key)
        return again

    return reconcile
