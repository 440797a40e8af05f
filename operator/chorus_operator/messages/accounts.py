"""What a service may say that is known by its service account: as much as a token would let it that the operator made.

Such a token names its run or Plugin. An account may be that of many, so the message's `subject` says which one is
meant. What it was accepted with, or the Plugin as it is, is read by that name in the pod's own namespace, and must name
the pod's account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chorus_api.ids import message_id
from chorus_api.plugin import Plugin
from chorus_api.training_run import TrainingRun
from chorus_kube.cache import Cache
from chorus_kube.client import Kube
from chorus_kube.resources import CONFIG_MAPS, PLUGINS, TRAINING_RUNS
from chorus_operator.decisions.accepted import StoredConfig
from chorus_operator.decisions.run.frozen import RUN_FILE, type_of
from chorus_operator.decisions.run.plugin_type import PluginTypes
from chorus_operator.messages.pod_senders import AccountPod
from chorus_operator.plugin_types.registry import PLUGIN_TYPES
from chorus_operator.reconcile.children import Owner, read_if_owned
from chorus_operator.reconcile.frozen import stored_config
from chorus_operator.services.subjects import read_plugin, read_run
from chorus_operator.services.tokens import Grant, PluginGrant, RunGrant
from chorus_protocol.messages import Addressed, Envelope, ExchangeReady, OnlineReport
from chorus_protocol.parse import Message
from chorus_protocol.refusals import Cause, Refused

FROZEN_SECONDS = 600.0
CACHE_SIZE = 4096


@dataclass(frozen=True)
class _Accepted:
    """What counts of a run's configuration. The rest may be as large as a ConfigMap, and is not kept."""

    namespace: str
    run_name: str
    run_uid: str
    project_id: int
    plugin_id: int
    service_account: str | None


