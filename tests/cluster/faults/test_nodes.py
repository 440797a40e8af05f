"""What happens to nodes: a drain, a stop and a start, a disk that is full.

All runs are of one Project on one node, on which the operator is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from cluster_builders import claim_project, lora_plugin
from fault_builders import IGNORES_SIGTERM, STARTS, on_sigterm, once, program
from fault_stories import (
    PROJECT,
    START_SECONDS,
    assert_failed,
    assert_tried_again,
    assert_words,
    run_of,
    training_pod,
)
from harness.client import Manifest
from harness.cluster import Cluster, Env
from harness.hands import POD, lay_hands
from harness.nodes import cordoned, operator_node, small_disk, stopped, uncordon, volume_on_node

pytestmark = [pytest.mark.faults, pytest.mark.nodes]

LONG = {"epochs": 200, "batchSize": 4}
FULL = "full"
FULL_MEGABYTES = 12
FILLS_THE_CLAIM = f"""{STARTS}; exec python -c '
import os
with open(os.environ["CHORUS_RUN_DIR"] + "/large", "wb") as file:
    while True:
        file.write(bytes(2**20))
'"""


@dataclass(frozen=True)
class Batch:
    """The namespace, and the node that all its pods are on."""

    place: Env
    node: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batch(cluster: Cluster) -> AsyncIterator[Batch]:
    image = cluster.operator_image
    async with Env.make(cluster.api, "nodes") as place:
        async with cordoned(cluster.api, await operator_node(cluster.api)):
            await lay_hands(place, image=image, models=cluster.models)
        made = [
            program("drained", image, once(on_sigterm(143))),
            program("restarted", image, once(f"{STARTS}; {IGNORES_SIGTERM}")),
            lora_plugin("learning", lora=LONG),
        ]
        names = [plugin["metadata"]["name"] for plugin in made]
        await place.apply(*made, claim_project(PROJECT, plugins=names))
        hands = await cluster.api.get("Pod", POD, namespace=place.namespace)
        yield Batch(place, hands["spec"]["nodeName"])


async def test_a_drain_says_who_evicted_which_pod_from_which_node(batch: Batch) -> None:
    place, run = batch.place, run_of("drained")
    pod = (await training_pod(place, run))["metadata"]["name"]
    try:
        # Only this pod: what else is on the node is needed.
        chosen = (f"--pod-selector=chorus.dev/run={run}", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        await place.kubectl("drain", batch.node, *chosen, "--timeout=60s", seconds=90)
    finally:
        await uncordon(place.api, batch.node)
    words = ("Eviction API: evicting", pod, batch.node)
    await assert_tried_again(place, run, reason="Disrupted", words=words)


async def test_a_node_that_is_stopped_and_started_is_a_disruption_and_training_goes_on_from_its_checkpoint(
    batch: Batch,
) -> None:
    place = batch.place
    pods = {name: await training_pod(place, run_of(name)) for name in ("restarted", "learning")}
    await place.wait("TrainingRun", run_of("learning"), where=has_saved, seconds=START_SECONDS)
    async with stopped(place.api, batch.node):
        pass
    for name, pod in pods.items():
        words = (f"Node {batch.node} was stopped or restarted while pod {pod['metadata']['name']} ran.",)
        failure = await assert_tried_again(place, run_of(name), reason="Disrupted", words=words)
        assert failure["exitCode"] == 255
    assert steps_of(place, run_of("learning"), attempt=2)[0] >= saved_by_the_first(place, run_of("learning")) > 0


def has_saved(run: Manifest) -> bool:
    return bool(run["status"].get("checkpoint", {}).get("step"))


def steps_of(place: Env, run: str, *, attempt: int) -> list[int]:
    """The steps that progress of an attempt told of, in order."""
    seen = [version["status"]["progress"] for version in progressing(place, run)]
    return [progress["step"] for progress in seen if progress["attempt"] == attempt]


def saved_by_the_first(place: Env, run: str) -> int:
    """The step of the checkpoint when the second attempt had not said anything yet."""
    seen = [version["status"] for version in progressing(place, run)]
    of_first = [status for status in seen if status["progress"]["attempt"] == 1 and "checkpoint" in status]
    return int(of_first[-1]["checkpoint"]["step"])


def progressing(place: Env, run: str) -> list[Manifest]:
    seen = place.record.versions("TrainingRun", name=run)
    return [version for version in seen if "progress" in version.get("status", {})]


async def test_a_claim_that_is_full_is_told_by_the_programs_own_error(batch: Batch, cluster: Cluster) -> None:
    place, path = batch.place, f"/mnt/{batch.place.namespace}"
    async with (
        small_disk(batch.node, path, megabytes=FULL_MEGABYTES),
        volume_on_node(place, claim=FULL, node=batch.node, path=path),
    ):
        await place.apply(
            program("writing", cluster.operator_image, FILLS_THE_CLAIM, spec={"retry": {"infrastructure": 0}}),
            claim_project(FULL, plugins=["writing"], spec={"storage": {"claimName": FULL}}),
        )
        words = ("No space left on device",)
        run = await assert_failed(
            place, run_of("writing", FULL), reason="VolumeFull", words=words, failure_class="infrastructure"
        )
        assert_words(("Traceback (most recent call last)",), run["status"]["failure"]["logTail"])
