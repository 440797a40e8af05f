"""What was seen of a namespace: every version of its objects, in order, by watches that never miss one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Self

import aiohttp

from harness.client import Api, Manifest

RETRY_SECONDS = 0.2
KINDS = ("Project", "TrainingRun", "Job", "Pod")
Predicate = Callable[[Manifest], bool]


class WatchingApi(Api):
    """A client that can also watch."""

    async def snapshot(self, kind: str, *, namespace: str) -> tuple[list[Manifest], str]:
        """Read all objects of a kind, and the resource version to watch from."""
        answer = await self.request("GET", (await self._named(kind)).path(namespace=namespace))
        # Items of a list of a built-in kind do not say what they are.
        items = [{**item, "kind": kind} for item in answer["items"]]
        return items, answer["metadata"]["resourceVersion"]

    async def watch(self, kind: str, *, namespace: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield what changes after a resource version, until the API server ends the watch."""
        path = (await self._named(kind)).path(namespace=namespace)
        query = {"watch": "true", "resourceVersion": version}
        endless = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._session.get(path, params=query, timeout=endless) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]


class Record:
    """Follows a namespace while it is open, so that a short-lived phase or a second Job cannot go by unseen."""

    def __init__(self, api: WatchingApi, namespace: str, *, kinds: Iterable[str] = KINDS) -> None:
        self._api = api
        self._namespace = namespace
        self._kinds = tuple(kinds)
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._now: dict[tuple[str, str], Manifest] = {}
        self._versions: list[Manifest] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._follow(kind)) for kind in self._kinds]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def find(self, kind: str, name: str) -> Manifest | None:
        """The object as it is now; None when it is not there."""
        return self._now.get((kind, name))

    def all(self, kind: str, *, labels: dict[str, str] | None = None) -> list[Manifest]:
        """The objects of a kind as they are now, by name."""
        found = [seen for (a_kind, _), seen in sorted(self._now.items()) if a_kind == kind]
        return [seen for seen in found if _labelled(seen, labels or {})]

    def versions(self, kind: str, *, name: str | None = None) -> list[Manifest]:
        """Every version that was seen, also of objects that are gone."""
        return [seen for seen in self._versions if seen["kind"] == kind and name in (None, seen["metadata"]["name"])]

    def phases(self, kind: str, name: str) -> list[str]:
        """The phases that the object went through, each change once."""
        phases: list[str] = []
        for seen in self.versions(kind, name=name):
            phase = seen.get("status", {}).get("phase")
            if phase and phases[-1:] != [phase]:
                phases.append(phase)
        return phases

    def uids(self, kind: str) -> dict[str, set[str]]:
        """The uids that each name of a kind ever had: more than one is an object that was made again."""
        uids: dict[str, set[str]] = {}
        for seen in self.versions(kind):
            uids.setdefault(seen["metadata"]["name"], set()).add(seen["metadata"]["uid"])
        return uids

    async def wait(self, check: Callable[[], Manifest | None], *, seconds: float) -> Manifest:
        """Wait until `check`, asked at every change, gives an object. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            while (found := check()) is None:
                await self._changed.wait()
                self._raise_if_broken()
        return found

    def _raise_if_broken(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _follow(self, kind: str) -> None:
        while True:
            try:
                items, version = await self._api.snapshot(kind, namespace=self._namespace)
                gone = {key for key in self._now if key[0] == kind}
                for item in items:
                    gone.discard((kind, item["metadata"]["name"]))
                    await self._take("MODIFIED", item)
                for key in gone:
                    await self._take("DELETED", self._now[key])
                async for change, seen in self._api.watch(kind, namespace=self._namespace, version=version):
                    if change == "ERROR":
                        break  # the version is too old: read all again
                    await self._take(change, seen)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(RETRY_SECONDS)

    async def _take(self, change: str, seen: Manifest) -> None:
        key = (seen["kind"], seen["metadata"]["name"])
        async with self._changed:
            if change == "DELETED":
                self._now.pop(key, None)
            else:
                self._now[key] = seen
                self._versions.append(seen)
            self._changed.notify_all()


def _labelled(seen: Manifest, labels: dict[str, str]) -> bool:
    return labels.items() <= seen["metadata"].get("labels", {}).items()
