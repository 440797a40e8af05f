"""Feeding the stores: Jobs and pods by watches of the main loop, Projects, Plugins and runs by kopf's (`watch.py`).

kopf tells what its watches tell, and not when one of them has begun, or begun anew, and what was deleted before. That
it has is seen when an object is told of for the first time, or listed that was listed before; the kind is then read
anew as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from chorus_api.contract import MANAGED_BY, MANAGED_BY_LABEL
from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import KubeError
from chorus_kube.informer import Informer
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS, Resource
from chorus_operator.reconcile.stores import Stores

SYNC_SECONDS = 120.0
"""How long the first reading of all kinds may take."""
AGAIN_SECONDS = 2.0
UNHEARD_SECONDS = 10.0
"""After so long without a word, a watch has begun, and there was nothing to tell."""
BY_KOPF = (PROJECTS, PLUGINS, TRAINING_RUNS)
BY_WATCH = (JOBS, PODS)

log = structlog.get_logger()


class Informers:
    """Belongs to the loop of the stores."""

    def __init__(self, kube: Kube, stores: Stores, *, namespaces: Sequence[str]):
        """`namespaces`: all when empty."""
        self._stores = stores
        places: Sequence[str | None] = namespaces or (None,)
        self._informers = {
            resource: [self._informer(kube, resource, namespace) for namespace in places]
            for resource in (*BY_KOPF, *BY_WATCH)
        }
        self._listed: dict[Resource, set[str]] = {resource: set() for resource in BY_KOPF}
        self._stale: set[Resource] = set()
        self._unheard: set[Resource] = set(BY_KOPF)
        self._woken = asyncio.Event()

    def _informer(self, kube: Kube, resource: Resource, namespace: str | None) -> Informer:
        def on_change(stored: Manifest, deleted: bool) -> None:
            self._stores.changed(resource, stored, deleted=deleted)

        labels = {MANAGED_BY_LABEL: MANAGED_BY} if resource in BY_WATCH else None
        store = self._stores.of(resource)
        return Informer(kube, resource, store, on_change=on_change, namespace=namespace, labels=labels)

    async def run(self, synced: asyncio.Event) -> None:
        """Read every kind anew, set `synced`, and keep the stores up to date until cancelled.

        Raises TimeoutError when the first reading takes longer than SYNC_SECONDS.
        """
        async with asyncio.TaskGroup() as tasks:
            for resource in BY_WATCH:
                for informer in self._informers[resource]:
                    tasks.create_task(informer.run())
            async with asyncio.timeout(SYNC_SECONDS):
                for resource in BY_KOPF:
                    await self._read_anew(resource)
                for resource in BY_WATCH:
                    for informer in self._informers[resource]:
                        await informer.synced.wait()
            synced.set()
            asyncio.get_running_loop().call_later(UNHEARD_SECONDS, self._read_unheard)
            while True:
                await self._woken.wait()
                self._woken.clear()
                while self._stale:
                    await self._read_anew(self._stale.pop())

    def told(self, resource: Resource, kind: str | None, stored: Manifest) -> None:
        """Take in an event of kopf's; `kind`: None for an object of a list."""
        uid = stored["metadata"]["uid"]
        if resource in self._unheard:
            self._unheard.discard(resource)
            self._mark_stale(resource)
        if kind is None:
            listed = self._listed[resource]
            if uid in listed:
                log.info("watch has begun anew", kind=resource.kind)
                listed.clear()
                self._mark_stale(resource)
            listed.add(uid)
        self._stores.seen(resource, stored, deleted=kind == "DELETED")

    def _mark_stale(self, resource: Resource) -> None:
        self._stale.add(resource)
        self._woken.set()

    def _read_unheard(self) -> None:
        for resource in self._unheard:
            self._mark_stale(resource)
        self._unheard.clear()

    async def _read_anew(self, resource: Resource) -> None:
        for informer in self._informers[resource]:
            while True:
                try:
                    await informer.read_anew()
                    break
                except KubeError as error:
                    log.warning("a kind could not be read", kind=resource.kind, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
