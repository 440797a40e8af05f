"""Reads that are spared, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chorus_api import contract
from chorus_kube.errors import Unavailable
from chorus_kube.resources import PLUGINS
from chorus_operator.reconcile.object_cache import SECONDS, ObjectCache
from fakes import FakeKube
from unit_manifests import plugin, run

NAMESPACE = "default"


def cache_of(kube: FakeKube, *, seconds: Callable[[], float] = lambda: 0.0) -> ObjectCache:
    return ObjectCache(kube, seconds=seconds)  # type: ignore[arg-type]


def reads(kube: FakeKube) -> int:
    return sum(call.verb == "get" and call.kind == PLUGINS.kind for call in kube.calls)


def stored_plugin(kube: FakeKube) -> dict[str, Any]:
    stored = kube.find(PLUGINS, "soft", NAMESPACE)
    assert stored is not None
    return stored


async def test_a_plugin_is_read_live_until_the_watch_tells_of_it() -> None:
    kube = FakeKube()
    cache = cache_of(kube)
    assert await cache.plugin(NAMESPACE, "soft") is None
    kube.put(plugin())
    assert await cache.plugin(NAMESPACE, "soft") == stored_plugin(kube)
    before = reads(kube)
    cache.seen("Plugin", stored_plugin(kube))
    assert await cache.plugin(NAMESPACE, "soft") == stored_plugin(kube)
    assert reads(kube) == before


async def test_a_plugin_that_is_deleted_or_found_gone_is_forgotten() -> None:
    for forget in ("told", "found"):
        kube = FakeKube()
        kube.put(plugin())
        cache = cache_of(kube)
        cache.seen("Plugin", stored_plugin(kube))
        if forget == "told":
            cache.seen("Plugin", stored_plugin(kube), deleted=True)
        else:
            cache.plugin_gone(NAMESPACE, "soft")
        kube.objects.clear()
        assert await cache.plugin(NAMESPACE, "soft") is None


async def test_a_constant_is_read_again_after_a_minute_and_what_is_not_there_every_time() -> None:
    now, answers = 0.0, iter([None, "first", "second"])
    cache = cache_of(FakeKube(), seconds=lambda: now)

    async def read() -> str | None:
        return next(answers)

    assert await cache.constant(read, "frame", "uid") is None
    assert await cache.constant(read, "frame", "uid") == "first"
    now = SECONDS - 1
    assert await cache.constant(read, "frame", "uid") == "first"
    now = SECONDS
    assert await cache.constant(read, "frame", "uid") == "second"


def stored_run(name: str, *, version: int, uid: str = "", phase: str = "queued") -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return run(name) | {"metadata": metadata, "status": {"phase": phase}}


def lists(kube: FakeKube) -> int:
    return sum(call.verb == "list" for call in kube.calls)


async def seen_phases(cache: ObjectCache) -> dict[str, str]:
    return {run["metadata"]["name"]: run["status"]["phase"] for run in await cache.runs(NAMESPACE, "home")}


async def test_runs_are_listed_once_a_minute_and_kept_by_what_is_told_and_written() -> None:
    now, kube = 0.0, FakeKube()
    cache = cache_of(kube, seconds=lambda: now)
    cache.seen("TrainingRun", stored_run("before", version=1))
    assert await cache.runs(NAMESPACE, "home") == []
    cache.seen("TrainingRun", stored_run("one", version=11))
    cache.seen("TrainingRun", stored_run("two", version=12))
    cache.seen("TrainingRun", stored_run("one", version=14, phase="TRAINED"))
    cache.seen("TrainingRun", stored_run("one", version=13, phase="TRAINING"))  # told late
    assert await seen_phases(cache) == {"one": "TRAINED", "two": "queued"}
    cache.seen("TrainingRun", stored_run("two", version=15), deleted=True)
    cache.seen("TrainingRun", stored_run("two", version=12))  # told late
    assert await seen_phases(cache) == {"one": "TRAINED"}
    cache.seen("TrainingRun", stored_run("one", version=20, uid="other"))
    cache.seen("TrainingRun", stored_run("one", version=14), deleted=True)  # the one before, told late
    assert await seen_phases(cache) == {"one": "queued"}
    assert lists(kube) == 1
    now = SECONDS
    assert await seen_phases(cache) == {}
    cache.forget_runs(NAMESPACE, "home")
    await cache.runs(NAMESPACE, "home")
    assert lists(kube) == 3


async def test_what_is_told_while_runs_are_listed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    cache = cache_of(kube)

    async def meanwhile(*_: object, **__: object) -> list[dict[str, Any]]:
        cache.seen("TrainingRun", stored_run("gone", version=9), deleted=True)
        cache.seen("TrainingRun", stored_run("newer", version=9, phase="TRAINED"))
        return [stored_run("gone", version=5), stored_run("newer", version=5), stored_run("same", version=5)]

    monkeypatch.setattr(kube, "list", meanwhile)
    assert await seen_phases(cache) == {"newer": "TRAINED", "same": "queued"}


async def test_a_list_that_fails_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    cache = cache_of(kube)

    async def fail(*_: object, **__: object) -> list[dict[str, Any]]:
        raise Unavailable("away", reason="NoAnswer")

    monkeypatch.setattr(kube, "list", fail)
    with pytest.raises(Unavailable):
        await cache.runs(NAMESPACE, "home")
    monkeypatch.undo()
    await cache.runs(NAMESPACE, "home")
    assert lists(kube) == 1


async def test_pods_that_were_told_are_read_by_name_and_others_by_a_list() -> None:
    kube = FakeKube()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one-x", "namespace": NAMESPACE, "labels": {contract.JOB_NAME_LABEL: "one"}},
    }
    kube.put(pod)
    cache = cache_of(kube)
    [listed] = await cache.pods(NAMESPACE, "one")
    assert lists(kube) == 1
    cache.seen("Pod", listed)
    assert await cache.pods(NAMESPACE, "one") == [listed]
    assert lists(kube) == 1
    cache.seen("Pod", listed, deleted=True)
    assert await cache.pods(NAMESPACE, "one") == [listed]
    assert lists(kube) == 2
    cache.seen("Pod", listed)
    kube.objects.clear()  # and no watch tells
    assert await cache.pods(NAMESPACE, "one") == []
    asked = len(kube.calls)
    assert await cache.pods(NAMESPACE, "one") == []
    assert [call.verb for call in kube.calls[asked:]] == ["list"]


def test_something_is_due_again_when_its_time_has_come() -> None:
    now = 0.0
    cache = cache_of(FakeKube(), seconds=lambda: now)
    assert cache.is_due("sweep", "a", every=600)
    assert cache.is_due("sweep", "b", every=600)
    assert not cache.is_due("sweep", "a", every=600)
    now = 600.0
    assert cache.is_due("sweep", "a", every=600)
