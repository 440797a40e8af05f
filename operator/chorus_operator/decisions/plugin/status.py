"""The status of a Plugin, and what every type says of one that can or cannot be used."""

from __future__ import annotations

from typing import NamedTuple

from chorus_api.conditions import ConditionType
from chorus_api.ids import message_id
from chorus_api.phases import Phase
from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.reasons import Reason
from chorus_operator.decisions.conditions import Conditions, find
from chorus_operator.decisions.decision import Decision
from chorus_operator.decisions.plugin.state import PluginView

REQUEUE_SECONDS = 15.0


class Unknown(NamedTuple):
    """Why a plugin cannot be used now: the row that a Project shows."""

    phase: str
    reason: str
    message: str


def problem(plugin: Plugin) -> Unknown:
    """Say why a plugin of which it is not known what it needs cannot be used yet, or not at all."""
    ready = find(plugin.status.conditions, ConditionType.READY)
    answered = plugin.status.observed_generation == plugin.metadata.generation
    if ready is not None and ready.reason == Reason.DESCRIBE_FAILED and answered:
        return Unknown(Phase.FAILED, ready.reason, f"Plugin {plugin.metadata.name!r}: {ready.message}"[:4096])
    name = plugin.metadata.name
    return Unknown(Phase.QUEUED, Reason.AWAITING_PLUGIN.value, f"Plugin {name!r} has not said yet what it needs.")


def conditions_of(view: PluginView) -> Conditions:
    """Begin to change a Plugin's conditions."""
    plugin = view.plugin
    return Conditions(plugin.status.conditions, generation=plugin.metadata.generation, now=view.now)


def status_of(plugin: Plugin, conditions: Conditions) -> PluginStatus:
    """Write the status."""
    changes: dict[str, object] = {
        "id": message_id(plugin.metadata.uid),
        "observed_generation": plugin.metadata.generation,
        "conditions": conditions.all(),
    }
    if plugin.status.report is not None:
        changes["last_seen_time"] = plugin.status.report.time
    return plugin.status.model_copy(update=changes)


def ready(view: PluginView) -> Decision[PluginStatus]:
    """Say that Projects may use the Plugin."""
    conditions = conditions_of(view)
    conditions.set(ConditionType.READY, True, Reason.READY, "Projects may use it.")
    return Decision(status_of(view.plugin, conditions))


def refuse(view: PluginView, message: str) -> Decision[PluginStatus]:
    """Say that the Plugin cannot be used."""
    conditions = conditions_of(view)
    conditions.set(ConditionType.READY, False, Reason.JOB_REJECTED, message[:4096])
    return Decision(status_of(view.plugin, conditions))


def await_name(view: PluginView, message: str) -> Decision[PluginStatus]:
    """Say that the Plugin's image cannot be asked until another object gives the name of a child free."""
    conditions = conditions_of(view)
    conditions.set(ConditionType.READY, False, Reason.NAME_TAKEN, message)
    return Decision(status_of(view.plugin, conditions), requeue_after=REQUEUE_SECONDS)
