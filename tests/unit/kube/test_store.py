"""What is known of a kind is the newest that anybody has told of it, in whatever order that came."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chorus_kube import store as store_module
from chorus_kube.store import Store
from chorus_kube.text_cache import TextCache

NAMESPACE = "ns"
NAMES = st.sampled_from("ab")
COLOURS = st.sampled_from(["red", "blue", None])
Manifest = dict[str, Any]


def colour_of(stored: Manifest) -> str | None:
    found = stored["spec"]["colour"]
    return None if found is None else str(found)


def manifest(
    name: str, *, version: int, uid: str = "u1", colour: str | None = None, namespace: str = NAMESPACE, text: str = ""
) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"colour": colour, "text": text}}


def store_of(**options: Any) -> Store:
    return Store(indexes={"colour": colour_of}, **options)


def known(store: Store, name: str = "a", namespace: str = NAMESPACE) -> int | None:
    """Give the version that a store has of an object."""
    found = store.get(namespace, name)
    return None if found is None else int(found["metadata"]["resourceVersion"])


@dataclass
class Server:
    """What there is, and everything that a watch tells of it, in order."""

    version: int = 0
    objects: dict[str, Manifest] = field(default_factory=dict)
    log: list[tuple[bool, Manifest]] = field(default_factory=list)
    lives: int = 0

    def write(self, name: str, colour: str | None) -> Manifest:
        self.version += 1
        if name not in self.objects:
            self.lives += 1
        uid = self.objects[name]["metadata"]["uid"] if name in self.objects else f"u{self.lives}"
        self.objects[name] = manifest(name, version=self.version, uid=uid, colour=colour)
        self.log.append((False, self.objects[name]))
        return self.objects[name]

    def delete(self, name: str) -> Manifest:
        self.version += 1
        last = copy.deepcopy(self.objects.pop(name))
        last["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((True, last))
        return last


class Telling(RuleBasedStateMachine):
    """A store that is told by a watch that lags, by lists, by reads and by own writes, late and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.store = store_of()
        self.position = 0
        self.lists: list[tuple[int, list[Manifest]]] = []
        self.under_way: list[Manifest] = []  # answers that have yet to arrive
        self.newest: dict[str, int] = {}  # version by uid, of what was told
        self.gone: set[str] = set()

    def take(self, stored: Manifest) -> None:
        uid, version = stored["metadata"]["uid"], int(stored["metadata"]["resourceVersion"])
        self.newest[uid] = max(version, self.newest.get(uid, 0))
        self.store.take(stored)

    def remove(self, stored: Manifest) -> None:
        self.gone.add(stored["metadata"]["uid"])
        self.store.remove(NAMESPACE, stored["metadata"]["name"], stored["metadata"]["uid"])

    def tell(self, gone: bool, stored: Manifest) -> None:
        (self.remove if gone else self.take)(stored)

    @rule(name=NAMES, colour=COLOURS)
    def somebody_writes(self, name: str, colour: str | None) -> None:
        self.server.write(name, colour)

    @rule(name=NAMES, colour=COLOURS, late=st.booleans())
    def the_operator_writes(self, name: str, colour: str | None, late: bool) -> None:
        answer = self.server.write(name, colour)
        if late:
            self.under_way.append(answer)
        else:
            self.take(answer)
            assert self.store.get(NAMESPACE, name) == answer

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_late_answer_arrives(self, data: st.DataObject) -> None:
        self.take(self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))))

    @rule(name=NAMES, own=st.booleans())
    def an_object_is_deleted(self, name: str, own: bool) -> None:
        if name in self.server.objects:
            last = self.server.delete(name)
            if own:
                self.remove(last)

    @rule(name=NAMES)
    def an_object_is_read(self, name: str) -> None:
        if name in self.server.objects:
            self.take(self.server.objects[name])
            self.store.settle(NAMESPACE, name)
            assert self.store.get(NAMESPACE, name) == self.server.objects[name]

    @rule(count=st.integers(1, 4))
    def the_watch_tells(self, count: int) -> None:
        for gone, stored in self.server.log[self.position : self.position + count]:
            self.tell(gone, stored)
            self.position += 1

    @precondition(lambda self: self.position)
    @rule(data=st.data())
    def the_watch_repeats_itself(self, data: st.DataObject) -> None:
        self.tell(*self.server.log[data.draw(st.integers(0, self.position - 1))])

    @rule()
    def a_list_begins(self) -> None:
        self.lists.append((self.server.version, list(self.server.objects.values())))

    @precondition(lambda self: self.lists)
    @rule()
    def a_list_ends(self) -> None:
        version, listed = self.lists.pop(0)
        for stored in listed:
            self.take(stored)
        for removed in self.store.replace({stored["metadata"]["uid"] for stored in listed}, version=version):
            self.gone.add(removed["metadata"]["uid"])
        self.position = max(
            self.position, sum(int(each["metadata"]["resourceVersion"]) <= version for _, each in self.server.log)
        )

    @invariant()
    def what_is_known_of_an_object_is_the_newest_that_was_told_and_it_is_not_known_to_be_gone(self) -> None:
        for name in "ab":
            found = self.store.version(NAMESPACE, name)
            stored = self.store.get(NAMESPACE, name)
            assert (stored is None) == (found is None)
            if found is not None:
                assert found[1] == self.newest[found[0]]
                assert found[0] not in self.gone
        assert all(self.store.is_gone(uid) for uid in self.gone)

    @invariant()
    def indexes_name_what_is_known(self) -> None:
        objects = [stored for name in "ab" if (stored := self.store.get(NAMESPACE, name)) is not None]
        assert len(self.store) == len(objects)
        for colour in ("red", "blue"):
            named = [stored["metadata"]["name"] for stored in objects if colour_of(stored) == colour]
            assert self.store.having("colour", NAMESPACE, colour) == named

    def teardown(self) -> None:
        """Once everything is told, it is known."""
        for gone, stored in self.server.log[self.position :]:
            self.tell(gone, stored)
        for answer in self.under_way:
            self.take(answer)
        for name in "ab":
            assert self.store.get(NAMESPACE, name) == self.server.objects.get(name)


