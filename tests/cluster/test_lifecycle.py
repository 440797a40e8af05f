"""What people and clusters do to a run that trains: cancel, suspend and resume, take its pod away, give it no memory.

The stories run side by side from the first test on; each test awaits its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from cluster_builders import claim_project, lora_plugin
from harness.client import Manifest
from harness.cluster import Cluster, Env
from harness.hands import lay_hands

SECONDS = 420
START_SECONDS = 240
ENDLESS = {"epochs": 1000, "batchSize": 1}
LONG = {"epochs": 100}
RUN_PAUSED = "story-paused-1"
NOTHING_COUNTED = {"user": 0, "infrastructure": 0, "disruption": 0}

WRITE_EVERYWHERE = """
import json, os
written = []
for folder, _, _ in os.walk("/", onerror=None):
    if folder.startswith(("/proc", "/sys", "/dev")):
        continue
    path = os.path.join(folder, "written-by-a-test")
    try:
        open(path, "w").close()
        os.unlink(path)
        written.append(folder)
    except OSError:
        pass
print(json.dumps(written))
"""


@dataclass(frozen=True)
class Stories:
    """The namespace, and the stories that are being lived in it."""

    place: Env
    tasks: Mapping[str, asyncio.Task[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stories(cluster: Cluster) -> AsyncIterator[Stories]:
    async with Env.make(cluster.api, "life") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        await place.apply(
            lora_plugin("endless", lora=ENDLESS),
            lora_plugin("long", lora=LONG),
            lora_plugin("starved", spec={"resources": {"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}}}),
            claim_project("story", plugins=(entry("cancelled", "endless"), entry("paused", "long"), "starved")),
            claim_project("other", plugins=(entry("robbed", "long"),)),
        )
        begun: dict[str, Coroutine[Any, Any, Any]] = {
            "cancelled": cancel(place),
            "paused": pause(place),
            "robbed": rob(place),
        }
        tasks = {name: asyncio.create_task(story) for name, story in begun.items()}
        try:
            yield Stories(place, tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def entry(name: str, plugin: str) -> dict[str, Any]:
    return {"name": name, "pluginRef": {"name": plugin}}


async def cancel(place: Env) -> list[str]:
    """Cancel a run while it trains; what its pod could write to before."""
    run = "story-cancelled-1"
    pod = await place.pod_of(run, seconds=START_SECONDS)
    await place.wait("TrainingRun", run, phase="TRAINING", seconds=START_SECONDS)
    written: list[str] = await place.python(pod["metadata"]["name"], WRITE_EVERYWHERE)
    await place.patch("TrainingRun", run, {"spec": {"cancel": True}})
    return written


async def pause(place: Env) -> tuple[Manifest, list[Manifest]]:
    """Suspend a run while it trains, then let it go on; the run while it stood still, and its pods then."""
    run = RUN_PAUSED
    await place.wait("TrainingRun", run, phase="TRAINING", where=has_learned, seconds=START_SECONDS)
    await place.patch("TrainingRun", run, {"spec": {"suspend": True}})
    still = await place.wait("TrainingRun", run, phase="suspended", seconds=120)
    pods = place.record.all("Pod", labels={"chorus.dev/run": run})
    await place.patch("TrainingRun", run, {"spec": {"suspend": False}})
    return still, pods


def has_learned(run: Manifest) -> bool:
    """Whether there is something to save."""
    return bool(run["status"].get("progress", {}).get("step"))


async def rob(place: Env) -> str:
    """Delete the pod of a run while it trains; its name."""
    run = "other-robbed-1"
    pod = await place.pod_of(run, seconds=START_SECONDS)
    await place.wait("TrainingRun", run, phase="TRAINING", seconds=START_SECONDS)
    name: str = pod["metadata"]["name"]
    await place.kubectl("delete", "pod", name, "--wait=false")
    return name


async def test_a_training_pod_can_write_to_its_run_and_to_tmp_alone(stories: Stories) -> None:
    written = await stories.tasks["cancelled"]
    roots = {"/".join(path.split("/")[:3]) for path in written if not path.startswith("/tmp")}
    assert roots == {"/chorus/run"}


async def test_a_cancelled_run_stops_its_pod_and_ends(stories: Stories) -> None:
    await stories.tasks["cancelled"]
    run = await stories.place.wait("TrainingRun", "story-cancelled-1", phase="cancelled", seconds=120)
    assert run["status"]["reason"] == "CancelledByUser"
    assert "model" not in run["status"]
    row = await stories.place.row("TrainingRun", "story-cancelled-1")
    assert (row["PHASE"], row["REASON"]) == ("cancelled", "CancelledByUser")
    labels = "chorus.dev/run=story-cancelled-1"
    pods = await stories.place.api.list("Pod", namespace=stories.place.namespace, labels=labels)
    assert [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"] == []


async def test_a_suspended_run_holds_no_pod_and_has_saved(stories: Stories) -> None:
    still, pods = await stories.tasks["paused"]
    assert still["status"]["reason"] == "Suspended"
    assert still["status"]["checkpoint"]["step"] > 0
    assert [pod for pod in pods if pod["status"]["phase"] not in ("Failed", "Succeeded")] == []
    assert 75 in exit_codes([pod for pod in stories.place.record.versions("Pod") if is_of(pod, RUN_PAUSED)])


async def test_a_resumed_run_goes_on_where_it_stopped_and_costs_no_retry(stories: Stories) -> None:
    still, _ = await stories.tasks["paused"]
    run = await stories.place.wait("TrainingRun", RUN_PAUSED, phase="TRAINED", seconds=SECONDS)
    assert counted(run) == NOTHING_COUNTED, what_happened(stories.place, RUN_PAUSED)
    steps = steps_of(stories.place, RUN_PAUSED)
    assert steps == sorted(steps)
    told_before = still["status"]["progress"]["step"]
    went_on = [step for step in steps if step > told_before]
    assert min(went_on) >= still["status"]["checkpoint"]["step"] > 0, steps
    phases = stories.place.record.phases("TrainingRun", RUN_PAUSED)
    assert phases == ["queued", "PREPROCESSING", "TRAINING", "suspended", "TRAINING", "TRAINED"]


def what_happened(place: Env, run: str) -> str:
    """Every state of the run's Jobs and pods, and what the run said of them, for people."""
    told = []
    for kind in ("Job", "Pod", "TrainingRun"):
        for seen in place.record.versions(kind):
            if seen["metadata"]["name"].startswith(run):
                status = seen.get("status", {})
                conditions = [
                    (c["type"], c["status"], c.get("reason"), c.get("message")) for c in status.get("conditions", [])
                ]
                parts = (seen["spec"].get("suspend"), seen["metadata"].get("deletionTimestamp"), status.get("phase"))
                told.append(
                    f"{kind} {seen['metadata']['name']} {seen['metadata']['resourceVersion']} {parts} {conditions}"
                )
    return "\n".join(told)


