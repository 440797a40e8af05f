"""Keeps a store of one kind up to date by a watch of its own, which begins with a streamed list.

The list needs no `list` verb and costs the API server a look at its own cache. A watch that ends goes on from the last
version; one whose version the API server no longer has (410) begins anew, and the store is replaced whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import structlog

from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import Gone, KubeError
from chorus_kube.resources import Resource
from chorus_kube.store import Store

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 10.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

log = structlog.get_logger()

OnChange = Callable[[Manifest, bool], None]
"""Is given each state that differs in what is kept of it, and whether the object is gone."""


class Informer:
    """One watch. Belongs to the store's event loop."""

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        store: Store,
        *,
        on_change: OnChange,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        jitter: random.Random | None = None,
    ):
        """`namespace`: all when None; `labels`: of the objects that are watched."""
        self._kube = kube
        self._resource = resource
        self._store = store
        self._on_change = on_change
        self._namespace = namespace
        self._labels = labels
        self._jitter = jitter or random.Random()
        self._version: str | None = None
        self._listed: set[str] = set()  # uids, while a list is under way
        self.synced = asyncio.Event()
        """Set once a first list is complete."""

    async def run(self) -> None:
        """Watch until cancelled; what the API server refuses is tried again."""
        backoff = FIRST_BACKOFF
        while True:
            try:
                goes_on = False
                async for complete in self._stream():
                    if complete:
                        backoff, goes_on = FIRST_BACKOFF, True
                if goes_on:
                    continue
                # Whoever closes every stream at once would be asked without end.
            except Gone:
                log.info("watch begins anew", kind=self._resource.kind, namespace=self._namespace or "all")
                self._version = None
            except KubeError as error:
                log.warning("watch failed", kind=self._resource.kind, error=str(error), again_in_seconds=backoff)
            await asyncio.sleep(backoff * self._jitter.uniform(0.5, 1.0))
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def read_anew(self) -> None:
        """Replace the store by what there is now, without watching on. Raises KubeError."""
        self._version = None
        async for complete in self._stream():
            if complete:
                return
        raise EndedEarly(f"the list of {self._resource.plural} ended before it was complete", reason="NoAnswer")

    async def _stream(self) -> AsyncGenerator[bool, None]:
        """Take in one stream; yields after each event whether a list is complete and the watch goes on from it."""
        self._listed = set()
        events = self._kube.watch(
            self._resource, namespace=self._namespace, labels=self._labels, resource_version=self._version
        )
        async with aclosing(events):
            async for event in events:
                self._take(event["type"], event["object"])
                yield self._version is not None

    def _take(self, kind: str, stored: Manifest) -> None:
        metadata = stored["metadata"]
        if kind == "BOOKMARK":
            self._bookmark(metadata)
            return
        listing = self._version is None
        if kind == "DELETED":
            self._listed.discard(metadata["uid"])
            if self._store.remove(metadata["namespace"], metadata["name"], metadata["uid"]):
                self._on_change(stored, True)
        else:
            if listing:
                self._listed.add(metadata["uid"])
            place = (metadata["namespace"], metadata["name"])
            before = self._store.content(*place)
            if self._store.take(stored) and self._store.content(*place) != before:
                self._on_change(stored, False)
        if not listing:
            self._version = metadata["resourceVersion"]

    def _bookmark(self, metadata: Mapping[str, Any]) -> None:
        version = metadata["resourceVersion"]
        ends_list = (metadata.get("annotations") or {}).get(INITIAL_EVENTS_END) == "true"
        if self._version is None and not ends_list:
            return
        if self._version is None:
            for removed in self._store.replace(self._listed, version=int(version), namespace=self._namespace):
                self._on_change(removed, True)
            self._listed = set()
            self.synced.set()
        self._version = version


class EndedEarly(KubeError):
    """A stream ended before its list was complete."""
