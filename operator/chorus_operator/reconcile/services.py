"""Have messages sent to services: what each needs is read, and the message written, when its turn has come."""

from __future__ import annotations

from datetime import datetime

from chorus_api.plugin import Plugin
from chorus_api.run_config import ServiceConfig
from chorus_api.training_run import TrainingRun
from chorus_kube.resources import CONFIG_MAPS
from chorus_kube.work_queue import Key
from chorus_operator.decisions.decision import Deliver
from chorus_operator.decisions.dispatch import Outgoing, host_of
from chorus_operator.decisions.run.state import AcceptedView
from chorus_operator.decisions.service_address import target_url
from chorus_operator.manifests.exchange import exchange_host
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.services import outbound as outbound
from chorus_operator.services.client import OutboundMessage
from chorus_operator.services.dispatcher import CannotWrite
from chorus_protocol.messages import MessageType


def token_of(context: ReconcileContext, run: TrainingRun, config: ServiceConfig, *, attempt: int) -> str:
    """Make the token of a run's attempt."""
    created = datetime.fromisoformat(run.metadata.creation_timestamp)
    return outbound.run_token(context.tokens, config, attempt=attempt, created=created)


def deliver(context: ReconcileContext, view: AcceptedView, action: Deliver) -> None:
    """Have TRAINING_DATA of an attempt sent once; the run is looked at again when that has ended."""
    config, report, run = view.accepted.config, view.run.status.report, view.run.metadata
    assert isinstance(config, ServiceConfig)
    assert report is not None
    assert report.exchange is not None
    certificate = report.exchange.certificate

    async def write() -> OutboundMessage:
        return outbound.training_data(
            config,
            context.address,
            attempt=action.attempt,
            host=exchange_host(view.run, action.attempt),
            certificate=certificate,
            token=token_of(context, view.run, config, attempt=action.attempt),
            ca=await _certificates(context, run.namespace, config.ca_config_map, config.ca_key),
        )

    key = Key("TrainingRun", run.namespace, run.name, config.project)
    about, host = outbound.about_attempt(run.uid, action.attempt), host_of(config.url)
    message = Outgoing(namespace=run.namespace, about=about, kind=MessageType.TRAINING_DATA, host=host)
    context.dispatcher.send(message, write, then=lambda: context.wake(key))


async def inquire(context: ReconcileContext, plugin: Plugin) -> None:
    """Have ONLINE_INQUIRY sent once; the Plugin is looked at again when that has ended. Raises KubeError."""
    service, metadata = plugin.spec.service, plugin.metadata
    assert service is not None
    # The key that the inquiry's signature is checked with shall be there before it.
    await context.ensure_namespace(metadata.namespace)
    ref, url = service.ca_config_map, target_url(service, metadata.namespace)
    name, ca_key = (ref.name, ref.key) if ref else (None, None)

    async def write() -> OutboundMessage:
        return outbound.inquiry(
            plugin,
            context.address,
            tokens=context.tokens,
            now=context.clock(),
            url=url,
            ca=await _certificates(context, metadata.namespace, name, ca_key),
        )

    key = Key("Plugin", metadata.namespace, metadata.name, "")
    about, host = outbound.about_plugin(plugin), host_of(url)
    message = Outgoing(namespace=metadata.namespace, about=about, kind=MessageType.ONLINE_INQUIRY, host=host)
    context.dispatcher.send(message, write, then=lambda: context.wake(key))


async def _certificates(context: ReconcileContext, namespace: str, name: str | None, key: str | None) -> str | None:
    if name is None or key is None:
        return None
    stored = await read_named_by_user(context.kube, CONFIG_MAPS, namespace=namespace, name=name)
    found = stored.get("data", {}).get(key) if stored is not None else None
    if not isinstance(found, str):
        raise CannotWrite(f"spec.service.caConfigMap: there is no key {key!r} in a ConfigMap {name!r}; create it")
    return found
