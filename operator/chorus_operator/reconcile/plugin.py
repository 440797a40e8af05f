"""Reconcile a Plugin: give it its number, and say whether it can be used."""

from __future__ import annotations

from chorus_api.ids import message_id
from chorus_api.plugin import Plugin
from chorus_api.reasons import Reason
from chorus_operator.kube.resources import PLUGINS
from chorus_operator.reconcile.act import finish
from chorus_operator.reconcile.environment import Environment
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.queue import Key
from chorus_operator.rules.conditions import Conditions
from chorus_operator.rules.decision import Decision


async def reconcile_plugin(environment: Environment, key: Key) -> float | None:
    """Write a Plugin's status."""
    stored = await environment.kube.get(PLUGINS, namespace=key.namespace, name=key.name)
    if stored is None:
        environment.memory.plugin_gone(key.namespace, key.name)
        return None
    if stored["metadata"].get("deletionTimestamp"):
        return None
    plugin = await parse(environment, PLUGINS, Plugin, stored)
    if plugin is None:
        return None
    generation = plugin.metadata.generation
    conditions = Conditions(plugin.status.conditions, generation=generation, now=environment.clock())
    conditions.set("Ready", True, Reason.READY, "Projects may use it.")
    status = plugin.status.model_copy(
        update={
            "id": message_id(plugin.metadata.uid),
            "observed_generation": generation,
            "conditions": conditions.all(),
        }
    )
    return await finish(environment, PLUGINS, stored, Decision(status))
