"""Programs that fail or hang, and pods that are taken from programs that do not; and a model that is worse than none.

Almost all runs are of one Project, and all train side by side from the first test on; each test awaits its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from builders import make_run
from cluster_builders import LORA, claim_project, lora_plugin
from fault_builders import (
    ENDS_WELL,
    EVAL_FRACTION,
    IGNORES_SIGTERM,
    STARTS,
    contrary_table,
    on_sigterm,
    once,
    program,
    until_told,
)
from fault_stories import (
    PROJECT,
    SECONDS,
    assert_failed,
    assert_shown,
    assert_tried_again,
    assert_words,
    let_go,
    run_of,
    side_by_side,
    training_pod,
    wide_row,
)
from harness.client import Manifest
from harness.cluster import Cluster, Env, conditions
from harness.hands import lay_hands

pytestmark = pytest.mark.faults

FORBIDS = "strict"
CONTRARY = "contrary"
NOTHING_COUNTED = {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
ACTIVE_SECONDS = 20
RAISES = """exec python -c 'raise ValueError("row 17 has no price")'"""
TAKES_MEMORY = "exec python -c 'bytearray(2**30)'"
FILLS_THE_DISK = f"{STARTS}; head -c 400000000 /dev/zero > /tmp/large; {IGNORES_SIGTERM}"
LEARNS_BY_HEART = {"learningRate": "1e-2", "epochs": 40}


def plugins(image: str) -> list[Manifest]:
    """A Plugin for each fault."""
    little = {"resources": {"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}}}
    small_disk = {"resources": {"limits": {"ephemeral-storage": "32Mi"}, "requests": {"ephemeral-storage": "16Mi"}}}
    limited = {"deadlines": {"activeSeconds": ACTIVE_SECONDS}}
    waits = f"{STARTS}; {until_told(ENDS_WELL)}"
    return [
        program("greedy", image, TAKES_MEMORY, spec=little),
        program("raising", image, RAISES),
        program("writing", image, FILLS_THE_DISK, spec=small_disk),
        program("slow", image, f"{STARTS}; {IGNORES_SIGTERM}", spec=limited),
        program("robbed", image, once(on_sigterm(75))),
        program("forced", image, once(f"{STARTS}; {IGNORES_SIGTERM}")),
        program("evicted", image, once(on_sigterm(143))),
        program("forgotten", image, waits),
        program("busy", image, waits),
        lora_plugin("worse", lora=LORA | LEARNS_BY_HEART),
    ]


@dataclass(frozen=True)
class Batch:
    """The namespace, and the stories that are being lived in it."""

    place: Env
    tasks: Mapping[str, asyncio.Task[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batch(cluster: Cluster) -> AsyncIterator[Batch]:
    async with Env.make(cluster.api, "programs") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        made = plugins(cluster.operator_image)
        names = [plugin["metadata"]["name"] for plugin in made if plugin["spec"]["type"] == "container"]
        contrary = {"evalFraction": str(EVAL_FRACTION), "source": {"inline": {"data": contrary_table()}}}
        await place.apply(
            *made,
            claim_project(PROJECT, plugins=names),
            claim_project(CONTRARY, plugins=["worse"], spec={"dataset": contrary}),
            claim_project(FORBIDS, plugins=["busy"], spec={"concurrencyPolicy": "Forbid"}),
        )
        stories = {
            "robbed": delete_pod(place, "robbed"),
            "forced": delete_pod(place, "forced", "--force", "--grace-period=0"),
            "evicted": evict(place),
            "forgotten": delete_plugin(place),
            "queue": run_twice(place, PROJECT),
            "forbid": run_twice(place, FORBIDS),
        }
        async with side_by_side(stories) as tasks:
            yield Batch(place, tasks)


async def delete_pod(place: Env, plugin: str, *how: str) -> Manifest:
    """Delete the pod of a run that trains; the pod."""
    pod = await training_pod(place, run_of(plugin))
    await place.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *how)
    return pod


async def evict(place: Env) -> Manifest:
    """Evict the pod of a run that trains, as a drain does it; the pod."""
    pod = await training_pod(place, run_of("evicted"))
    metadata = {"name": pod["metadata"]["name"], "namespace": place.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{place.namespace}/pods/{metadata['name']}/eviction"
    await place.api.request("POST", path, body=eviction)
    return pod


async def delete_plugin(place: Env) -> None:
    """Delete the Plugin of a run that trains, and let its program end when the Project has noticed."""
    pod = await training_pod(place, run_of("forgotten"))
    await place.kubectl("delete", "cplug", "forgotten")
    # An entry whose Plugin is gone makes no new run: the Project was reconciled, and with it what belongs to it.
    await place.patch("TrainingRun", run_of("forgotten"), {"metadata": {"labels": {"touched": "yes"}}})
    await let_go(place, pod)


async def run_twice(place: Env, project: str) -> Manifest:
    """Ask for a second run of a plugin while the first trains; the second as it was before the first had ended."""
    pod = await training_pod(place, run_of("busy", project))
    second = f"second-{project}"
    await place.apply(make_run(second, project=project, plugin="busy"))
    phase, reason = {PROJECT: ("queued", "Queued"), FORBIDS: ("cancelled", "ConcurrencyForbidden")}[project]
    seen = await place.wait("TrainingRun", second, phase=phase, where=because_of(reason), seconds=SECONDS)
    words = {"queued": "Waiting for its turn", "cancelled": f"Run '{run_of('busy', project)}'"}[phase]
    await assert_shown(place, second, phase=phase, reason=reason, words=(words,))
    await let_go(place, pod)
    return seen


def because_of(reason: str) -> Any:
    return lambda run: run["status"].get("reason") == reason


async def test_a_container_over_its_memory_limit_is_told_from_a_crash(batch: Batch) -> None:
    words = ("The container went over its memory limit and was killed.",)
    run = await assert_failed(batch.place, run_of("greedy"), reason="OutOfMemory", words=words)
    failure = run["status"]["failure"]
    assert failure["exitCode"] == 137
    assert "resources.limits.memory" in failure["hint"]
    assert "batchSize" not in failure["hint"]
    assert run["status"]["attempts"]["current"] == 1


async def test_a_traceback_is_told_by_the_line_of_its_exception(batch: Batch) -> None:
    words = ("ValueError: row 17 has no price",)
    run = await assert_failed(batch.place, run_of("raising"), reason="TrainingFailed", words=words)
    assert run["status"]["failure"]["exitCode"] == 1
    assert_words(("Traceback (most recent call last)",), run["status"]["failure"]["logTail"])


async def test_a_pod_over_its_own_ephemeral_storage_names_the_field_to_raise_and_is_not_tried_again(
    batch: Batch,
) -> None:
    words = (
        "Pod ephemeral local storage usage exceeds the total limit of containers",
        "spec.scratch.size",
        "resources.limits.ephemeral-storage",
        "was evicted",
    )
    run = await assert_failed(batch.place, run_of("writing"), reason="ScratchFull", words=words)
    assert run["status"]["failure"]["node"] in run["status"]["message"]
    assert run["status"]["attempts"]["current"] == 1


async def test_a_run_past_its_active_seconds_names_the_field(batch: Batch) -> None:
    words = (f"longer than deadlines.activeSeconds ({ACTIVE_SECONDS} s)",)
    await assert_failed(batch.place, run_of("slow"), reason="ActiveDeadlineExceeded", words=words)


async def test_a_program_that_saved_when_its_pod_was_deleted_is_tried_again(batch: Batch) -> None:
    pod = await batch.tasks["robbed"]
    words = ("told to stop, saved its state and can go on", pod["metadata"]["name"])
    failure = await assert_tried_again(batch.place, run_of("robbed"), reason="Disrupted", words=words)
    assert failure["exitCode"] == 75


async def test_a_pod_that_is_deleted_by_force_is_tried_again(batch: Batch) -> None:
    pod = await batch.tasks["forced"]
    await assert_tried_again(batch.place, run_of("forced"), reason="Disrupted", words=(pod["metadata"]["name"],))


async def test_an_eviction_says_who_evicted_which_pod_from_which_node(batch: Batch) -> None:
    pod = await batch.tasks["evicted"]
    words = ("Eviction API: evicting", pod["metadata"]["name"], pod["spec"]["nodeName"])
    await assert_tried_again(batch.place, run_of("evicted"), reason="Disrupted", words=words)


async def test_a_run_whose_plugin_is_deleted_goes_on_with_what_was_frozen(batch: Batch) -> None:
    await batch.tasks["forgotten"]
    run = await batch.place.wait("TrainingRun", run_of("forgotten"), phase="TRAINED", seconds=SECONDS)
    assert run["status"]["attempts"] == NOTHING_COUNTED
    assert "failure" not in run["status"]
    assert (await wide_row(batch.place, run_of("forgotten")))["MODEL"] == "mended"


async def test_a_second_run_of_a_plugin_waits_for_its_turn(batch: Batch) -> None:
    await batch.tasks["queue"]
    await batch.place.wait("TrainingRun", run_of("busy"), phase="TRAINED", seconds=SECONDS)
    second = f"second-{PROJECT}"
    await let_go(batch.place, await training_pod(batch.place, second))
    run = await batch.place.wait("TrainingRun", second, phase="TRAINED", seconds=SECONDS)
    assert run["status"]["attempts"] == NOTHING_COUNTED


async def test_a_second_run_is_cancelled_where_the_project_forbids_it(batch: Batch) -> None:
    cancelled = await batch.tasks["forbid"]
    assert "concurrencyPolicy is Forbid" in cancelled["status"]["message"]
    assert not [job for job in batch.place.record.uids("Job") if job.startswith(f"second-{FORBIDS}")]
    await batch.place.wait("TrainingRun", run_of("busy", FORBIDS), phase="TRAINED", seconds=SECONDS)


async def test_an_adapter_that_is_worse_than_none_is_trained_and_degraded_and_not_promoted(batch: Batch) -> None:
    place, name = batch.place, run_of("worse", CONTRARY)
    run = await place.wait("TrainingRun", name, phase="TRAINED", seconds=SECONDS)
    metrics = {key: float(value) for key, value in run["status"]["model"]["metrics"].items()}
    assert metrics["eval_loss"] > metrics["eval_loss_without_adapter"]
    degraded = conditions(run)["Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "WorseThanBaseModel")
    assert run["status"]["model"]["promoted"] is False
    row = await wide_row(place, name)
    assert (row["PHASE"], row["MODEL"]) == ("TRAINED", run["status"]["model"]["name"])
    assert "worse" in row["MESSAGE"].lower()
    assert_words((degraded["message"],), await place.describe("TrainingRun", name))
    project = await place.api.get("Project", CONTRARY, namespace=place.namespace)
    assert project["status"].get("latestModel", []) == []
