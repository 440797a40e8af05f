"""What the receiver knows without asking the API server: what the leader's stores hold, read from its own thread.

What is known may be behind. So it serves in two ways alone: a write over its resource version, which is refused when
there is a newer one; and the labels of a pod whose uid a token has named. Whatever would be refused, or ignored, by
what is known is read live before.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

from chorus_kube.client import Manifest
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS, Resource
from chorus_operator.reconcile.stores import Stores

_STORED = frozenset((PROJECTS, PLUGINS, TRAINING_RUNS, JOBS, PODS))


class KnownObjects(Protocol):
    """Objects as they were a moment ago."""

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Give an object, which must not be changed; None when it is not known, or its state is in doubt."""


class NothingKnown:
    """What a receiver knows where nobody leads."""

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Give nothing."""
        return None


class StoresBeside:
    """The stores of the main loop beside it: read from the receiver's thread, and told there what it is answered.

    What the receiver writes is known to it at once, although the main loop may be busy and take it in later; what the
    reconciles write is in the stores. So neither runs into the other's writes, or into its own.
    """

    def __init__(self, stores: Stores, *, loop: asyncio.AbstractEventLoop):
        """`loop`: the one that the stores belong to."""
        self._stores = stores
        self._loop = loop
        self._lock = threading.Lock()
        self._crossing: dict[tuple[Resource, str, str], Manifest] = {}
        self.open = False
        """Whether the stores are kept up to date. While they are not, nothing is known, and nothing is told: in the
        stores of a process that does not lead, what is deleted would stay for ever."""

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Give the newest state: the one in the stores, or an answer that has not arrived there yet."""
        if not self.open:
            return None
        with self._lock:
            answered = self._crossing.get((resource, namespace, name))
        stored = self._stores.of(resource).peek(namespace, name)
        if stored is None or answered is None:
            return stored or answered
        return answered if _version(answered) > _version(stored) else stored

    # As Answers, called on the receiver's loop

    def answered(self, resource: Resource, stored: Manifest, *, own: bool) -> None:
        """Take a state across to the stores. To them it is a change by others: the reconciles are to look at it."""
        if not self.open or resource not in _STORED:
            return
        place = (resource, stored["metadata"]["namespace"], stored["metadata"]["name"])
        with self._lock:
            before = self._crossing.get(place)
            if before is None or _version(before) < _version(stored):
                self._crossing[place] = stored
        try:
            self._loop.call_soon_threadsafe(self._arrive, resource, stored)
        except RuntimeError:
            self.open = False  # the loop has ended, and the process does

    def found_gone(self, resource: Resource, namespace: str, name: str, uid: str | None) -> None:
        """Tell nothing: by the time that it arrives the name may be another object's. The watch tells it in order."""

    def doubt(self, resource: Resource, namespace: str, name: str) -> None:
        """Tell nothing: the receiver reads live what it was refused, and that answer crosses."""

    def _arrive(self, resource: Resource, stored: Manifest) -> None:
        if self.open:
            self._stores.answered(resource, stored, own=False)
        place = (resource, stored["metadata"]["namespace"], stored["metadata"]["name"])
        with self._lock:
            if self._crossing.get(place) is stored:
                del self._crossing[place]


def _version(stored: Manifest) -> int:
    return int(stored["metadata"]["resourceVersion"])
