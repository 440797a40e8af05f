"""A store that other threads look into, while its own loop changes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from chorus_kube.store import Store
from chorus_kube.text_cache import TextCache

Manifest = dict[str, Any]
NAMES = 8
ROUNDS = 3000


def stored(name: str, *, version: int, uid: str = "") -> Manifest:
    """Give a state of an object, which says in two places which one it is."""
    metadata = {"namespace": "here", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"version": str(version), "uid": metadata["uid"]}}


def small() -> Store:
    """Make a store with room for half of the names."""
    return Store(texts=TextCache(most_bytes=NAMES * 75, most_bytes_of_namespace=NAMES * 75))


def test_looking_into_it_does_not_count_as_use() -> None:
    texts = TextCache(most_bytes=4, most_bytes_of_namespace=4)
    for name in ("a", "b"):
        texts.put(("here", name), b"12")
    assert texts.peek(("here", "a")) == b"12"
    texts.put(("here", "c"), b"12")
    assert texts.peek(("here", "a")) is None, "it was used before b"
    assert texts.peek(("here", "b")) == b"12"


@pytest.mark.parametrize("make", [Store, small])
def test_what_is_in_doubt_gone_or_was_never_there_is_not_given(make: Callable[[], Store]) -> None:
    store = make()
    assert store.peek("here", "a") is None
    store.take(stored("a", version=1))
    assert store.peek("here", "a") == stored("a", version=1)
    store.doubt("here", "a")
    assert store.peek("here", "a") is None
    store.take(stored("a", version=2))
    assert store.peek("here", "a") == stored("a", version=2)
    store.remove("here", "a", "uid-a")
    assert store.peek("here", "a") is None


def test_of_an_object_that_was_pushed_out_nothing_is_given() -> None:
    store = small()
    for number in range(NAMES):
        store.take(stored(f"o-{number}", version=number + 1))
    assert store.peek("here", "o-0") is None
    assert store.peek("here", f"o-{NAMES - 1}") is not None


@pytest.mark.parametrize("make", [Store, small])
def test_while_its_loop_changes_it_a_thread_sees_whole_states_that_never_get_older(make: Callable[[], Store]) -> None:
    store, ended = make(), threading.Event()
    seen: list[int] = []
    wrong: list[object] = []

    def look() -> None:
        newest = dict.fromkeys(range(NAMES), 0)
        while not ended.is_set():
            for number in range(NAMES):
                try:
                    found = store.peek("here", f"o-{number}")
                except Exception as error:
                    wrong.append(error)
                    return
                if found is None:
                    continue
                metadata, status = found["metadata"], found["status"]
                version = int(metadata["resourceVersion"])
                is_whole = (status["version"], status["uid"]) == (metadata["resourceVersion"], metadata["uid"])
                if not is_whole or metadata["name"] != f"o-{number}" or version < newest[number]:
                    wrong.append(found)
                newest[number] = version
                seen.append(version)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(1, ROUNDS):
        name, uid = f"o-{version % NAMES}", f"uid-{version // (NAMES * 7)}-{version % NAMES}"
        store.take(stored(name, version=version, uid=uid))
        if version % 5 == 0:
            store.remove("here", name, uid)
        if version % 3 == 0:
            store.get("here", f"o-{version % 4}")
    ended.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen
