"""What was seen of a namespace: every version of its objects, in order, by watches that never miss one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

import aiohttp

from harness.client import Api, ApiError, Manifest

RETRY_SECONDS = 0.2
KINDS = ("Project", "Plugin", "TrainingRun", "Job", "Pod")
Predicate = Callable[[Manifest], bool]


class Record:
    """Follows a namespace while it is open, so that a short-lived phase or a second Job cannot go by unseen."""

    def __init__(self, api: Api, namespace: str, *, kinds: Iterable[str] = KINDS) -> None:
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
                there = {item["metadata"]["name"] for item in await self._api.list(kind, namespace=self._namespace)}
                for key in [key for key in self._now if key[0] == kind and key[1] not in there]:
                    await self._take("DELETED", self._now[key])
                async for change, seen in self._api.watch(kind, namespace=self._namespace):
                    await self._take(change, seen)
            except (ApiError, aiohttp.ClientError, TimeoutError, ConnectionError):  # it begins anew
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
    there: dict[str, str] = seen["metadata"].get("labels", {})
    return labels.items() <= there.items()