class ServiceAccounts:
    """Finds what a pod's service account grants. What a run was accepted with is remembered: it never changes."""

    def __init__(self, kube: Kube, *, seconds: Callable[[], float], types: PluginTypes = PLUGIN_TYPES):
        """`seconds`: seconds that only rise."""
        self._kube = kube
        self._types = types
        self._frozen: Cache[tuple[str, str, str], _Accepted] = Cache(size=CACHE_SIZE, clock=seconds)

    def remembers(self, namespace: str, message: Message) -> bool:
        """Tell whether `grant` can answer a pod of the namespace without a read."""
        place = (namespace, message.envelope.subject or "", message.envelope.subject_uid)
        return not isinstance(message.payload, OnlineReport) and self._frozen.get(place) is not None

    async def grant(self, pod: AccountPod, message: Message) -> Grant:
        """Find what lets the pod send the message; Refused (wrongPod, wrongRun, wrongAttempt, wrongIds).

        Ids, uids and what the run's status says are checked by whoever takes the message, as with a token.
        """
        envelope, payload = message.envelope, message.payload
        if envelope.subject is None:
            raise Refused(
                Cause.WRONG_POD,
                f"pod {pod.name} is not one of Chorus's pods that report; a service's pod says in `subject` which run "
                "or Plugin it speaks for",
            )
        if isinstance(payload, OnlineReport):
            return await self._of_plugin(pod, envelope.subject)
        if isinstance(payload, Addressed) and not isinstance(payload, ExchangeReady):
            return await self._of_run(pod, envelope.subject, envelope)
        raise Refused(Cause.WRONG_POD, f"{envelope.type} is not a message of a service, such as pod {pod.name}")

    async def _of_run(self, pod: AccountPod, subject: str, envelope: Envelope) -> RunGrant:
        config = await self._config(pod.namespace, subject, envelope.subject_uid)
        if config.service_account != pod.account:
            raise _not_named(pod, f"the Plugin that run {subject} was accepted with")
        if envelope.attempt == 0:
            raise Refused(Cause.WRONG_ATTEMPT, f"run {subject} has no attempt 0")
        return RunGrant(
            namespace=pod.namespace,
            name=config.run_name,
            uid=config.run_uid,
            attempt=envelope.attempt,
            project_id=config.project_id,
            plugin_id=config.plugin_id,
        )

    async def _config(self, namespace: str, subject: str, uid: str) -> _Accepted:
        """Read what a service's run was accepted with; Refused (wrongRun)."""
        known = self._frozen.get((namespace, subject, uid))
        if known is not None:
            return known
        name = read_run(subject)
        if name is None:
            raise Refused(Cause.WRONG_RUN, f"subject {subject[:100]!r} is not the name of a run")
        config = await self._frozen_config(namespace, name, uid)
        if config is None or (config.namespace, config.run_name, config.run_uid) != (namespace, name, uid):
            raise Refused(
                Cause.WRONG_RUN, f"no service was told of a run {name} with uid {uid} in namespace {namespace}"
            )
        self._frozen.put((namespace, subject, uid), config, seconds=FROZEN_SECONDS)
        return config

    async def _frozen_config(self, namespace: str, name: str, uid: str) -> _Accepted | None:
        """Read the configuration that the run's own status names: others may make ConfigMaps too."""
        stored = await self._kube.get(TRAINING_RUNS, namespace=namespace, name=name)
        try:
            run = TrainingRun.model_validate(stored) if stored is not None else None
        except ValidationError:
            return None
        if run is None or run.metadata.uid != uid or run.status.resolved is None:
            return None
        resolved = run.status.resolved
        stored = await read_if_owned(self._kube, CONFIG_MAPS, name=resolved.config_map, owner=Owner.of(run))
        config = stored_config(stored)
        if config is None or resolved.digest not in (None, config.digest):
            return None
        return self._accepted(config)

    def _account_of(self, stored: dict[str, Any]) -> str | None:
        try:
            plugin = Plugin.model_validate(stored)
        except ValidationError:
            return None
        return self._types[plugin.spec.type].account_of_plugin(plugin)

    def _accepted(self, stored: StoredConfig) -> _Accepted | None:
        """Read the frozen configuration of a run; None when its pods cannot speak by their account."""
        plugin_type = self._types.get(type_of(stored.content))
        if plugin_type is None or not plugin_type.speaks_by_account:
            return None
        try:
            config = plugin_type.config.model_validate_json(stored.content[RUN_FILE])
        except ValidationError:
            return None
        return _Accepted(
            namespace=config.namespace,
            run_name=config.run_name,
            run_uid=config.run_uid,
            project_id=config.project_id,
            plugin_id=config.plugin_id,
            service_account=plugin_type.account(config),
        )

    async def _of_plugin(self, pod: AccountPod, subject: str) -> PluginGrant:
        asked = read_plugin(subject)
        if asked is None:
            raise Refused(
                Cause.WRONG_IDS,
                f"subject {subject[:100]!r} is not a Plugin's name and generation, such as far/3",
            )
        name, generation = asked
        plugin = await self._kube.get(PLUGINS, namespace=pod.namespace, name=name)
        if plugin is None:
            raise Refused(Cause.WRONG_IDS, f"there is no Plugin {name} in namespace {pod.namespace}")
        if self._account_of(plugin) != pod.account:
            raise _not_named(pod, f"Plugin {name}")
        uid, present = plugin["metadata"]["uid"], plugin["metadata"].get("generation", 1)
        if generation != present:
            # Only the present generation was looked at: another one may name another account.
            raise Refused(Cause.WRONG_IDS, f"Plugin {name} was asked at generation {generation}, now {present}")
        return PluginGrant(namespace=pod.namespace, name=name, uid=uid, generation=present, plugin_id=message_id(uid))


def _not_named(pod: AccountPod, by: str) -> Refused:
    return Refused(
        Cause.WRONG_POD,
        f"pod {pod.name} has service account {pod.account}, which {by} does not name (spec.service.serviceAccountName)",
    )
