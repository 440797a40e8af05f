"""What a quota refuses is told in its own words, and what can be set takes it in: real admission and Job controller."""

from __future__ import annotations

from typing import Any

import pytest

from builders import make_plugin, make_project, make_run
from chorus_api.resources import Resources
from chorus_operator.manifests.job import service_account
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest, eventually
from harness.operator_harness import OperatorHarness, operator_harness
from operator_worlds import NOTHING_SAID, Pods, every_pod

LORA = {"baseModel": {"uri": "file:///models/tiny"}}
LIMITED = {"limits": {"cpu": "1", "memory": "2Gi"}}
OF_CHORUS = ("prepare", "fetch", "publish", "describe", "exchange")
"""Roles of pods whose main container is Chorus's to size."""


async def set_quota(api: Api, namespace: str, **hard: str) -> None:
    """Make a quota of which nothing is used yet; no controller counts what is used."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    await api.create({**quota, "spec": {"hard": hard}})
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    await api.patch("ResourceQuota", "none", {"status": status}, namespace=namespace, subresource="status")


async def ask_for_limits(api: Api, namespace: str) -> None:
    await set_quota(api, namespace, **{"limits.cpu": "100", "limits.memory": "1000Gi"})


async def test_a_quota_without_room_is_told_in_the_api_servers_words(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        soft = make_plugin("soft", namespace=namespace, spec={"lora": LORA})
        await on.create(soft, make_project("home", namespace=namespace, plugins=["soft"], spec={"trainOn": "Manual"}))

        async def prepared() -> bool:
            return "dataset" in on.witness.present.get(("Project", "home"), {}).get("status", {})

        await eventually(prepared, what="the frame is ready", seconds=60)
        await set_quota(api, namespace, pods="0")
        await on.create(make_run("mine", namespace=namespace, project="home", plugin="soft"))

        async def told() -> bool:
            message = on.runs.get("mine", {}).get("status", {}).get("message", "")
            return "exceeded quota: none" in message and "limited: pods=0" in message

        await eventually(told, what="the run tells of the quota", seconds=60)
        assert on.answered(403) == []


async def test_a_quota_that_asks_for_limits_takes_the_pods_of_a_project_that_sets_them_and_refuses_others(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        await ask_for_limits(api, namespace)
        await on.create(make_plugin("soft", namespace=namespace, spec={"lora": LORA, "resources": LIMITED}))
        sized = {"jobResources": {"limits": {"cpu": "50m"}}}
        await on.create(make_project("sized", namespace=namespace, plugins=["soft"], spec=sized))
        await on.create(make_project("bare", namespace=namespace, plugins=["soft"], spec={"trainOn": "Manual"}))
        await on.reaches("Project", "sized", "TRAINED")

        async def told() -> bool:
            return "must specify limits.cpu for: prepare" in status_of(on, "bare").get("message", "")

        await eventually(told, what="the Project tells what the quota asks for", seconds=60)
        assert "dataset" not in status_of(on, "bare")
        await api.patch("Project", "bare", {"spec": sized}, namespace=namespace)

        async def prepared() -> bool:
            return "dataset" in status_of(on, "bare")

        await eventually(prepared, what="the data is prepared with the limit that was set", seconds=60)


def status_of(on: OperatorHarness, project: str) -> dict[str, Any]:
    status: dict[str, Any] = on.witness.present.get(("Project", project), {}).get("status", {})
    return status


@pytest.fixture(scope="module")
def pods() -> tuple[Pods, Pods]:
    """One pod of each role, with and without a limit of cpu by the operator; they take an event loop of their own."""
    plugin_spec = {"resources": LIMITED}
    limited = every_pod(plugin_spec=plugin_spec, job_resources=Resources(limits={"cpu": "1"}))
    return limited, every_pod(plugin_spec=plugin_spec, job_resources=NOTHING_SAID)


async def test_every_pod_of_chorus_passes_a_quota_that_asks_for_limits_once_the_operator_is_told_of_one(
    pods: tuple[Pods, Pods], api: Api, namespace: str
) -> None:
    limited, bare = pods
    await ask_for_limits(api, namespace)
    await api.create(service_account(namespace))
    for role, spec in limited.items():
        await api.create(pod_of(f"limited-{role}", spec, namespace))
    for role in OF_CHORUS:
        with pytest.raises(ApiError, match=r"must specify limits\.cpu"):
            await api.create(pod_of(f"bare-{role}", bare[role], namespace))


def pod_of(name: str, spec: dict[str, Any], namespace: str) -> Manifest:
    metadata = {"name": name.replace(" ", "-"), "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
