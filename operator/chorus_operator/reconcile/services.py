"""Have messages sent to services: what each needs is read, and the message written, when its turn has come."""

from __future__ import annotations

from datetime import datetime

from chorus_api.plugin import Plugin
from chorus_api.run_config import FrozenRun
from chorus_api.training_run import TrainingRun
from chorus_kube.resources import CONFIG_MAPS
from chorus_kube.work_queue import Key
from chorus_operator.decisions import names
from chorus_operator.decisions.decision import Deliver, Endpoint
from chorus_operator.decisions.dispatch import Outgoing, host_of
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.services import outbound as outbound
from chorus_operator.services.client import OutboundMessage
from chorus_operator.services.dispatcher import CannotWrite
from chorus_protocol.messages import MessageType


def token_of(context: ReconcileContext, run: TrainingRun, config: FrozenRun, *, attempt: int) -> str:
    """Make the token of a run's attempt."""
    created = datetime.fromisoformat(run.metadata.creation_timestamp)
    return outbound.run_token(context.tokens, config, attempt=attempt, created=created)


def deliver(context: ReconcileContext, run: TrainingRun, config: FrozenRun, action: Deliver) -> None:
    """Have TRAINING_DATA of an attempt sent once; the run is looked at again when that has ended."""
    metadata, endpoint = run.metadata, action.endpoint

    async def write() -> OutboundMessage:
        return outbound.training_data(
            config,
            context.address,
            attempt=action.attempt,
            url=endpoint.url,
            parameters=action.parameters,
            host=names.exchange_host(run, action.attempt),
            certificate=action.certificate,
            token=token_of(context, run, config, attempt=action.attempt),
            ca=await _certificates(context, metadata.namespace, endpoint),
        )

    key = Key("TrainingRun", metadata.namespace, metadata.name, config.project)
    about, host = outbound.about_attempt(metadata.uid, action.attempt), host_of(endpoint.url)
    message = Outgoing(namespace=metadata.namespace, about=about, kind=MessageType.TRAINING_DATA, host=host)
    context.dispatcher.send(message, write, then=lambda: context.wake(key))


async def inquire(context: ReconcileContext, plugin: Plugin, endpoint: Endpoint) -> None:
    """Have ONLINE_INQUIRY sent once; the Plugin is looked at again when that has ended. Raises KubeError."""
    metadata = plugin.metadata
    # The key that the inquiry's signature is checked with shall be there before it.
    await context.ensure_namespace(metadata.namespace)

    async def write() -> OutboundMessage:
        return outbound.inquiry(
            plugin,
            context.address,
            tokens=context.tokens,
            now=context.clock(),
            url=endpoint.url,
            ca=await _certificates(context, metadata.namespace, endpoint),
        )

    key = Key("Plugin", metadata.namespace, metadata.name, "")
    about, host = outbound.about_plugin(plugin), host_of(endpoint.url)
    message = Outgoing(namespace=metadata.namespace, about=about, kind=MessageType.ONLINE_INQUIRY, host=host)
    context.dispatcher.send(message, write, then=lambda: context.wake(key))


async def _certificates(context: ReconcileContext, namespace: str, endpoint: Endpoint) -> str | None:
    name, key = endpoint.ca_config_map, endpoint.ca_key
    if name is None or key is None:
        return None
    stored = await read_named_by_user(context.kube, CONFIG_MAPS, namespace=namespace, name=name)
    found = stored.get("data", {}).get(key) if stored is not None else None
    if not isinstance(found, str):
        raise CannotWrite(f"spec.service.caConfigMap: there is no key {key!r} in a ConfigMap {name!r}; create it")
    return found
