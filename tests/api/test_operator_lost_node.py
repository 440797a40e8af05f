"""A node that is lost: its pods are asked to go and never say that they have. It takes over a minute: `-m chaos`."""

from __future__ import annotations

import pytest

from builders import make_plugin, make_project
from child_names import plain
from harness.apiserver import ControlPlane
from harness.client import Api
from harness.operator_harness import operator_harness
from harness.pods import Attempt, by_run

GRACE_SECONDS = 5
LOST_SECONDS = GRACE_SECONDS + 60 + 30
"""The grace, what is borne beyond it, and time to look."""


@pytest.mark.chaos
@pytest.mark.timeout(240)
async def test_a_run_whose_node_is_lost_is_tried_again_elsewhere(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    plan = by_run({"home-a-1": [Attempt(lingers=True)]})
    async with operator_harness(installed, api, namespace=namespace, plan=plan) as on:
        spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}, "checkpoint": {"graceSeconds": GRACE_SECONDS}}
        await on.create(make_plugin("soft", namespace=namespace, spec=spec))
        entries = [{"name": "a", "pluginRef": {"name": "soft"}}]
        await on.create(make_project("home", namespace=namespace, plugins=entries))
        await on.reaches("TrainingRun", "home-a-1", "TRAINING")
        on.kubelet.lose()
        [pod] = await api.list("Pod", namespace=namespace, labels="chorus.dev/role=train")
        name = pod["metadata"]["name"]
        # As the controller that evicts the pods of unreachable nodes does.
        disrupted = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "gone",
        }
        status = {"status": {"conditions": [disrupted]}}
        await api.patch("Pod", name, status, namespace=namespace, subresource="status")
        await api.delete("Pod", name, namespace=namespace)
        run = await on.reaches("TrainingRun", "home-a-1", "TRAINED", seconds=LOST_SECONDS)
        await api.wait_until_gone("Pod", name, namespace=namespace)
        assert run["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 1}
        deleted = [(request.resource, plain(request.name)) for request in on.work() if request.verb == "delete"]
        assert deleted == [("pods", plain(name)), ("jobs", "home-a-1-1")]
        assert set(on.jobs_created().values()) == {1}
        assert on.answered(403) == []
