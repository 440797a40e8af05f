"""A store is kept up to date by a watch: lists, bookmarks, streams that end, versions too old, and back-off."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from chorus_kube.errors import Gone, KubeError, Unavailable
from chorus_kube.informer import FIRST_BACKOFF, INITIAL_EVENTS_END, LONGEST_BACKOFF, EndedEarly, Informer
from chorus_kube.resources import JOBS
from chorus_kube.store import Store
from simulated_time import simulate

NAMESPACE = "ns"
Event = dict[str, Any]
Step = Event | Exception | Callable[[], object] | None
"""What a stream gives: an event; an error; something that happens meanwhile; or None, for silence that does not end."""


def event(kind: str, name: str, *, version: int, uid: str = "", namespace: str = NAMESPACE) -> Event:
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"type": kind, "object": {"kind": "Job", "metadata": metadata, "status": {"ready": version}}}


def bookmark(version: int, *, ends_list: bool = False) -> Event:
    annotations = {INITIAL_EVENTS_END: "true"} if ends_list else None
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version), "annotations": annotations}}}


def listed(version: int) -> Event:
    return bookmark(version, ends_list=True)


class Longest(random.Random):
    """No jitter: the longest back-off each time."""

    def uniform(self, a: float, b: float) -> float:
        return b


@dataclass
class Watched:
    """An informer of streams that were told beforehand, in simulated time; after the last one there is silence."""

    streams: Sequence[Sequence[Step]]
    options: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[float, str | None]] = field(default_factory=list)
    """When each stream was asked for, and from which version."""
    changes: list[tuple[str, str, int]] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.store = Store()
        self.informer = Informer(
            self,  # type: ignore[arg-type]
            JOBS,
            self.store,
            on_change=self._on_change,
            jitter=Longest(),
            **self.options,
        )

    def _on_change(self, stored: Event, gone: bool) -> None:
        version = int(stored["metadata"].get("resourceVersion", 0))
        self.changes.append(("gone" if gone else "is", stored["metadata"]["name"], version))

    async def watch(self, *_: object, resource_version: str | None, **named: object) -> AsyncGenerator[Event, None]:
        self.asked.append((asyncio.get_running_loop().time(), resource_version))
        self.named = named
        steps: Sequence[Step] = self.streams[len(self.asked) - 1] if len(self.asked) <= len(self.streams) else [None]
        try:
            for step in steps:
                if step is None:
                    await asyncio.sleep(float("1e6"))
                elif isinstance(step, Exception):
                    raise step
                elif callable(step):
                    step()
                else:
                    yield step
        finally:
            self.closed += 1

    def runs(self, seconds: float = 0.01) -> Watched:
        async def main() -> None:
            running = asyncio.create_task(self.informer.run())
            await asyncio.sleep(seconds)
            self.synced = self.informer.synced.is_set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        simulate(main())
        return self

    @property
    def names(self) -> dict[str, int]:
        """The version of each object that is known."""
        found = {name: self.store.version(NAMESPACE, name) for name in ("a", "b", "c")}
        return {name: state[1] for name, state in found.items() if state is not None}


def test_what_is_there_comes_first_and_a_list_is_complete_with_its_bookmark() -> None:
    incomplete = Watched([[event("ADDED", "a", version=3), event("ADDED", "b", version=5), None]]).runs()
    assert incomplete.names == {"a": 3, "b": 5}
    assert not incomplete.synced
    assert incomplete.asked == [(0.0, None)]
    complete = Watched([[event("ADDED", "a", version=3), listed(9), None]]).runs()
    assert complete.synced
    assert complete.changes == [("is", "a", 3)]


def test_the_list_of_no_objects_is_complete_as_well() -> None:
    assert Watched([[listed(9), None]]).runs().synced


def test_a_bookmark_that_is_not_the_lists_end_ends_no_list() -> None:
    watched = Watched([[event("ADDED", "a", version=3), bookmark(4), None]]).runs()
    assert not watched.synced


def test_the_watch_is_of_the_namespace_and_the_labels_that_were_asked_for() -> None:
    watched = Watched([[None]], {"namespace": NAMESPACE, "labels": {"a": "b"}}).runs()
    assert watched.named == {"namespace": NAMESPACE, "labels": {"a": "b"}}


def test_what_follows_the_list_is_taken_in_and_what_is_not_new_is_told_to_nobody() -> None:
    watched = Watched(
        [
            [
                event("ADDED", "a", version=3),
                listed(9),
                event("MODIFIED", "a", version=10),
                event("MODIFIED", "a", version=10),
                event("ADDED", "b", version=11),
                event("DELETED", "a", version=12),
                event("DELETED", "a", version=12),
                None,
            ]
        ]
    ).runs()
    assert watched.names == {"b": 11}
    assert watched.changes == [("is", "a", 3), ("is", "a", 10), ("is", "b", 11), ("gone", "a", 12)]


def test_a_state_that_differs_in_nothing_but_its_version_is_taken_in_and_told_to_nobody() -> None:
    same = event("MODIFIED", "a", version=10)
    same["object"]["status"] = {"ready": 3}
    watched = Watched([[event("ADDED", "a", version=3), listed(9), same, None]]).runs()
    assert watched.names == {"a": 10}
    assert watched.changes == [("is", "a", 3)]


@pytest.mark.parametrize(
    ("last", "version"), [(event("MODIFIED", "a", version=12), "12"), (bookmark(20), "20"), (listed(9), "9")]
)
def test_a_stream_that_ends_goes_on_from_the_last_version_at_once(last: Event, version: str) -> None:
    watched = Watched([[event("ADDED", "a", version=3), listed(9), last]]).runs()
    assert watched.asked == [(0.0, None), (0.0, version)]
    assert watched.closed == 2
    assert "a" in watched.names


def test_a_version_that_is_too_old_begins_a_list_which_removes_what_it_does_not_name() -> None:
    first: list[Step] = [event("ADDED", "a", version=3), event("ADDED", "b", version=4), listed(9), Gone("expired")]
    second: list[Step] = [event("ADDED", "b", version=15), event("ADDED", "c", version=16), listed(20), None]
    watched = Watched([first, second]).runs(1)
    assert [version for _, version in watched.asked] == [None, None]
    assert watched.names == {"b": 15, "c": 16}
    assert watched.changes[2:] == [("is", "b", 15), ("is", "c", 16), ("gone", "a", 3)]
    assert watched.store.is_gone("uid-a")


def test_nothing_is_removed_before_a_list_is_complete() -> None:
    first: list[Step] = [event("ADDED", "a", version=3), listed(9), Gone("expired")]
    watched = Watched([first, [event("ADDED", "b", version=15), None]]).runs(1)
    assert watched.names == {"a": 3, "b": 15}


def test_what_is_written_while_a_list_is_under_way_stays() -> None:
    def written() -> None:
        watched.store.take(event("ADDED", "c", version=21)["object"])

    first: list[Step] = [event("ADDED", "a", version=3), listed(9), Gone("expired")]
    watched = Watched([first, [written, listed(20), None]])
    assert watched.runs(1).names == {"c": 21}


def test_what_is_deleted_while_a_list_is_under_way_does_not_count_as_listed() -> None:
    stream: list[Step] = [
        event("ADDED", "a", version=3),
        event("DELETED", "a", version=8),
        event("ADDED", "a", version=9, uid="other"),
        listed(9),
        None,
    ]
    watched = Watched([stream]).runs()
    assert watched.store.version(NAMESPACE, "a") == ("other", 9)
    assert watched.store.is_gone("uid-a")


def test_a_list_of_one_namespace_removes_nothing_of_another() -> None:
    watched = Watched([[listed(20), None]], {"namespace": NAMESPACE})
    watched.store.take(event("ADDED", "a", version=3)["object"])
    watched.store.take(event("ADDED", "a", version=3, uid="theirs", namespace="other")["object"])
    watched.runs()
    assert watched.store.version(NAMESPACE, "a") is None
    assert watched.store.version("other", "a") == ("theirs", 3)


def test_a_list_that_breaks_off_is_asked_for_again_from_its_beginning() -> None:
    first: list[Step] = [event("ADDED", "a", version=3), event("ADDED", "b", version=4), Unavailable("away")]
    watched = Watched([first, [event("ADDED", "b", version=4), listed(9), None]]).runs(1)
    assert watched.asked == [(0.0, None), (pytest.approx(FIRST_BACKOFF), None)]
    assert watched.names == {"b": 4}, "what the broken list named, and the whole one does not, is gone"


def test_errors_back_off_further_each_time_up_to_a_bound_and_from_the_first_after_an_event() -> None:
    away: list[Step] = [Unavailable("away")]
    watched = Watched([*[away] * 9, [listed(9), Unavailable("away")], [None]]).runs(1000)
    times = [time for time, _ in watched.asked]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    expected = [min(FIRST_BACKOFF * 2**number, LONGEST_BACKOFF) for number in range(9)]
    assert waits == pytest.approx([*expected, FIRST_BACKOFF])
    assert [version for _, version in watched.asked] == [None] * 10 + ["9"]


def test_a_version_that_is_too_old_time_and_again_is_no_endless_loop() -> None:
    watched = Watched([[Gone("expired")]] * 1000).runs(60)
    assert len(watched.asked) < 20


def test_a_stream_that_ends_at_once_time_and_again_is_no_endless_loop() -> None:
    """As behind a proxy that closes every connection."""
    watched = Watched([[listed(9)], *[[]] * 5000]).runs(60)
    assert len(watched.asked) < 500


def test_a_list_that_ends_early_time_and_again_is_asked_for_more_and_more_seldom() -> None:
    watched = Watched([[event("ADDED", "a", version=3)]] * 5000).runs(60)
    assert len(watched.asked) < 20


def reads_anew(watched: Watched) -> None:
    async def main() -> None:
        await watched.informer.read_anew()

    simulate(main())


def test_reading_anew_replaces_the_store_and_ends_with_the_list() -> None:
    watched = Watched([[event("ADDED", "b", version=5), listed(9), event("ADDED", "c", version=10)]])
    watched.store.take(event("ADDED", "a", version=3)["object"])
    reads_anew(watched)
    assert watched.names == {"b": 5}
    assert watched.closed == 1
    assert watched.informer.synced.is_set()


@pytest.mark.parametrize(
    ("last", "error"), [([], EndedEarly), ([Gone("expired")], Gone), ([Unavailable("away")], Unavailable)]
)
def test_reading_anew_fails_when_the_list_does_not_come_to_its_end(last: list[Step], error: type[KubeError]) -> None:
    watched = Watched([[event("ADDED", "b", version=5), *last]])
    watched.store.take(event("ADDED", "a", version=3)["object"])
    with pytest.raises(error):
        reads_anew(watched)
    assert watched.names == {"a": 3, "b": 5}