Telling.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTelling = Telling.TestCase


@given(st.permutations([3, 7, 12, 20]))
def test_late_news_of_an_object_changes_nothing(versions: list[int]) -> None:
    store = store_of()
    newest = 0
    for version in versions:
        assert store.take(manifest("a", version=version)) is (version > newest)
        newest = max(newest, version)
        assert known(store) == newest


def test_an_object_that_is_gone_stays_gone_whatever_is_told_late() -> None:
    store = store_of()
    store.take(manifest("a", version=3))
    assert store.remove(NAMESPACE, "a", "u1")
    assert not store.take(manifest("a", version=9))
    assert store.get(NAMESPACE, "a") is None
    assert store.is_gone("u1")


def test_an_object_that_was_never_known_can_be_known_to_be_gone() -> None:
    store = store_of()
    assert not store.remove(NAMESPACE, "a", "u1")
    assert not store.take(manifest("a", version=3))
    assert len(store) == 0


def test_another_object_of_the_name_takes_the_place_of_the_one_before_which_is_gone() -> None:
    store = store_of()
    store.take(manifest("a", version=3, colour="red"))
    assert store.take(manifest("a", version=8, uid="u2", colour="blue"))
    assert store.is_gone("u1")
    assert not store.take(manifest("a", version=5)), "told late"
    assert not store.remove(NAMESPACE, "a", "u1"), "told late"
    assert store.version(NAMESPACE, "a") == ("u2", 8)
    assert store.having("colour", NAMESPACE, "red") == []
    assert store.having("colour", NAMESPACE, "blue") == ["a"]


def test_a_complete_list_removes_what_it_does_not_name_but_not_what_was_written_since() -> None:
    store = store_of()
    store.take(manifest("gone", version=3, uid="u1"))
    store.take(manifest("listed", version=4, uid="u2"))
    store.take(manifest("written", version=11, uid="u3"))
    store.take(manifest("elsewhere", version=5, uid="u4", namespace="other"))
    removed = store.replace({"u2"}, version=10, namespace=NAMESPACE)
    assert [each["metadata"]["name"] for each in removed] == ["gone"]
    assert (known(store, "listed"), known(store, "written"), known(store, "elsewhere", "other")) == (4, 11, 5)
    assert store.is_gone("u1")


