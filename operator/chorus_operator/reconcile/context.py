"""What every reconcile is handed: the client, the images, the clock, and the ways to wake others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chorus_api.resources import Resources
from chorus_kube.client import Kube
from chorus_kube.work_queue import Key
from chorus_net.addresses import UNKNOWN, ApiServer
from chorus_operator.decisions.run.plugin_type import PluginTypes
from chorus_operator.decisions.service_address import url_problem
from chorus_operator.plugin_types.registry import PLUGIN_TYPES
from chorus_operator.reconcile.observer import Nobody, Observer
from chorus_operator.reconcile.pace import Pace
from chorus_operator.reconcile.stores import Stores
from chorus_operator.services.dispatcher import WebhookDispatcher
from chorus_operator.services.outbound import ReturnAddress
from chorus_operator.services.tokens import ServiceTokens


class Wake(Protocol):
    """Has a key reconciled."""

    def __call__(self, key: Key, after: float = 0.0) -> None:
        """Have it reconciled in so many seconds."""


async def unknown() -> ApiServer:
    """Know of no address of the API server."""
    return UNKNOWN


@dataclass(frozen=True)
class ReconcileContext:
    """The world of a reconcile. `since`: when this process began to receive messages."""

    kube: Kube
    """Reads live, and writes."""
    operator_image: str
    trainer_image: str
    messages_url: str
    clock: Callable[[], datetime]
    since: datetime
    ensure_namespace: Callable[[str], Awaitable[None]]
    """Make sure that pods of a namespace find what they need (`namespaces.RunNamespaces`)."""
    wake: Wake
    stores: Stores
    """What is known of what is watched; what `kube` answers is told to it."""
    pace: Pace
    """How often a Project's status is written."""
    dispatcher: WebhookDispatcher
    """Carries messages to services."""
    tokens: ServiceTokens
    address: ReturnAddress
    """Where services answer."""
    job_resources: Resources = field(default_factory=Resources)
    """What CPU Jobs have where their Project does not say, in place of the built-in values."""
    judge_url: Callable[[str], str | None] = url_problem
    """Says what is wrong with a service's URL."""
    api_server: Callable[[], Awaitable[ApiServer]] = unknown
    """Says where the API server is, so that pods that fetch from where users say do not go there."""
    observer: Observer = field(default_factory=Nobody)
    plugin_types: PluginTypes = field(default_factory=lambda: PLUGIN_TYPES)
