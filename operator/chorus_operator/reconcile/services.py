"""Tell services: read what a message needs, write it, and hand it to the courier."""

from __future__ import annotations

from datetime import datetime

from chorus_api.plugin import Plugin
from chorus_api.run_config import ServiceConfig
from chorus_operator.kube.resources import CONFIG_MAPS
from chorus_operator.manifests.exchange import exchange_host
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.environment import Environment
from chorus_operator.reconcile.queue import Key
from chorus_operator.rules.decision import Deliver
from chorus_operator.rules.draft import RunView
from chorus_operator.rules.service_address import target_url
from chorus_operator.services import letters


class _NoCertificates(Exception):
    """The ConfigMap that a service is known by is not there."""


def token_of(environment: Environment, view: RunView, *, attempt: int) -> str:
    """Make the token of a run's attempt."""
    assert isinstance(view.frozen, ServiceConfig)
    created = datetime.fromisoformat(view.run.metadata.creation_timestamp)
    return letters.run_token(environment.tokens, view.frozen, attempt=attempt, created=created)


async def deliver(environment: Environment, view: RunView, action: Deliver) -> None:
    """Send TRAINING_DATA of an attempt once; the run is looked at again when that has ended. Raises KubeError."""
    config, report, run = view.frozen, view.run.status.report, view.run.metadata
    assert isinstance(config, ServiceConfig)
    assert report is not None
    assert report.exchange is not None
    key = Key("TrainingRun", run.namespace, run.name, config.project)
    try:
        ca = await _certificates(environment, run.namespace, config.ca_config_map, config.ca_key)
    except _NoCertificates as error:
        environment.courier.fail(letters.about_attempt(run.uid, action.attempt), str(error))
        return
    letter = letters.training_data(
        config,
        environment.address,
        attempt=action.attempt,
        host=exchange_host(view.run, action.attempt),
        certificate=report.exchange.certificate,
        token=token_of(environment, view, attempt=action.attempt),
        ca=ca,
    )
    environment.courier.send(letter, then=lambda: environment.wake(key))


async def inquire(environment: Environment, plugin: Plugin) -> None:
    """Send ONLINE_INQUIRY once; the Plugin is looked at again when that has ended. Raises KubeError."""
    service, metadata = plugin.spec.service, plugin.metadata
    assert service is not None
    # The key that the inquiry's signature is checked with shall be there before it.
    await environment.ensure_namespace(metadata.namespace)
    ref = service.ca_config_map
    try:
        ca = await _certificates(environment, metadata.namespace, ref.name if ref else None, ref.key if ref else None)
    except _NoCertificates as error:
        environment.courier.fail(letters.about_plugin(plugin), str(error))
        return
    letter = letters.inquiry(
        plugin,
        environment.address,
        tokens=environment.tokens,
        now=environment.clock(),
        url=target_url(service, metadata.namespace),
        ca=ca,
    )
    key = Key("Plugin", metadata.namespace, metadata.name, "")
    environment.courier.send(letter, then=lambda: environment.wake(key))


async def _certificates(environment: Environment, namespace: str, name: str | None, key: str | None) -> str | None:
    if name is None or key is None:
        return None
    stored = await read_named_by_user(environment.kube, CONFIG_MAPS, namespace=namespace, name=name)
    found = stored.get("data", {}).get(key) if stored is not None else None
    if not isinstance(found, str):
        raise _NoCertificates(f"spec.service.caConfigMap: there is no key {key!r} in a ConfigMap {name!r}; create it")
    return found