@pytest.mark.parametrize("namespace", [NAMESPACE, None])
def test_an_answer_from_before_a_list_that_does_not_name_its_object_is_of_one_that_is_gone(
    namespace: str | None,
) -> None:
    """No watch will tell that it was deleted."""
    store = store_of()
    store.replace(set(), version=10, namespace=namespace)
    assert not store.take(manifest("a", version=9))
    assert store.take(manifest("a", version=11))
    assert store.take(manifest("b", version=9, uid="u2", namespace="other")) is (namespace is not None)


def test_a_list_names_what_it_removes_even_of_an_object_too_large_to_be_kept() -> None:
    store = store_of(max_object_bytes=200)
    store.take(manifest("a", version=3, text="x" * 500))
    [removed] = store.replace(set(), version=10)
    assert removed["metadata"] == {"namespace": NAMESPACE, "name": "a", "uid": "u1", "labels": {}}


def test_an_object_is_in_doubt_until_a_newer_state_or_a_read_shows_what_there_is() -> None:
    store = store_of()
    store.take(manifest("a", version=3))
    store.doubt(NAMESPACE, "a")
    assert not store.take(manifest("a", version=2))
    assert store.is_in_doubt(NAMESPACE, "a")
    assert store.take(manifest("a", version=4))
    assert not store.is_in_doubt(NAMESPACE, "a")
    store.doubt(NAMESPACE, "a")
    store.settle(NAMESPACE, "a")
    assert not store.is_in_doubt(NAMESPACE, "a")
    store.doubt(NAMESPACE, "a")
    store.remove(NAMESPACE, "a", "u1")
    assert not store.is_in_doubt(NAMESPACE, "a")


def test_a_watch_that_repeats_the_state_in_doubt_settles_nothing() -> None:
    """A write has shown that there is a newer one."""
    store = store_of()
    store.take(manifest("a", version=3))
    store.doubt(NAMESPACE, "a")
    assert not store.take(manifest("a", version=3))
    assert store.is_in_doubt(NAMESPACE, "a")


def test_an_object_too_large_to_be_kept_is_known_to_be_there() -> None:
    store = store_of(max_object_bytes=200)
    store.take(manifest("a", version=3, colour="red", text="x" * 500))
    assert store.get(NAMESPACE, "a") is None
    assert store.version(NAMESPACE, "a") == ("u1", 3)
    assert store.having("colour", NAMESPACE, "red") == ["a"]
    store.take(manifest("a", version=4))
    assert known(store) == 4


def test_what_is_pushed_out_by_others_is_known_to_be_there() -> None:
    store = store_of(texts=TextCache(most_bytes=300, most_bytes_of_namespace=300))
    for number, name in enumerate("abc"):
        store.take(manifest(name, version=number + 1, uid=name, colour="red", text="x" * 60))
    assert [known(store, name) for name in "abc"] == [None, None, 3]
    assert store.having("colour", NAMESPACE, "red") == ["a", "b", "c"]
    assert store.version(NAMESPACE, "a") == ("a", 1)


def test_of_what_is_gone_only_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "TOMBSTONES", 3)
    store = store_of()
    for number in range(5):
        store.remove(NAMESPACE, "a", f"u{number}")
    store.remove(NAMESPACE, "a", "u2")  # told again: it counts as new
    store.remove(NAMESPACE, "a", "u9")
    assert [number for number in range(10) if store.is_gone(f"u{number}")] == [2, 4, 9]


def test_what_a_caller_changes_is_his_own() -> None:
    store = store_of()
    taken = manifest("a", version=3, colour="red")
    store.take(taken)
    taken["spec"]["colour"] = "blue"
    found = store.get(NAMESPACE, "a")
    assert found is not None
    assert found["spec"]["colour"] == "red"
    found["spec"]["colour"] = "blue"
    assert store.get(NAMESPACE, "a") == manifest("a", version=3, colour="red")


def test_an_index_forgets_what_has_another_value_or_none() -> None:
    store = store_of()
    for version, colour in ((1, "red"), (2, "blue"), (3, None)):
        store.take(manifest("a", version=version, colour=colour))
        named = {each: store.having("colour", NAMESPACE, each) for each in ("red", "blue")}
        assert named == {each: ["a"] if each == colour else [] for each in ("red", "blue")}
    assert store.having("colour", "elsewhere", "red") == []
