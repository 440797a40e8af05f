"""The client and the API server itself: watches, and writes that say which object they mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from builders import make_run
from chorus_api import contract
from chorus_kube.client import Deleted, Kube
from chorus_kube.errors import Conflict, Gone, Invalid
from chorus_kube.resources import CONFIG_MAPS, JOBS, PODS, TRAINING_RUNS
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest

OWN = {contract.MANAGED_BY_LABEL: contract.MANAGED_BY}
END = "k8s.io/initial-events-end"


@pytest.fixture
async def kube(control_plane: ControlPlane) -> AsyncIterator[Kube]:
    async with await Kube.connect(str(control_plane.admin_kubeconfig)) as client:
        yield client


def config_map(name: str, namespace: str, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": OWN, **metadata},
    }


def is_end(event: Manifest) -> bool:
    return event["type"] == "BOOKMARK" and event["object"]["metadata"].get("annotations", {}).get(END) == "true"


async def read(
    kube: Kube, namespace: str | None, *, count: int | None = None, version: str | None = None
) -> list[Manifest]:
    """Read so many events of Chorus's ConfigMaps, or all up to where those that were there end."""
    found: list[Manifest] = []
    async with (
        asyncio.timeout(30),
        aclosing(kube.watch(CONFIG_MAPS, namespace=namespace, labels=OWN, resource_version=version)) as events,
    ):
        async for event in events:
            found.append(event)
            if len(found) == count or (count is None and is_end(event)):
                break
    return found


def told(events: list[Manifest]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def test_a_watch_begins_with_what_is_there_and_says_when_that_is_all(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("one", namespace))
    await kube.create(config_map("two", namespace))
    await kube.create(config_map("others", namespace, labels={}))
    events = await read(kube, namespace)
    assert sorted(told(events[:2])) == [("ADDED", "one"), ("ADDED", "two")]
    assert {(event["object"]["apiVersion"], event["object"]["kind"]) for event in events} == {("v1", "ConfigMap")}
    end = events[2]
    assert is_end(end)
    version = end["object"]["metadata"]["resourceVersion"]
    three = await kube.create(config_map("three", namespace))
    await kube.delete(CONFIG_MAPS, namespace=namespace, name="three", uid=three["metadata"]["uid"])
    assert told(await read(kube, namespace, count=2, version=version)) == [("ADDED", "three"), ("DELETED", "three")]


async def test_a_watch_of_all_namespaces_needs_no_right_to_list(
    kube: Kube, control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    role = {"name": f"watch-{namespace}"}
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]}]
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    await api.create({"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": role, "rules": rules})
    await api.create(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **role},
            "subjects": [subject],
        }
    )
    await kube.create(config_map("seen", namespace))
    kubeconfig = await control_plane.kubeconfig_for("default", namespace=namespace)
    async with await Kube.connect(str(kubeconfig)) as watcher:
        assert ("ADDED", "seen") in told(await read(watcher, None))


async def test_a_version_that_the_api_server_has_forgotten_is_gone(kube: Kube, namespace: str) -> None:
    """It knows nothing of a custom resource from before its definition."""
    with pytest.raises(Gone, match="too old"):
        async for _ in kube.watch(TRAINING_RUNS, namespace=namespace, labels=None, resource_version="1"):
            pass


async def test_a_patch_for_a_job_that_has_changed_or_is_another_is_refused(
    kube: Kube, api: Api, namespace: str
) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"template": template},
    }

    async def suspend(seen: Manifest, **otherwise: str) -> Manifest:
        metadata = seen["metadata"]
        meant = {"uid": metadata["uid"], "resource_version": metadata["resourceVersion"], **otherwise}
        patch = {"spec": {"suspend": True}}
        return await kube.patch(JOBS, namespace=namespace, name="job", merge_patch=patch, **meant)

    first = await kube.create(manifest)
    await api.patch("Job", "job", {"metadata": {"labels": {"a": "b"}}}, namespace=namespace)
    with pytest.raises(Conflict):
        await suspend(first)
    deleted = await kube.delete(JOBS, namespace=namespace, name="job", uid=first["metadata"]["uid"])
    assert deleted.found
    await api.wait_until_gone("Job", "job", namespace=namespace)
    second = await kube.create(manifest)
    with pytest.raises(Conflict):
        await suspend(first)
    newest = await api.get("Job", "job", namespace=namespace)
    assert not newest["spec"].get("suspend")
    with pytest.raises((Conflict, Invalid)):
        await suspend(newest, uid=first["metadata"]["uid"])
    assert newest["metadata"]["uid"] == second["metadata"]["uid"]


async def test_a_deletion_tells_what_is_left_of_the_object(kube: Kube, api: Api, namespace: str) -> None:
    async def delete(resource: Any, stored: Manifest, **how: Any) -> Deleted:
        metadata = stored["metadata"]
        return await kube.delete(resource, namespace=namespace, name=metadata["name"], uid=metadata["uid"], **how)

    assert await delete(CONFIG_MAPS, await kube.create(config_map("plain", namespace))) == Deleted(found=True)
    run = await kube.create(make_run("home-1", namespace=namespace))
    assert await delete(TRAINING_RUNS, run) == Deleted(found=True)
    held = await kube.create(config_map("held", namespace, finalizers=["example.com/hold"]))
    deleted = await delete(CONFIG_MAPS, held)
    assert deleted.remaining == await kube.get(CONFIG_MAPS, namespace=namespace, name="held")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": namespace},
        "spec": {"nodeName": "node", "containers": [{"name": "main", "image": "x"}]},
    }
    stored = await kube.create(pod)
    ending = await delete(PODS, stored)
    assert ending.remaining is not None
    assert ending.remaining["metadata"]["deletionGracePeriodSeconds"] == 30
    assert await delete(PODS, stored, grace_seconds=0) == Deleted(found=True)
    assert await delete(PODS, stored) == Deleted(found=False)
    del pod["spec"]["nodeName"]  # type: ignore[attr-defined]
    assert await delete(PODS, await kube.create(pod)) == Deleted(found=True)  # no node knows of it


async def test_a_deletion_leaves_another_object_of_the_name_alone(kube: Kube, namespace: str) -> None:
    first = await kube.create(config_map("one", namespace))
    uid = first["metadata"]["uid"]
    await kube.delete(CONFIG_MAPS, namespace=namespace, name="one", uid=uid)
    second = await kube.create(config_map("one", namespace))
    assert await kube.delete(CONFIG_MAPS, namespace=namespace, name="one", uid=uid) == Deleted(found=False)
    assert await kube.get(CONFIG_MAPS, namespace=namespace, name="one") == second
