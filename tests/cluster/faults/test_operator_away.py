"""The operator is away while a container plugin ends whose messages a sidecar forwards: its last word is not lost."""

from __future__ import annotations

import pytest

from cluster_builders import claim_project
from fault_builders import ENDS_WELL, GRACE_SECONDS, STARTS, program, until_told
from fault_stories import PROJECT, SECONDS, let_go, run_of, training_pod, wide_row
from harness.cluster import Cluster, Env
from harness.hands import lay_hands
from harness.nodes import operator_away

pytestmark = pytest.mark.faults


GRACES = {"brief": GRACE_SECONDS, "patient": 60}
"""Seconds that a pod has to end in, by plugin: fewer than the sidecar tries to deliver for, and more."""


async def test_the_name_of_a_model_that_nobody_could_be_told_is_read_from_the_pod_when_the_operator_is_back(
    cluster: Cluster,
) -> None:
    async with Env.make(cluster.api, "away") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        script = f"{STARTS}; {until_told(ENDS_WELL)}"
        for name, seconds in GRACES.items():
            grace = {"checkpoint": {"graceSeconds": seconds}}
            await place.apply(program(name, cluster.operator_image, script, spec=grace))
        await place.apply(claim_project(PROJECT, plugins=list(GRACES)))
        pods = [await training_pod(place, run_of(name)) for name in GRACES]
        async with operator_away(cluster.api):
            for pod in pods:
                await let_go(place, pod)
            for pod in pods:
                ended = await place.wait("Pod", pod["metadata"]["name"], phase="Succeeded", seconds=SECONDS)
                (sidecar,) = ended["status"]["initContainerStatuses"]
                assert "mended" in sidecar["state"]["terminated"].get("message", ""), sidecar
        for name in GRACES:
            await assert_trained(place, run_of(name))


async def assert_trained(place: Env, run: str) -> None:
    """Wait until the run is TRAINED at its first attempt, and look at what is said of it."""
    trained = await place.wait("TrainingRun", run, phase="TRAINED", seconds=SECONDS)
    assert trained["status"]["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
    assert "failure" not in trained["status"]
    row = await wide_row(place, run)
    assert (row["PHASE"], row["REASON"], row["MODEL"]) == ("TRAINED", "Trained", "mended")
    assert "mended" in row["MESSAGE"]
    assert "Model mended" in await place.describe("TrainingRun", run)
    assert "Normal" in {event["type"] for event in await place.told(run, "Trained") if event["reason"] == "Trained"}
