"""What is kept of an object in memory is bounded, and what counts of it still counts."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.contract import MANAGED_BY, MANAGED_BY_LABEL, PREPARE_ANNOTATION, TRIGGER_KEY_ANNOTATION
from chorus_kube.resources import PLUGINS, TRAINING_RUNS
from chorus_kube.text_cache import TextCache
from chorus_kube.work_queue import Key
from chorus_operator.reconcile.stores import MAX_PLUGIN_BYTES, NAMESPACE_OTHERS_BYTES, Stores
from chorus_operator.watch import SETTLE_SECONDS, TURN_SECONDS, Keys
from fakes import FakeKube
from unit_manifests import plugin, project, run

NAMESPACE = "default"
RESOURCES = {each.kind: each for each in (PLUGINS, TRAINING_RUNS)}
OBJECTS = 40
LARGE = "x" * 250_000
COUNTED = (PREPARE_ANNOTATION, TRIGGER_KEY_ANNOTATION)
Manifest = dict[str, Any]
OWNER = {"apiVersion": "chorus.dev/v1alpha1", "kind": "Project", "name": "home", "uid": "p", "controller": True}


def told(make: Callable[[str], Manifest], name: str, **metadata: Any) -> Manifest:
    """Give an object as the watch tells it: parsed anew, so that its texts are nobody else's."""
    known = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": "7", "generation": 1}
    made: Manifest = json.loads(json.dumps({**make(name), "metadata": {**known, **metadata}}))
    return made


def large(make: Callable[[str], Manifest], name: str) -> Manifest:
    """Give an object with as much in its metadata as the API server takes."""
    return told(
        make,
        name,
        annotations={"kubectl.kubernetes.io/last-applied-configuration": LARGE, PREPARE_ANNOTATION: "again"},
        labels={f"team-{number}": "x" * 63 for number in range(500)},
        managedFields=[{"manager": "kubectl", "fieldsV1": {"f:spec": LARGE}}],
        finalizers=[f"example.org/{number}" for number in range(500)],
    )


def bytes_kept(keep: Callable[[str], None]) -> float:
    """Measure what stays allocated for each object when `keep` has taken it in."""
    keep("warm-up")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(OBJECTS):
            keep(f"o-{number}")
        return (tracemalloc.get_traced_memory()[0] - before) / OBJECTS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("kind", "make"), [("Project", project), ("Plugin", plugin), ("TrainingRun", run)])
def test_of_an_object_with_large_annotations_the_watch_keeps_next_to_nothing(
    kind: str, make: Callable[[str], Manifest]
) -> None:
    keys = Keys()
    assert bytes_kept(lambda name: keys.of(kind, False, large(make, name)) and None) < 4096
    assert len(keys.live()) == OBJECTS + 1


@pytest.mark.parametrize(("kind", "make"), [("Plugin", plugin), ("TrainingRun", run)])
async def test_of_an_object_with_large_annotations_the_memory_keeps_what_decisions_read(
    kind: str, make: Callable[[str], Manifest]
) -> None:
    kube = FakeKube()
    cache = Stores(kube, seconds=lambda: 0.0)  # type: ignore[arg-type]
    resource = RESOURCES[kind]
    assert bytes_kept(lambda name: cache.seen(resource, large(make, name)) and None) < 4096
    known = await cache.get(resource, namespace=NAMESPACE, name="o-1")
    assert known is not None
    assert known["spec"] == make("o-1")["spec"]
    assert known["metadata"].keys() == {"name", "namespace", "uid", "resourceVersion", "generation"}


async def test_a_plugin_with_a_very_large_spec_is_not_kept_but_read_live() -> None:
    kube = FakeKube()
    cache = Stores(kube, seconds=lambda: 0.0)  # type: ignore[arg-type]
    kube.put(plugin(parameters={"text": "x" * MAX_PLUGIN_BYTES}))
    stored = kube.find(PLUGINS, "soft", NAMESPACE)
    assert stored is not None
    assert bytes_kept(lambda name: cache.seen(PLUGINS, json.loads(json.dumps(stored))) and None) < 1024
    assert await cache.get(PLUGINS, namespace=NAMESPACE, name="soft") == stored
    assert [call.verb for call in kube.calls if call.kind == "Plugin"] == ["get"]


