"""What is known without asking, and when it is asked for all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chorus_api.contract import JOB_NAME_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from chorus_kube.errors import Conflict, NotFound
from chorus_kube.resources import JOBS, PLUGINS, PODS, TRAINING_RUNS, Resource
from chorus_operator.reconcile.stores import SECONDS, Stores
from fakes import FakeKube
from unit_manifests import plugin, run

NAMESPACE = "default"
Change = tuple[str, str, bool, bool]


def stores_of(
    kube: FakeKube, *, seconds: Callable[[], float] = lambda: 0.0, told: list[Change] | None = None
) -> Stores:
    """Stores that are told what the client is answered; `told`: takes the changes."""

    def on_change(resource: Resource, deleted: bool, stored: dict[str, Any], own: bool) -> None:
        if told is not None:
            told.append((resource.kind, stored["metadata"]["name"], deleted, own))

    stores = Stores(kube, seconds=seconds, on_change=on_change)  # type: ignore[arg-type]
    kube.answers = stores
    return stores


def job(name: str, *, ours: bool = True) -> dict[str, Any]:
    labels = {MANAGED_BY_LABEL: MANAGED_BY} if ours else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {},
    }


def gets(kube: FakeKube) -> int:
    return sum(call.verb == "get" for call in kube.calls)


async def test_what_a_watch_has_told_is_given_without_asking() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    stored = kube.put(plugin())
    assert await stores.get(PLUGINS, namespace=NAMESPACE, name="soft") is None
    assert gets(kube) == 0, "what is not known is not asked for by `get`"
    assert await stores.find(PLUGINS, namespace=NAMESPACE, name="soft") == stored
    assert await stores.find(PLUGINS, namespace=NAMESPACE, name="soft") is not None
    assert gets(kube) == 1


async def test_what_the_operator_writes_is_known_at_once_and_told_as_its_own() -> None:
    kube, told = FakeKube(), list[Change]()
    stores = stores_of(kube, told=told)
    await kube.create(job("one"))
    assert await stores.get(JOBS, namespace=NAMESPACE, name="one") is not None
    assert told == [("Job", "one", False, True)]
    for kind, deleted, stored in kube.log:
        assert kind == "Job"
        assert not stores.seen(JOBS, stored, deleted=deleted), "the watch tells nothing new"
    assert len(told) == 1


async def test_what_the_operator_deletes_is_gone_at_once_and_late_news_of_it_does_not_count() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    made = await kube.create(job("one"))
    await kube.delete(JOBS, namespace=NAMESPACE, name="one", uid=made["metadata"]["uid"])
    assert not stores.is_known(JOBS, NAMESPACE, "one")
    assert not stores.seen(JOBS, made)
    assert not stores.is_known(JOBS, NAMESPACE, "one")


async def test_after_a_conflict_an_object_is_read_live_once() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    known = kube.put(run("one"))
    stores.seen(TRAINING_RUNS, known)
    newer = kube.put(run("one") | {"status": {"phase": "TRAINING"}})
    with pytest.raises(Conflict):
        await kube.patch_status(
            TRAINING_RUNS,
            namespace=NAMESPACE,
            name="one",
            status={"phase": "failed"},
            resource_version=known["metadata"]["resourceVersion"],
        )
    for _ in range(2):
        found = await stores.get(TRAINING_RUNS, namespace=NAMESPACE, name="one")
        assert found is not None
        assert found["status"] == newer["status"]
    assert gets(kube) == 1


async def test_a_name_that_is_taken_by_what_no_watch_tells_of_is_read_live_each_time() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    kube.put(job("one", ours=False))
    with pytest.raises(Exception, match="exists"):
        await kube.create(job("one"))
    for asked in (1, 2):
        assert await stores.get(JOBS, namespace=NAMESPACE, name="one") is not None
        assert gets(kube) == asked
    kube.remove(JOBS, "one")
    assert await stores.get(JOBS, namespace=NAMESPACE, name="one") is None
    assert not stores.is_known(JOBS, NAMESPACE, "one")


async def test_an_object_is_gone_when_a_second_answer_says_so_for_the_first_may_be_of_another_of_its_name() -> None:
    kube, told = FakeKube(), list[Change]()
    stores = stores_of(kube, told=told)
    stored = kube.put(run("one"))
    stores.seen(TRAINING_RUNS, stored)
    stores.found_gone(TRAINING_RUNS, NAMESPACE, "one", None)  # sent before this one was made
    assert await stores.get(TRAINING_RUNS, namespace=NAMESPACE, name="one") is not None
    kube.remove(TRAINING_RUNS, "one")
    with pytest.raises(NotFound):
        await kube.patch_status(
            TRAINING_RUNS,
            namespace=NAMESPACE,
            name="one",
            status={},
            resource_version=stored["metadata"]["resourceVersion"],
        )
    assert await stores.get(TRAINING_RUNS, namespace=NAMESPACE, name="one") is None
    assert told[-1] == ("TrainingRun", "one", True, False)


async def test_pods_are_found_by_their_job_and_read_live_by_a_list() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    labels = {JOB_NAME_LABEL: "one", MANAGED_BY_LABEL: MANAGED_BY}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-x", "namespace": NAMESPACE, "labels": labels}}
    kube.put(pod)
    assert await stores.pods(NAMESPACE, "one") == []
    assert [each["metadata"]["name"] for each in await stores.pods_now(NAMESPACE, "one")] == ["one-x"]
    assert [each["metadata"]["name"] for each in await stores.pods(NAMESPACE, "one")] == ["one-x"]
    stores.seen(PODS, kube.all(PODS)[0], deleted=True)
    assert await stores.pods(NAMESPACE, "one") == []


async def test_a_model_is_made_once_for_each_state() -> None:
    kube = FakeKube()
    stores = stores_of(kube)
    made: list[str] = []

    async def parse(stored: dict[str, Any]) -> Any:
        made.append(stored["metadata"]["resourceVersion"])
        return stored["metadata"]["resourceVersion"]

    stores.seen(TRAINING_RUNS, kube.put(run("one")))
    for _ in range(3):
        await stores.models(TRAINING_RUNS, "project", NAMESPACE, "home", parse)
    stores.seen(TRAINING_RUNS, kube.put(run("one")))
    assert await stores.models(TRAINING_RUNS, "project", NAMESPACE, "home", parse) == ["2"]
    assert made == ["1", "2"]


async def test_a_constant_is_read_again_after_a_minute_and_what_is_not_there_every_time() -> None:
    now, answers = 0.0, iter([None, "first", "second"])
    stores = stores_of(FakeKube(), seconds=lambda: now)

    async def read() -> str | None:
        return next(answers)

    assert await stores.constant(read, "frame", "uid") is None
    assert await stores.constant(read, "frame", "uid") == "first"
    now = SECONDS - 1
    assert await stores.constant(read, "frame", "uid") == "first"
    now = SECONDS
    assert await stores.constant(read, "frame", "uid") == "second"


def test_something_is_due_again_when_its_time_has_come() -> None:
    now = 0.0
    stores = stores_of(FakeKube(), seconds=lambda: now)
    assert stores.is_due("sweep", "a")
    stores.done("sweep", "a", every=600)
    assert stores.is_due("sweep", "b")
    assert not stores.is_due("sweep", "a")
    now = 600.0
    assert stores.is_due("sweep", "a")
