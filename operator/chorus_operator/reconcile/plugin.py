"""Reconcile a Plugin: give it its number, ask its image or service what it needs, and say whether it can be used."""

from __future__ import annotations

from typing import Any

from chorus_api.plugin import Plugin
from chorus_kube.errors import Invalid
from chorus_kube.resources import JOBS, PLUGINS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names
from chorus_operator.decisions.decision import Inquire, StartDescribe
from chorus_operator.decisions.job_resources import job_resources
from chorus_operator.decisions.observed import job_view
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.plugin.status import await_name
from chorus_operator.decisions.resolve import messaging
from chorus_operator.decisions.run.plugin_type import PluginType
from chorus_operator.reconcile.act import create_once, finish
from chorus_operator.reconcile.children import Owner, Taken, read_child, read_pods
from chorus_operator.reconcile.confirm import confirm_unchanged
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.invalid import parse
from chorus_operator.reconcile.logs import log_tail
from chorus_operator.reconcile.object_events import read_events
from chorus_operator.reconcile.services import inquire
from chorus_operator.services.outbound import about_plugin


async def reconcile_plugin(context: ReconcileContext, key: Key) -> float | None:
    """Write a Plugin's status, and ask its image or service; returns when to look again."""
    stored = await context.stores.get(PLUGINS, namespace=key.namespace, name=key.name)
    if stored is None or stored["metadata"].get("deletionTimestamp"):
        return None
    plugin = await parse(context, PLUGINS, Plugin, stored)
    if plugin is None:
        return None
    plugin_type = context.plugin_types[plugin.spec.type]
    view = PluginView(plugin, context.clock())
    try:
        view = await _read(context, plugin, plugin_type)
        decision = plugin_type.decide_plugin(view)
        for action in decision.actions:
            match action:
                case StartDescribe():
                    await _start(context, plugin, plugin_type)
                case Inquire():
                    await inquire(context, plugin, action.endpoint)
                case _:
                    raise AssertionError(f"{action} is not a Plugin's action")
    except Taken as error:
        decision = await_name(view, str(error))
    except Invalid as error:
        decision = plugin_type.refuse_plugin(view, str(error))
    return await finish(context, PLUGINS, stored, decision)


async def _read(context: ReconcileContext, plugin: Plugin, plugin_type: PluginType) -> PluginView:
    """Read the Job that asks, only while there is something to ask."""
    known: dict[str, Any] = {
        "plugin": plugin,
        "now": context.clock(),
        "since": context.since,
        "inquiry": context.dispatcher.known(about_plugin(plugin), namespace=plugin.metadata.namespace),
        "judge_url": context.judge_url,
    }
    image = plugin_type.image_to_describe(plugin)
    if image is None:
        return PluginView(**known)
    owner = Owner.of(plugin)
    job_name = names.describe_job(plugin, image)
    job = job_view(await read_child(context.stores, JOBS, name=job_name, owner=owner))
    if job is None:
        return PluginView(**known)
    pods = await read_pods(context.stores, owner=owner, job_name=job.name, job=job)
    tail = await log_tail(context.kube, owner.namespace, pods) if job.failed else None
    events = await read_events(context.kube, owner.namespace, job, pods, claim="", now=context.clock())
    return PluginView(**known, job=job, pods=pods, events=events, log_tail=tail)


async def _start(context: ReconcileContext, plugin: Plugin, plugin_type: PluginType) -> None:
    namespace = plugin.metadata.namespace
    await confirm_unchanged(context, plugin)
    await context.ensure_namespace(namespace)
    how = messaging(
        context.messages_url,
        subject_uid=plugin.metadata.uid,
        source=f"/namespaces/{namespace}/plugins/{plugin.metadata.name}",
    )
    manifests = plugin_type.describe_manifests(
        plugin, how, operator_image=context.operator_image, job_resources=job_resources(context.job_resources)
    )
    await create_once(context, manifests, owner=Owner.of(plugin))