async def test_many_large_plugins_of_one_namespace_are_not_all_kept_and_push_out_no_others() -> None:
    kube = FakeKube()
    cache = Stores(kube, seconds=lambda: 0.0)  # type: ignore[arg-type]
    theirs = told(plugin, "theirs")
    theirs["metadata"]["namespace"] = "elsewhere"
    cache.seen(PLUGINS, theirs)
    text = "x" * (MAX_PLUGIN_BYTES - 1024)
    count = NAMESPACE_OTHERS_BYTES // MAX_PLUGIN_BYTES * 4
    tracemalloc.start()
    try:
        for number in range(count):
            manifest = told(plugin, f"p-{number}")
            cache.seen(PLUGINS, {**manifest, "spec": {**manifest["spec"], "text": text}})
        assert tracemalloc.get_traced_memory()[0] < 1.1 * NAMESPACE_OTHERS_BYTES
    finally:
        tracemalloc.stop()
    assert await cache.get(PLUGINS, namespace="elsewhere", name="theirs") is not None
    assert await cache.get(PLUGINS, namespace=NAMESPACE, name=f"p-{count - 1}") is not None
    assert kube.calls == [], "both are remembered"
    assert await cache.get(PLUGINS, namespace=NAMESPACE, name="p-0") is None
    assert [call.verb for call in kube.calls] == ["get"], "what is not remembered is read live"


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.none() | st.integers(0, 12)), max_size=40
    )
)
def test_texts_are_bounded_in_total_and_by_namespace_and_the_one_that_was_put_last_is_there(
    steps: list[tuple[str, str, int | None]],
) -> None:
    cache = TextCache(most_bytes=12, most_bytes_of_namespace=8)
    for namespace, name, size in steps:
        if size is None:
            cache.discard((namespace, name))
        else:
            cache.put((namespace, name), b"t" * size)
            assert cache.get((namespace, name)) == (b"t" * size if size <= 8 else None)
        held = {space: sum(len(cache.get((space, each)) or b"") for each in "xyz") for space in "ab"}
        assert max(held.values()) <= 8
        assert sum(held.values()) <= 12


async def test_what_decisions_read_of_a_runs_metadata_is_kept() -> None:
    cache = Stores(FakeKube(), seconds=lambda: 0.0)  # type: ignore[arg-type]
    ours = {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-02T00:00:00Z",
        "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        "annotations": {TRIGGER_KEY_ANNOTATION: "abc"},
        "ownerReferences": [OWNER],
    }
    stored = told(run, "one", **ours)
    cache.seen(TRAINING_RUNS, stored)
    assert await cache.all_of(TRAINING_RUNS, "project", NAMESPACE, "home") == [stored]


async def test_a_trigger_key_that_chorus_cannot_have_written_is_not_kept() -> None:
    cache = Stores(FakeKube(), seconds=lambda: 0.0)  # type: ignore[arg-type]
    cache.seen(TRAINING_RUNS, told(run, "one", annotations={TRIGGER_KEY_ANNOTATION: LARGE}))
    [known] = await cache.all_of(TRAINING_RUNS, "project", NAMESPACE, "home")
    assert "annotations" not in known["metadata"]


# What wakes a reconcile

TEXTS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=3)
IGNORED = st.fixed_dictionaries(
    {"annotations": TEXTS, "labels": TEXTS, "finalizers": st.lists(st.text(max_size=8), max_size=2)},
    optional={"resourceVersion": st.integers(1, 9).map(str), "managedFields": st.just([{"manager": "kubectl"}])},
)
KINDS: dict[str, Callable[[str], Manifest]] = {
    "Project": project,
    "Plugin": plugin,
    "TrainingRun": run,
}


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), ignored=st.lists(IGNORED, min_size=1, max_size=4))
def test_a_change_of_what_nobody_reads_is_no_request_of_a_user(kind: str, ignored: list[Manifest]) -> None:
    keys, make = Keys(), KINDS[kind]
    own = Key(kind, NAMESPACE, "home", {"Project": "home", "Plugin": "", "TrainingRun": "home"}[kind])
    keys.of(kind, False, told(make, "home"))
    for metadata in ignored:
        assert keys.of(kind, False, told(make, "home", **metadata)) == {own: SETTLE_SECONDS}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    ignored=IGNORED,
    change=st.one_of(
        st.integers(2, 99).map(lambda number: {"generation": number}),
        st.just({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        st.tuples(st.sampled_from(COUNTED), st.text(max_size=8)).map(lambda pair: {"annotations": dict([pair])}),
    ),
)
def test_a_change_of_what_counts_is_looked_at_at_once(kind: str, ignored: Manifest, change: Manifest) -> None:
    keys, make = Keys(), KINDS[kind]
    keys.of(kind, False, told(make, "home", **ignored))
    annotations = {**ignored["annotations"], **change.get("annotations", {})}
    woken = keys.of(kind, False, told(make, "home", **{**ignored, **change, "annotations": annotations}))
    assert list(woken.values()) == ([0.0, TURN_SECONDS] if kind == "TrainingRun" else [0.0])
    assert len(woken) == (2 if kind == "TrainingRun" else 1)
