"""Which run of a plugin may go: one at a time for each (Project, plugin). An accepted run is active until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chorus_api import contract
from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions.applicability import Verdict
from chorus_operator.decisions.conditions import Conditions, is_true
from chorus_operator.decisions.decision import Admit


def is_final(run: TrainingRun) -> bool:
    """Tell whether a run has ended."""
    return run.status.phase in FINAL


def is_accepted(run: TrainingRun) -> bool:
    """Tell whether a run has been admitted."""
    return is_true(run.status.conditions, ConditionType.ACCEPTED)


def accepted(run: TrainingRun, reason: Reason, message: str, *, now: datetime) -> TrainingRun:
    """Give a run with its admission."""
    conditions = Conditions(run.status.conditions, generation=run.metadata.generation, now=now)
    conditions.set(ConditionType.ACCEPTED, True, reason, message)
    conditions.drop(ConditionType.SUSPENDED)
    return run.model_copy(update={"status": run.status.model_copy(update={"conditions": conditions.all()})})


def accepted_by_job(run: TrainingRun, *, now: datetime) -> TrainingRun:
    """Give a run with its admission whose Job was made, although its status does not say that it was admitted."""
    return accepted(run, Reason.ACCEPTED, "Its turn has come.", now=now)


def turn(run: TrainingRun) -> tuple[bool, str, str]:
    """Order runs: by acceptance, then creation time, then uid."""
    return (not is_accepted(run), run.metadata.creation_timestamp, run.metadata.uid)


def is_automatic(run: TrainingRun) -> bool:
    """Tell whether Chorus made the run itself."""
    return run.metadata.labels.get(contract.MANAGED_BY_LABEL) == contract.MANAGED_BY


def admit(runs: Sequence[TrainingRun], verdict: Verdict, *, policy: str) -> list[Admit]:
    """Decide over the runs of one plugin, all of which the frame is ready for."""
    live = sorted((run for run in runs if not is_final(run) and not run.metadata.deletion_timestamp), key=turn)
    waiting = [run for run in live if not is_accepted(run) and not run.spec.cancel]
    if not verdict.applicable:
        return [Admit(run.metadata.name, "notApplicable", verdict.reason, verdict.message) for run in waiting]
    active = [run for run in live if is_accepted(run)]
    candidates = [run for run in waiting if not run.spec.suspend]
    verdicts: list[Admit] = []
    if not active and candidates:
        first = candidates.pop(0)
        verdicts.append(Admit(first.metadata.name, "accepted", Reason.ACCEPTED, "Its turn has come."))
        active = [first]
    if policy == "Forbid" and active:
        verdicts += [
            Admit(
                run.metadata.name,
                "cancelled",
                Reason.CONCURRENCY_FORBIDDEN,
                f"Run {active[0].metadata.name!r} of this plugin is active and concurrencyPolicy is Forbid.",
            )
            for run in candidates
            if not is_automatic(run)
        ]
    return verdicts
