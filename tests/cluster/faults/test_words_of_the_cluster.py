"""Faults of seconds, where the words of kubelet, API server and Job controller matter most: also run in CI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from cluster_builders import PIECES, claim_project
from fault_builders import IGNORES_SIGTERM, STARTS, make_quota, on_sigterm, once, program
from fault_stories import (
    PROJECT,
    SECONDS,
    assert_failed,
    assert_shown,
    assert_tried_again,
    assert_waiting,
    assert_words,
    job_of,
    run_of,
    side_by_side,
    training_pod,
)
from harness.client import Manifest
from harness.cluster import Cluster, Env
from harness.hands import lay_hands

pytestmark = [pytest.mark.faults, pytest.mark.ci]

GPU = "nvidia.com/gpu"
SILENT_SECONDS = 15
HANGS = f"echo epoch 1 of 9; {STARTS}; {IGNORES_SIGTERM}"


def plugins(image: str) -> list[Manifest]:
    """A Plugin for each fault."""
    return [
        program("no-program", image, spec={"container": {"command": ["/no/such/program"]}}),
        program("hung", image, HANGS, spec={"deadlines": {"progressSeconds": SILENT_SECONDS}}),
        program("terminated", image, once(on_sigterm(143))),
        program("held", image, once(on_sigterm(143)), spec={"pod": {"queueName": "evenings"}}),
        program("no-quota", image, spec={"accelerator": {"resourceName": GPU}, "resources": PIECES}),
    ]


@dataclass(frozen=True)
class Batch:
    """The namespace, and the stories that are being lived in it."""

    place: Env
    tasks: Mapping[str, asyncio.Task[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batch(cluster: Cluster) -> AsyncIterator[Batch]:
    async with Env.make(cluster.api, "words") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        made = plugins(cluster.operator_image)
        names = [plugin["metadata"]["name"] for plugin in made]
        await place.apply(make_quota("gpus", {f"requests.{GPU}": "0"}), *made, claim_project(PROJECT, plugins=names))
        async with side_by_side({"terminated": delete_pod(place), "held": hold(place)}) as tasks:
            yield Batch(place, tasks)


async def delete_pod(place: Env) -> str:
    """Delete the pod of a program that SIGTERM ends; the pod's name."""
    pod = await training_pod(place, run_of("terminated"))
    name: str = pod["metadata"]["name"]
    await place.kubectl("delete", "pod", name, "--wait=false")
    return name


async def hold(place: Env) -> list[Manifest]:
    """Suspend the Job of a run that trains, and let it go on; the Job as it was made, suspended and let go."""
    run = run_of("held")
    pod = await training_pod(place, run)
    made = await job_of(place, run)
    name = made["metadata"]["name"]
    await place.kubectl("patch", "job", name, "--type=merge", "--patch", '{"spec":{"suspend":true}}')
    await place.wait("TrainingRun", run, phase="queued", seconds=SECONDS)
    # Let go before, the Job controller may fail the Job for the exit of the pod that it stopped itself.
    await place.api.wait_until_gone("Pod", pod["metadata"]["name"], namespace=place.namespace, seconds=SECONDS)
    await assert_shown(place, run, phase="queued", reason="JobSuspended", words=(name,))
    held = await place.api.get("Job", name, namespace=place.namespace)
    await place.kubectl("patch", "job", name, "--type=merge", "--patch", '{"spec":{"suspend":false}}')
    return [made, held]


async def test_a_command_that_is_not_in_the_image_is_named_in_the_words_of_the_container_runtime(batch: Batch) -> None:
    words = ('exec: "/no/such/program"', "The container could not be started:", "no such file or directory")
    run = await assert_failed(batch.place, run_of("no-program"), reason="ContainerConfigError", words=words)
    assert run["status"]["attempts"]["current"] == 1
    assert "command" in run["status"]["failure"]["hint"]


async def test_a_quota_without_room_is_told_with_its_numbers_while_the_job_is_still_there(batch: Batch) -> None:
    words = ("exceeded quota: gpus", f"requested: requests.{GPU}=1", f"limited: requests.{GPU}=0")
    await assert_waiting(batch.place, run_of("no-quota"), reason="Pending", words=words)
    job = await job_of(batch.place, run_of("no-quota"))
    assert "exceeded quota: gpus" in await batch.place.describe("Job", job["metadata"]["name"])


async def test_the_log_of_a_program_that_hangs_is_kept(batch: Batch) -> None:
    words = (f"has said nothing for deadlines.progressSeconds ({SILENT_SECONDS} s)",)
    run = await assert_failed(batch.place, run_of("hung"), reason="ProgressDeadlineExceeded", words=words)
    assert_words(("epoch 1 of 9",), run["status"]["failure"]["logTail"])


async def test_a_program_that_sigterm_ended_in_a_pod_that_somebody_deleted_is_tried_again(batch: Batch) -> None:
    pod = await batch.tasks["terminated"]
    failure = await assert_tried_again(
        batch.place, run_of("terminated"), reason="Disrupted", words=(f"Somebody deleted pod {pod}",)
    )
    assert (failure["pod"], failure["exitCode"]) == (pod, 143)


async def test_a_job_that_somebody_suspends_is_left_suspended_and_its_run_goes_on_when_it_is_let_go(
    batch: Batch,
) -> None:
    made, held = await batch.tasks["held"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "evenings"
    assert held["spec"]["suspend"] is True
    run = await batch.place.wait("TrainingRun", run_of("held"), phase="TRAINED", seconds=SECONDS)
    counted = {name: count for name, count in run["status"]["attempts"].items() if name != "current"}
    assert counted == {"user": 0, "infrastructure": 0, "disruption": 0}
    assert "failure" not in run["status"]