async def test_a_run_whose_pod_is_deleted_goes_on_in_another(stories: Stories) -> None:
    robbed = await stories.tasks["robbed"]
    run = await stories.place.wait("TrainingRun", "other-robbed-1", phase="TRAINED", seconds=SECONDS)
    assert run["status"]["attempts"] == {"current": 2, **NOTHING_COUNTED, "disruption": 1}
    assert steps_of(stories.place, "other-robbed-1") == sorted(steps_of(stories.place, "other-robbed-1"))
    told = [(event["type"], event["reason"]) for event in await stories.place.told("other-robbed-1", "Retrying")]
    assert ("Warning", "Retrying") in told
    pods = {pod["metadata"]["name"] for pod in stories.place.record.versions("Pod")}
    assert robbed in pods
    # A retry stays in TRAINING.
    assert stories.place.record.phases("TrainingRun", "other-robbed-1") == [
        *("queued", "PREPROCESSING", "TRAINING", "TRAINED")
    ]


async def test_too_little_memory_is_told_from_a_crash_with_a_hint(stories: Stories) -> None:
    run = await stories.place.wait("TrainingRun", "story-starved-1", phase="failed", seconds=SECONDS)
    failure = run["status"]["failure"]
    assert (run["status"]["reason"], failure["class"], failure["exitCode"]) == ("OutOfMemory", "user", 137)
    assert "resources.limits.memory" in failure["hint"]
    row = await stories.place.row("TrainingRun", "story-starved-1")
    assert (row["PHASE"], row["REASON"]) == ("failed", "OutOfMemory")
    assert "resources.limits.memory" in await stories.place.describe("TrainingRun", "story-starved-1")


async def test_a_project_tells_of_what_failed_and_what_was_cancelled(stories: Stories) -> None:
    await stories.tasks["cancelled"]
    await stories.place.wait("TrainingRun", "story-cancelled-1", phase="cancelled", seconds=120)
    both = await stories.place.wait("Project", "story", phase="failed", where=names_both, seconds=SECONDS)
    assert both["status"]["reason"] == "PluginFailed"


def names_both(project: Manifest) -> bool:
    message = project["status"]["message"]
    return "cancelled: CancelledByUser" in message and "starved: OutOfMemory" in message


def counted(run: Manifest) -> dict[str, int]:
    return {name: count for name, count in run["status"]["attempts"].items() if name != "current"}


def steps_of(place: Env, run: str) -> list[int]:
    """The steps that progress told of, in order."""
    seen = place.record.versions("TrainingRun", name=run)
    return [version["status"]["progress"]["step"] for version in seen if "progress" in version.get("status", {})]


def is_of(pod: Manifest, run: str) -> bool:
    return bool(pod["metadata"].get("labels", {}).get("chorus.dev/run") == run)


def exit_codes(pods: list[Manifest]) -> set[int]:
    codes = set()
    for pod in pods:
        for container in pod["status"].get("containerStatuses", []):
            ended = container["state"].get("terminated")
            if ended is not None:
                codes.add(ended["exitCode"])
    return codes
