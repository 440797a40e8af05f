"""A run that gets no pod for a quota says so with the quota's numbers: the real admission and Job controller."""

from __future__ import annotations

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, eventually
from harness.operator_harness import operator_harness


async def test_a_quota_without_room_is_told_in_the_api_servers_words(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        soft = make_plugin("soft", namespace=namespace, spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}})
        await on.create(soft, make_project("home", namespace=namespace, plugins=["soft"], spec={"trainOn": "Manual"}))

        async def prepared() -> bool:
            return "dataset" in on.witness.present.get(("Project", "home"), {}).get("status", {})

        await eventually(prepared, what="the frame is ready", seconds=60)
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
        await api.create({**quota, "spec": {"hard": {"pods": "0"}}})
        used = {"hard": {"pods": "0"}, "used": {"pods": "0"}}
        await api.patch("ResourceQuota", "none", {"status": used}, namespace=namespace, subresource="status")
        await on.create(make_run("mine", namespace=namespace, project="home", plugin="soft"))

        async def told() -> bool:
            message = on.runs.get("mine", {}).get("status", {}).get("message", "")
            return "exceeded quota: none" in message and "limited: pods=0" in message

        await eventually(told, what="the run tells of the quota", seconds=60)
        assert on.answered(403) == []
