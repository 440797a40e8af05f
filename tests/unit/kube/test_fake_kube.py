"""The fake keeps the promises that the operator's tests build on."""

from __future__ import annotations

from typing import Any

import pytest

from chorus_kube.client import Deleted
from chorus_kube.errors import AlreadyExists, Conflict, NotFound
from chorus_kube.resources import CONFIG_MAPS, JOBS, TRAINING_RUNS
from fakes import FakeKube

RUN = {
    "apiVersion": "chorus.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "run", "namespace": "default"},
    "spec": {"plugin": "soft"},
}


def as_seen(stored: dict[str, Any]) -> dict[str, str]:
    metadata = stored["metadata"]
    return {"uid": metadata["uid"], "resource_version": metadata["resourceVersion"]}


def child(name: str, owner_uid: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [{"uid": owner_uid}]},
        "data": {},
    }


async def test_a_name_is_created_once_and_without_status() -> None:
    kube = FakeKube()
    created = await kube.create({**RUN, "status": {"phase": "TRAINED"}})
    assert "status" not in created
    with pytest.raises(AlreadyExists):
        await kube.create(RUN)


async def test_a_status_write_needs_the_newest_resource_version() -> None:
    kube = FakeKube()
    created = await kube.create(RUN)
    version = created["metadata"]["resourceVersion"]
    await kube.patch_status(
        TRAINING_RUNS, namespace="default", name="run", status={"phase": "queued"}, resource_version=version
    )
    with pytest.raises(Conflict):
        await kube.patch_status(
            TRAINING_RUNS, namespace="default", name="run", status={"phase": "failed"}, resource_version=version
        )
    stored = kube.find(TRAINING_RUNS, "run")
    assert stored is not None
    assert stored["status"] == {"phase": "queued"}
    assert stored["metadata"]["generation"] == 1


async def test_a_write_that_changes_nothing_keeps_the_resource_version() -> None:
    kube = FakeKube()
    created = await kube.create(RUN)
    again = await kube.patch(
        TRAINING_RUNS, namespace="default", name="run", merge_patch={"spec": {"plugin": "soft"}}, **as_seen(created)
    )
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_an_applied_status_part_replaces_what_its_manager_said_before_and_nothing_else() -> None:
    kube = FakeKube()
    created = await kube.create(RUN)

    async def apply(part: dict[str, object], manager: str) -> None:
        nonlocal written
        written = await kube.apply_status(
            TRAINING_RUNS,
            namespace="default",
            name="run",
            status_part=part,
            manager=manager,
            resource_version=written["metadata"]["resourceVersion"],
        )

    written = await kube.patch_status(
        TRAINING_RUNS,
        namespace="default",
        name="run",
        status={"phase": "TRAINING"},
        resource_version=created["metadata"]["resourceVersion"],
    )
    await apply({"report": {"attempt": 1, "error": {"detail": "no"}}}, "chorus-report")
    await apply({"progress": {"percent": 5}}, "chorus-progress")
    await apply({"report": {"attempt": 2}}, "chorus-report")
    stored = kube.find(TRAINING_RUNS, "run")
    assert stored is not None
    assert stored["status"] == {"phase": "TRAINING", "report": {"attempt": 2}, "progress": {"percent": 5}}


async def test_deleting_an_owner_deletes_its_children() -> None:
    kube = FakeKube()
    run = await kube.create(RUN)
    await kube.create(child("mine", run["metadata"]["uid"]))
    await kube.create(child("theirs", "another"))
    uid = run["metadata"]["uid"]
    assert await kube.delete(TRAINING_RUNS, namespace="default", name="run", uid=uid) == Deleted(found=True)
    assert [stored["metadata"]["name"] for stored in kube.all(CONFIG_MAPS)] == ["theirs"]
    assert await kube.delete(TRAINING_RUNS, namespace="default", name="run", uid=uid) == Deleted(found=False)


async def test_another_object_of_the_name_is_neither_patched_nor_deleted() -> None:
    kube = FakeKube()
    first = await kube.create(RUN)
    await kube.delete(TRAINING_RUNS, namespace="default", name="run", uid=first["metadata"]["uid"])
    second = await kube.create(RUN)
    assert not (await kube.delete(TRAINING_RUNS, namespace="default", name="run", uid=first["metadata"]["uid"])).found
    newest = {"uid": first["metadata"]["uid"], "resource_version": second["metadata"]["resourceVersion"]}
    with pytest.raises(Conflict):
        await kube.patch(TRAINING_RUNS, namespace="default", name="run", merge_patch={}, **newest)
    assert kube.find(TRAINING_RUNS, "run") == second


async def test_a_finalizer_keeps_a_deleted_object_until_it_is_taken_away() -> None:
    kube = FakeKube()
    stored = kube.put({**RUN, "metadata": {"name": "run", "finalizers": ["example.com/hold"]}})
    deleted = await kube.delete(TRAINING_RUNS, namespace="default", name="run", uid=stored["metadata"]["uid"])
    held = kube.find(TRAINING_RUNS, "run")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    assert (deleted.found, deleted.gone, deleted.remaining) == (True, False, held)
    await kube.patch(
        TRAINING_RUNS,
        namespace="default",
        name="run",
        merge_patch={"metadata": {"finalizers": None}},
        **as_seen(held),
    )
    assert kube.find(TRAINING_RUNS, "run") is None


async def test_status_of_a_missing_object_is_not_written() -> None:
    with pytest.raises(NotFound):
        await FakeKube().patch_status(JOBS, namespace="default", name="job", status={}, resource_version="1")
