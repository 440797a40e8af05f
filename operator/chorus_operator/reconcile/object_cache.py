"""What reconciles need not ask the API server for each time: what watches have told, and what hardly ever changes.

A list costs the API server a look at every object of the namespace, so that runs would cost more the more there are.
All of this may be forgotten at any time. Whether a Job is there is never answered from memory: a gap would train twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chorus_api import contract
from chorus_kube.cache import Cache
from chorus_kube.client import Kube, Manifest
from chorus_kube.resources import PLUGINS, PODS, TRAINING_RUNS
from chorus_operator.reconcile.kept import kept
from chorus_operator.reconcile.text_cache import Place, TextCache

SIZE = 4096
MAX_PLUGIN_BYTES = 64 * 1024
"""Of a Plugin that is remembered. A CRD that takes texts of 4,096 characters by the dozen lets one be as large as the
API server takes an object (1.5 MiB): such a Plugin is read live each time. A run has at most 200 KiB by its CRD."""
PLUGINS_BYTES = 64 * 1024 * 1024
"""Of all Plugins that are remembered. Others are read live: those that were asked for longest ago."""
NAMESPACE_PLUGINS_BYTES = 8 * 1024 * 1024
SECONDS = 60.0

T = TypeVar("T")


@dataclass
class _Runs:
    """The runs of a Project: those of a list, and what was told since."""

    until: float
    stored: dict[str, tuple[int, str, str]] = field(default_factory=dict)  # by name: version, uid, JSON
    gone: set[str] = field(default_factory=set)  # uids: a list that was under way may still name them

    def take(self, run: Manifest, *, deleted: bool) -> None:
        """Take in a run unless a newer state of it is known.

        Resource versions are decimal numbers that rise (Kubernetes' own rule for the comparison, KEP-5504).
        """
        metadata = run["metadata"]
        name, uid, version = metadata["name"], metadata["uid"], int(metadata["resourceVersion"])
        known = self.stored.get(name)
        if deleted:
            self.gone.add(uid)
            if known is not None and known[1] == uid:
                del self.stored[name]
        elif uid not in self.gone and (known is None or known[0] < version):
            self.stored[name] = (version, uid, json.dumps(kept(run)))


class ObjectCache:
    """Belongs to one event loop."""

    def __init__(self, kube: Kube, *, seconds: Callable[[], float] = time.monotonic):
        """`seconds`: a clock that only rises."""
        self._kube = kube
        self._seconds = seconds
        self._plugins = TextCache(most_bytes=PLUGINS_BYTES, most_bytes_of_namespace=NAMESPACE_PLUGINS_BYTES)  # JSON
        self._runs: dict[Place, _Runs] = {}  # by Project
        self._pods: dict[Place, set[str]] = {}  # names, by Job
        self._constants: Cache[tuple[str, ...], object] = Cache(size=SIZE, clock=seconds)

    def seen(self, kind: str, stored: Manifest, *, deleted: bool = False) -> None:
        """Take in what a watch tells, or what was written."""
        namespace, name = stored["metadata"]["namespace"], stored["metadata"]["name"]
        match kind:
            case "Plugin":
                self._plugins.discard((namespace, name))
                if not deleted and len(text := json.dumps(kept(stored))) <= MAX_PLUGIN_BYTES:
                    self._plugins.put((namespace, name), text)
            case "TrainingRun":
                project = stored.get("spec", {}).get("projectRef", {}).get("name", "")
                runs = self._runs.get((namespace, project))
                if runs is not None:
                    runs.take(stored, deleted=deleted)
            case "Pod":
                job = stored["metadata"].get("labels", {}).get(contract.JOB_NAME_LABEL, "")
                self._pod_seen((namespace, job), name, deleted=deleted)

    def _pod_seen(self, job: Place, name: str, *, deleted: bool) -> None:
        names = self._pods.setdefault(job, set())
        names.discard(name)
        if not deleted:
            names.add(name)
        if not names:
            del self._pods[job]

    def plugin_gone(self, namespace: str, name: str) -> None:
        """Take in that a live look has found no such Plugin: a watch can miss a deletion."""
        self._plugins.discard((namespace, name))

    def forget_runs(self, namespace: str, project: str) -> None:
        """Have the runs of a Project listed at the next look."""
        self._runs.pop((namespace, project), None)

    async def plugin(self, namespace: str, name: str) -> Manifest | None:
        """Give a Plugin as the watch told it last; read live when it has told of none, or of one that is very large."""
        known = self._plugins.get((namespace, name))
        if known is None:
            return await self._kube.get(PLUGINS, namespace=namespace, name=name)
        plugin: Manifest = json.loads(known)
        return plugin

    async def runs(self, namespace: str, project: str) -> list[Manifest]:
        """Give the runs of a Project, by name: listed at most once a minute, and kept by what is told and written."""
        runs = self._runs.get((namespace, project))
        if runs is None or runs.until <= self._seconds():
            runs = self._runs[namespace, project] = _Runs(self._seconds() + SECONDS)
            try:
                fields = {"spec.projectRef.name": project}
                for run in await self._kube.list(TRAINING_RUNS, namespace=namespace, fields=fields):
                    runs.take(run, deleted=False)
            except BaseException:
                self.forget_runs(namespace, project)
                raise
        return [json.loads(text) for _, (_, _, text) in sorted(runs.stored.items())]

    async def pods(self, namespace: str, job: str) -> list[Manifest]:
        """Read the pods of a Job live: those that were told by name, or else by a list."""
        pods = []
        for name in sorted(self._pods.get((namespace, job), ())):
            pod = await self._kube.get(PODS, namespace=namespace, name=name)
            if pod is None:
                self._pod_seen((namespace, job), name, deleted=True)
            else:
                pods.append(pod)
        return pods or await self._kube.list(PODS, namespace=namespace, labels={contract.JOB_NAME_LABEL: job})

    async def constant(self, read: Callable[[], Awaitable[T | None]], *key: str) -> T | None:
        """Give what `read` gave for this key in the last minute, else read it; that it is not there is never kept."""
        known = self._constants.get(key)
        if known is None:
            known = await read()
            if known is not None:
                self._constants.put(key, known, seconds=SECONDS)
        return known  # type: ignore[return-value]  # under one key there is one type

    def keep(self, value: object, *key: str) -> None:
        """Have `constant` give this value for a minute: it was just written."""
        self._constants.put(key, value, seconds=SECONDS)

    def is_due(self, *key: str, every: float) -> bool:
        """Tell whether it was not due in the last `every` seconds."""
        due = self._constants.get(key) is None
        if due:
            self._constants.put(key, True, seconds=every)
        return due
