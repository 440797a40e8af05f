"""What reconciles read from what is watched, and when they must not.

Projects, Plugins, runs, and the Jobs and pods that Chorus made are kept as the watches, reads and own writes tell of
them. Order is guaranteed for one object, and not across kinds: a Job may be seen to end before its pod.

The rule of absence: that an object is there may be concluded from a store, and that it is not only from a live read.
Whoever would make a Job because none is known has either written the run with its resource version as a precondition
just before, or reads the run live (`confirm`): what was begun is written there. The name of a Job is the last lock. An
object that a watch or a live read has found gone is gone.

Beside these only the frozen configurations of live runs are kept. ConfigMaps are not watched, and Secrets never read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from chorus_api import contract
from chorus_kube.cache import Cache
from chorus_kube.client import Kube, Manifest
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS, Resource
from chorus_kube.store import Store
from chorus_kube.text_cache import TextCache
from chorus_operator.reconcile.kept import kept, kept_job, kept_pod, kept_project

SIZE = 4096
FROZEN = 8192
"""Frozen configurations that are kept."""
SECONDS = 60.0
MAX_PLUGIN_BYTES = 64 * 1024
"""Of a Plugin that is kept. A CRD that takes texts of 4,096 characters by the dozen lets one be as large as the API
server takes an object (1.5 MiB): such a Plugin is read live each time."""
MAX_PROJECT_BYTES = 256 * 1024
"""Of a Project that is kept: its data may be in its spec."""
MAX_RUN_BYTES = 256 * 1024
"""Of a run that is kept. By its CRD none is larger."""
MAX_CHILD_BYTES = 64 * 1024
MIB = 1024 * 1024
RUNS_BYTES, NAMESPACE_RUNS_BYTES = 192 * MIB, 64 * MIB
OTHERS_BYTES, NAMESPACE_OTHERS_BYTES = 64 * MIB, 8 * MIB
"""Of all objects of a kind that are kept, and of those of one namespace. Others are read live: those that were asked
for longest ago."""
FOREVER = math.inf
MODELS = 2048
"""Objects of a kind that are kept as models."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Parse = Callable[[Manifest], Awaitable[M | None]]
OnChange = Callable[[Resource, bool, Manifest, bool], None]
"""Is told of what is new: its kind, whether the object is gone, the object, and whether the operator wrote it."""


def nobody(resource: Resource, deleted: bool, stored: Manifest, own: bool) -> None:
    """Be told in vain."""


def _project_of(run: Manifest) -> str | None:
    name = run.get("spec", {}).get("projectRef", {}).get("name")
    return str(name) if name else None


def _label(name: str) -> Callable[[Manifest], str | None]:
    return lambda stored: (stored["metadata"].get("labels") or {}).get(name)


