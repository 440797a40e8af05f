"""The phase of a Project: a pure function of its conditions and of the newest run of each plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chorus_api.base import Condition
from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL, Phase
from chorus_api.project import PluginRow
from chorus_api.reasons import Reason
from chorus_operator.decisions.conditions import find

REACHED_TRAINING = frozenset({Phase.TRAINING, Phase.TRAINED})


@dataclass(frozen=True)
class Entry:
    """One plugin of the Project and the row that its newest run gives it."""

    row: PluginRow
    optional: bool
    enabled: bool

    @property
    def takes_part(self) -> bool:
        """Whether it counts for the Project's phase: enabled, and not known to be unsuitable."""
        return self.enabled and self.row.applicable is not False


def project_phase(
    entries: Sequence[Entry], conditions: Sequence[Condition], *, suspended: bool, busy: bool
) -> tuple[Phase, str, str]:
    """Derive phase, reason and message; first match wins."""
    ready = find(conditions, ConditionType.DATASET_READY)
    if suspended and not busy:
        return Phase.SUSPENDED, Reason.SUSPENDED.value, "spec.suspend is true and nothing runs."
    if ready is not None and ready.status == "False" and ready.reason not in (Reason.PREPARING, Reason.SUSPENDED):
        return Phase.FAILED, ready.reason, ready.message
    if ready is None or ready.status != "True":
        return Phase.PREPROCESSING, *((ready.reason, ready.message) if ready else (Reason.PREPARING.value, ""))
    taking_part = [entry for entry in entries if entry.takes_part]
    if not taking_part:
        return Phase.FAILED, Reason.NO_APPLICABLE_PLUGIN.value, _no_plugin(entries)
    return _from_runs(taking_part)


def _from_runs(entries: Sequence[Entry]) -> tuple[Phase, str, str]:
    required = [entry.row for entry in entries if not entry.optional]
    optional = [entry.row for entry in entries if entry.optional]
    rows = required or optional
    broken = [row for row in required if row.phase in (Phase.FAILED, Phase.CANCELLED)]
    if broken:
        message = "; ".join(f"{row.name}: {row.reason}: {row.message}" for row in broken)
        return Phase.FAILED, Reason.PLUGIN_FAILED.value, message
    everything_ended = all(row.phase in FINAL for row in required + optional)
    if not required and everything_ended and not any(row.phase == Phase.TRAINED for row in optional):
        return Phase.FAILED, Reason.PLUGIN_FAILED.value, "Every plugin is optional, and none is TRAINED."
    trained = sum(row.phase == Phase.TRAINED for row in required + optional)
    count = f"{trained} of {len(required) + len(optional)} plugins are TRAINED."
    if all(row.phase == Phase.TRAINED for row in required) and everything_ended:
        return Phase.TRAINED, Reason.TRAINED.value, count
    if all(row.phase in (FINAL if not required else REACHED_TRAINING) or row.phase == Phase.TRAINING for row in rows):
        return Phase.TRAINING, Reason.TRAINING.value, count
    active = [row for row in required + optional if row.phase and row.phase not in FINAL]
    idle = [row for row in required + optional if row.phase is None]
    if idle and not active:
        names = ", ".join(row.name for row in idle)
        return Phase.QUEUED, Reason.AWAITING_TRIGGER.value, f"Create a TrainingRun for {names}, or set trainOn: Change."
    return Phase.PREPROCESSING, Reason.RUNS_ACTIVE.value, "; ".join(f"{row.name}: {row.phase}" for row in active)


def _no_plugin(entries: Sequence[Entry]) -> str:
    return "; ".join(f"{entry.row.name}: {entry.row.reason}: {entry.row.message}" for entry in entries)
