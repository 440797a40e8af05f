"""What pods of runs need in their namespace before the first of them: an identity and the CA bundle."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists
from chorus_operator.ca import CaBundle
from chorus_operator.manifests.job import service_account
from chorus_operator.services.keys import WebhookKeys
from chorus_protocol.webhook_signature import public_key

ENSURED_SECONDS = 60.0


class RunNamespaces:
    """Makes namespaces fit for pods of runs. Belongs to one event loop."""

    def __init__(self, kube: Kube, *, bundle: CaBundle, keys: WebhookKeys):
        self._kube = kube
        self._bundle = bundle
        self._keys = keys
        self._ensured: dict[str, float] = {}

    async def ensure(self, namespace: str) -> None:
        """Make what is missing; looked at again after a minute at the earliest. Raises KubeError."""
        now = asyncio.get_running_loop().time()
        if self._ensured.get(namespace, float("-inf")) > now:
            return
        with suppress(AlreadyExists):
            await self._kube.create(service_account(namespace))
        # Read now: what is signed from here on fits the key that is published, also in a namespace that was made anew.
        key = await self._keys.read(namespace)
        await self._bundle.ensure(namespace, webhook_key=public_key(key))
        self._ensured[namespace] = now + ENSURED_SECONDS