class Stores:
    """Belongs to one event loop."""

    def __init__(
        self, kube: Kube, *, seconds: Callable[[], float] = time.monotonic, on_change: OnChange = nobody
    ) -> None:
        """`kube`: reads what is not known; `seconds`: a clock that only rises."""
        self._kube = kube
        self._on_change = on_change
        others = {"most_bytes": OTHERS_BYTES, "most_bytes_of_namespace": NAMESPACE_OTHERS_BYTES}
        self._stores: Mapping[Resource, Store] = {
            PROJECTS: Store(keep=kept_project, max_object_bytes=MAX_PROJECT_BYTES, texts=TextCache(**others)),
            PLUGINS: Store(keep=kept, max_object_bytes=MAX_PLUGIN_BYTES, texts=TextCache(**others)),
            TRAINING_RUNS: Store(
                keep=kept,
                indexes={"project": _project_of},
                max_object_bytes=MAX_RUN_BYTES,
                texts=TextCache(most_bytes=RUNS_BYTES, most_bytes_of_namespace=NAMESPACE_RUNS_BYTES),
            ),
            JOBS: Store(keep=kept_job, indexes={"run": _label(contract.RUN_LABEL)}, max_object_bytes=MAX_CHILD_BYTES),
            PODS: Store(
                keep=kept_pod,
                indexes={"job": _label(contract.JOB_NAME_LABEL)},
                max_object_bytes=MAX_CHILD_BYTES,
            ),
        }
        self._models: Mapping[Resource, Cache[tuple[str, str], tuple[tuple[str, int], BaseModel]]] = {
            resource: Cache(size=MODELS, clock=seconds) for resource in (PROJECTS, PLUGINS, TRAINING_RUNS)
        }
        self._missed: dict[tuple[Resource, str, str], str] = {}  # uids that were not found once
        self._constants: Cache[tuple[str, ...], object] = Cache(size=SIZE, clock=seconds)
        self._frozen: Cache[tuple[str, str], object] = Cache(size=FROZEN, clock=seconds)

    def of(self, resource: Resource) -> Store:
        """Give the store of a kind; KeyError for one that is not watched."""
        return self._stores[resource]

    # What they are told

    def seen(self, resource: Resource, stored: Manifest, *, deleted: bool = False) -> bool:
        """Take in what a watch tells; False when it is not new."""
        metadata, store = stored["metadata"], self._stores[resource]
        if deleted:
            self._missed.pop((resource, metadata["namespace"], metadata["name"]), None)
            new = store.remove(metadata["namespace"], metadata["name"], metadata["uid"])
        else:
            new = store.take(stored)
        if new:
            self.changed(resource, stored, deleted=deleted)
        return new

    def changed(self, resource: Resource, stored: Manifest, *, deleted: bool) -> None:
        """Tell whoever is told that the store of a kind has changed by what others did."""
        self._on_change(resource, deleted, stored, False)

    def answered(self, resource: Resource, stored: Manifest, *, own: bool) -> None:
        """Take in what the API server answered to a read, or to a write of the operator's own."""
        store = self._stores.get(resource)
        if store is None or not _is_watched(resource, stored):
            return
        metadata = stored["metadata"]
        if store.take(stored):
            self._on_change(resource, False, stored, own)
        elif store.version(metadata["namespace"], metadata["name"]) == (
            metadata["uid"],
            int(metadata["resourceVersion"]),
        ):
            store.settle(metadata["namespace"], metadata["name"])

    def found_gone(self, resource: Resource, namespace: str, name: str, uid: str | None) -> None:
        """Take in that the API server has no such object any more; `uid`: of the one that is gone, if it is known.

        Without it, an object that is known is gone only when a second answer says so, to a request that was sent when
        it was known: the first has it read live.
        """
        store = self._stores.get(resource)
        if store is None:
            return
        known = store.version(namespace, name)
        if uid is None and known is not None and self._missed.get((resource, namespace, name)) != known[0]:
            # The watch may have told of a new object of the name since the request was sent.
            self._missed[resource, namespace, name] = known[0]
            store.doubt(namespace, name)
            return
        self._missed.pop((resource, namespace, name), None)
        store.settle(namespace, name)
        gone = uid or (known[0] if known is not None else None)
        if gone is None:
            return
        last = store.get(namespace, name)
        if store.remove(namespace, name, gone) and last is not None:
            self._on_change(resource, True, last, False)

    def doubt(self, resource: Resource, namespace: str, name: str) -> None:
        """Have an object read live next time: a precondition on what is known of it has failed."""
        if resource in self._stores:
            self._stores[resource].doubt(namespace, name)

    # What reconciles ask

    def is_known(self, resource: Resource, namespace: str, name: str) -> bool:
        """Tell whether an object is known to be there, or may be there by what a write has shown."""
        store = self._stores[resource]
        return store.version(namespace, name) is not None or store.is_in_doubt(namespace, name)

    async def get(self, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
        """Give an object as it is known; None proves nothing.

        It is read live when its kind is not watched, it was too large to be kept, or a write has shown that there is a
        newer state.
        """
        store = self._stores.get(resource)
        if store is not None:
            if not self.is_known(resource, namespace, name):
                return None
            if not store.is_in_doubt(namespace, name) and (found := store.get(namespace, name)) is not None:
                return found
        return await self._kube.get(resource, namespace=namespace, name=name)

    async def find(self, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
        """Give an object as it is known, or else read it live: None says that it is not there."""
        found = await self.get(resource, namespace=namespace, name=name)
        return found if found is not None else await self._kube.get(resource, namespace=namespace, name=name)

    async def all_of(self, resource: Resource, index: str, namespace: str, value: str) -> list[Manifest]:
        """Give the objects with this value under an index, by name, as they are known."""
        names = self._stores[resource].having(index, namespace, value)
        found = [await self.get(resource, namespace=namespace, name=name) for name in names]
        return [stored for stored in found if stored is not None]

    async def pods(self, namespace: str, job: str) -> list[Manifest]:
        """Give the pods of a Job, by name, as they are known."""
        return await self.all_of(PODS, "job", namespace, job)

    async def pods_now(self, namespace: str, job: str) -> list[Manifest]:
        """Read the pods of a Job live."""
        return await self._kube.list(PODS, namespace=namespace, labels={contract.JOB_NAME_LABEL: job})

    async def models(
        self, resource: Resource, index: str, namespace: str, value: str, parse: Parse[M]
    ) -> list[M | None]:
        """Give the objects with this value under an index as models, which are made once for each state of them.

        `parse` may find that it cannot read one (None).
        """
        names = self._stores[resource].having(index, namespace, value)
        return [await self.model(resource, namespace=namespace, name=name, parse=parse) for name in names]

    async def model(self, resource: Resource, *, namespace: str, name: str, parse: Parse[M]) -> M | None:
        """Give an object as a model, as `get`."""
        store, models = self._stores[resource], self._models[resource]
        known = models.get((namespace, name))
        if known is not None and known[0] == store.version(namespace, name) and not store.is_in_doubt(namespace, name):
            return known[1]  # type: ignore[return-value]  # of one kind there is one model
        stored = await self.get(resource, namespace=namespace, name=name)
        made = await parse(stored) if stored is not None else None
        if stored is not None and made is not None:
            state = (stored["metadata"]["uid"], int(stored["metadata"]["resourceVersion"]))
            models.put((namespace, name), (state, made), seconds=FOREVER)
        return made

    # Beside what is watched

    async def constant(self, read: Callable[[], Awaitable[T | None]], *key: str) -> T | None:
        """Give what `read` gave for this key in the last minute, else read it; that it is not there is never kept."""
        known = self._constants.get(key)
        if known is None:
            known = await read()
            if known is not None:
                self._constants.put(key, known, seconds=SECONDS)
        return known  # type: ignore[return-value]  # under one key there is one type

    async def frozen(self, read: Callable[[], Awaitable[T | None]], *, run_uid: str, digest: str) -> T | None:
        """Give the frozen configuration of a run with this digest, until the run has ended; as `constant`."""
        known = self._frozen.get((run_uid, digest))
        if known is None:
            known = await read()
            if known is not None:
                self.keep_frozen(known, run_uid=run_uid, digest=digest)
        return known  # type: ignore[return-value]  # there is one type

    def keep_frozen(self, frozen: object, *, run_uid: str, digest: str) -> None:
        """Have `frozen` give this: it was just written."""
        self._frozen.put((run_uid, digest), frozen, seconds=FOREVER)

    def forget_frozen(self, *, run_uid: str, digest: str) -> None:
        """Read the frozen configuration of a run again: the run has ended, or a pod is about to be made from it."""
        self._frozen.discard((run_uid, digest))

    def is_due(self, *key: str) -> bool:
        """Tell whether it was not done in the time that `done` gave."""
        return self._constants.get(key) is None

    def done(self, *key: str, every: float) -> None:
        """Note that it was done, and is due again in `every` seconds."""
        self._constants.put(key, True, seconds=every)


def _is_watched(resource: Resource, stored: Manifest) -> bool:
    """Tell whether a watch tells of an object: one that it never tells of would stay in its store for ever."""
    if resource not in (JOBS, PODS):
        return True
    return (stored["metadata"].get("labels") or {}).get(contract.MANAGED_BY_LABEL) == contract.MANAGED_BY
