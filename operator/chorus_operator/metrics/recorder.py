"""What is counted as it happens: phases reached, attempts, frames, and how long reconciles take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL, Phase
from chorus_api.reasons import FailureClass, Reason
from chorus_kube.work_queue import OUTCOMES
from chorus_operator.decisions.outcome.table import rows_with
from chorus_operator.metrics.runs import PHASES, UNKNOWN, WORKING, RunBook, unix_time

KINDS = ("Project", "Plugin", "TrainingRun")
RECONCILE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PHASE_BUCKETS = (1, 5, 15, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400)
REACHED = (*WORKING, *sorted(FINAL))
_STARTED = {ConditionType.POD_STARTED: Phase.PREPROCESSING, ConditionType.TRAINING_STARTED: Phase.TRAINING}
_REASONS = frozenset(reason.value for reason in Reason)
_ACTORS = ("user", "administrator", "nobody")
_WAITING = (Reason.PREPARING, Reason.SUSPENDED)


class Recorder:
    """Is told by the reconciles and the work queue (`reconcile.observer.Observer`). Belongs to one event loop."""

    def __init__(self, registry: CollectorRegistry, *, runs: RunBook, clock: Callable[[], float]):
        """`clock`: Unix time."""
        self._runs = runs
        self._clock = clock
        classes = [each.value for each in FailureClass]
        self._transitions = Counter(
            "chorus_run_phase_transitions", "Times that a run came into a phase.", ["phase"], registry=registry
        )
        self._reached = Histogram(
            "chorus_run_time_to_phase_seconds",
            "Seconds from the first sight of a run until it came into a phase for the first time.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self._started = Counter("chorus_run_attempts_started", "Attempts of runs that were started.", registry=registry)
        self._failed = Counter(
            "chorus_run_attempts_failed", "Attempts that failed, by whose fault it was.", ["class"], registry=registry
        )
        self._failures = Counter(
            "chorus_run_failures",
            "Attempts that failed, and runs that failed otherwise: for which reason, and who acts on it.",
            ["reason", "actor"],
            registry=registry,
        )
        self._retries = Counter(
            "chorus_run_retries", "Further attempts, by whose fault the last one failed.", ["class"], registry=registry
        )
        self._frames = Counter(
            "chorus_frames_prepared", "Preparations of training frames that ended.", ["result"], registry=registry
        )
        self._reconciles = Histogram(
            "chorus_reconcile_duration_seconds",
            "Seconds that one look at an object took.",
            ["kind", "result"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        # Every series is there from the start, so that the first of its kind is a rise from 0.
        _begin(self._transitions, ((phase,) for phase in PHASES if phase != UNKNOWN))
        _begin(self._reached, ((phase,) for phase in REACHED))
        _begin(self._failed, ((each,) for each in classes))
        known = {(each.reason.value, each.actor.value) for row in rows_with() for each in row.outcomes}
        _begin(self._failures, sorted(known))
        _begin(self._retries, ((each,) for each in classes))
        _begin(self._frames, (("ready",), ("failed",)))
        _begin(self._reconciles, ((kind, outcome) for kind in KINDS for outcome in OUTCOMES))

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """Take in a reconcile that has ended."""
        self._reconciles.labels(kind, outcome).observe(seconds)

    def run_gone(self, namespace: str, name: str) -> None:
        """Take in that a run is not there."""
        self._runs.gone(namespace, name)

    def runs_listed(self, namespace: str, project: str, names: Collection[str]) -> None:
        """Take in all runs of a Project."""
        self._runs.listed(namespace, project, names)

    def status_written(self, kind: str, before: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        """Take in a status that was written."""
        if kind == "TrainingRun":
            self._run_written(before, patch)
        elif kind == "Project":
            self._project_written(before, patch)

    def _run_written(self, before: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        phase = patch.get("phase")
        if phase is not None and phase != before.get("phase"):
            self._transitions.labels(phase if phase in PHASES else UNKNOWN).inc()
        reached: list[str] = [phase for name, phase in _STARTED.items() if _turned_true(name, before, patch)]
        if phase in FINAL and phase != before.get("phase"):
            reached.append(str(phase))
        queued = unix_time(patch.get("queuedTime") or before.get("queuedTime"))
        for name in reached if queued else ():
            self._reached.labels(name).observe(max(0.0, self._clock() - queued))
        failed = self._attempts_written(before.get("attempts") or {}, patch.get("attempts") or {})
        if failed or (phase == Phase.FAILED and phase != before.get("phase")):
            failure = {**(before.get("failure") or {}), **(patch.get("failure") or {})}
            reason = failure.get("reason") if failure.get("reason") in _REASONS else UNKNOWN
            actor = failure.get("actor") if failure.get("actor") in _ACTORS else UNKNOWN
            self._failures.labels(reason, actor).inc()

    def _attempts_written(self, before: Mapping[str, int], patch: Mapping[str, int]) -> bool:
        """Count what has changed of the attempts; tell whether one has failed."""

        def rise(name: str) -> int:
            return max(0, patch.get(name, before.get(name, 0)) - before.get(name, 0))

        self._started.inc(rise("current"))
        for each in FailureClass:
            if rise(each.value):
                self._failed.labels(each.value).inc(rise(each.value))
                if rise("current"):
                    self._retries.labels(each.value).inc()
        return any(rise(each.value) for each in FailureClass)

    def _project_written(self, before: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        old, new = _condition(ConditionType.DATASET_READY, before), _condition(ConditionType.DATASET_READY, patch)
        if (new.get("status"), new.get("reason")) == (old.get("status"), old.get("reason")):
            return
        if new.get("status") == "True":
            self._frames.labels("ready").inc()
        elif new.get("status") == "False" and new.get("reason") not in _WAITING:
            self._frames.labels("failed").inc()


def _begin(metric: Counter | Histogram, labels: Any) -> None:
    for values in labels:
        metric.labels(*values)


def _condition(name: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c["type"] == name), {})
    return found


def _turned_true(name: str, before: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    return _condition(name, patch).get("status") == "True" != _condition(name, before).get("status")
