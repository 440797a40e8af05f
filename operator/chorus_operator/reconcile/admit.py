"""Writing a verdict of admission into a run: an accepted one is started in the same step."""

from __future__ import annotations

from typing import Any

import structlog

from chorus_api.conditions import ConditionType
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_kube.errors import Conflict, KubeError, NotFound
from chorus_kube.resources import TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.decision import Admit, Decision, Event
from chorus_operator.decisions.project.admission import accepted
from chorus_operator.decisions.project.state import ProjectView
from chorus_operator.decisions.run.phase import run_phase
from chorus_operator.decisions.run.shown import shown
from chorus_operator.reconcile.act import finish
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.run_view import Unsure
from chorus_operator.reconcile.training_run import start_admitted

log = structlog.get_logger()


async def admit_run(context: ReconcileContext, project: Project, view: ProjectView, verdict: Admit) -> None:
    """Write a verdict into the status of a run, and start the run when it is accepted.

    `project`: as it was decided about. A run that cannot be started is accepted nevertheless: its own reconcile goes on
    from there, fails by itself, and says why. What has changed meanwhile is left to the reconcile that it wakes.
    """
    run = next(run for run in view.runs if run.metadata.name == verdict.run)
    namespace, name = run.metadata.namespace, run.metadata.name
    stored = await context.stores.get(TRAINING_RUNS, namespace=namespace, name=name)
    if stored is None or stored["metadata"]["resourceVersion"] != run.metadata.resource_version:
        context.wake(Key("Project", namespace, project.metadata.name, project.metadata.name))
        return
    key = Key("TrainingRun", namespace, name, project.metadata.name)
    if verdict.verdict == "accepted":
        run = accepted(run, verdict.reason, verdict.message, now=view.now)
        try:
            again = await start_admitted(context, stored, run, project)
        except (Conflict, NotFound):
            context.wake(Key("Project", namespace, project.metadata.name, project.metadata.name))
            return
        except (Unsure, KubeError, ValueError) as error:
            log.info("a run is admitted and starts by itself", namespace=namespace, run=name, why=str(error)[:500])
        else:
            if again is not None:
                context.wake(key, again)
            return
    await finish(context, TRAINING_RUNS, stored, _verdict(run, view, verdict))
    context.wake(key)


def _verdict(run: TrainingRun, view: ProjectView, verdict: Admit) -> Decision[Any]:
    conditions = Conditions(run.status.conditions, generation=run.metadata.generation, now=view.now)
    changes: dict[str, Any] = {}
    if verdict.verdict != "accepted":
        if verdict.verdict == "notApplicable":
            conditions.set(ConditionType.APPLICABLE, False, verdict.reason, verdict.message)
        conditions.set(ConditionType.SUCCEEDED, False, verdict.reason, verdict.message)
        changes["completion_time"] = view.now
    phase, reason, message = run_phase(conditions.all())
    changes |= {"conditions": conditions.all(), "phase": phase, "reason": reason, "message": message}
    status = run.status.model_copy(update=changes)
    ended = verdict.verdict != "accepted"
    events = (Event(verdict.reason, verdict.message),) if ended else ()
    return Decision(status.model_copy(update={"shown": shown(status)}), events=events)
