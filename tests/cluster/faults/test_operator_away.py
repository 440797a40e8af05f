"""The operator is away while a container plugin ends whose messages a sidecar forwards: its last word is not lost."""

from __future__ import annotations

import pytest

from cluster_builders import claim_project
from fault_builders import ENDS_WELL, STARTS, program, until_told
from fault_stories import PROJECT, SECONDS, let_go, run_of, training_pod, wide_row
from harness.cluster import Cluster, Env
from harness.hands import lay_hands
from harness.nodes import operator_away

pytestmark = pytest.mark.faults


async def test_the_name_of_a_model_that_nobody_could_be_told_is_read_from_the_pod_when_the_operator_is_back(
    cluster: Cluster,
) -> None:
    async with Env.make(cluster.api, "away") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        script = f"{STARTS}; {until_told(ENDS_WELL)}"
        await place.apply(
            program("unheard", cluster.operator_image, script), claim_project(PROJECT, plugins=["unheard"])
        )
        run = run_of("unheard")
        pod = await training_pod(place, run)
        async with operator_away(cluster.api):
            await let_go(place, pod)
            # The sidecar tries to deliver it for chorus_client.forward.CLOSE_SECONDS, and then leaves it in its status.
            name = pod["metadata"]["name"]
            ended = await place.wait("Pod", name, phase="Succeeded", seconds=SECONDS)
            (sidecar,) = ended["status"]["initContainerStatuses"]
            assert "mended" in sidecar["state"]["terminated"]["message"]
        trained = await place.wait("TrainingRun", run, phase="TRAINED", seconds=SECONDS)
        assert trained["status"]["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
        assert "failure" not in trained["status"]
        row = await wide_row(place, run)
        assert (row["PHASE"], row["REASON"], row["MODEL"]) == ("TRAINED", "Trained", "mended")
        assert "mended" in row["MESSAGE"]
        assert "Model mended" in await place.describe("TrainingRun", run)
        assert "Trained" in {event["reason"] for event in await place.told(run, "Trained")}
