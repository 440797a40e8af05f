"""A pod whose main container has ended while an injected sidecar runs on: its run ends as the main container did."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chorus_api.run_config import TerminationRecord
from unit_manifests import LORA, container_plugin, plugin, project
from world import World, iso, made_once

RUN = "home-soft-1"
DIGEST = "sha256:" + "cd" * 32
DONE = TerminationRecord(
    outcome="succeeded", model_name="home-soft-1-m", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=100
)


@pytest.fixture
@made_once
def world() -> World:
    """A LoRA run whose first attempt trains."""
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains(RUN)
    return world


def status(world: World) -> dict[str, Any]:
    return dict(world.run(RUN)["status"])


def deleted_pods(world: World) -> list[str]:
    return [call.name for call in world.kube.calls if (call.verb, call.kind) == ("delete", "Pod")]


def pod_goes(world: World, job: str) -> None:
    """The sidecar is killed, the Job controller counts the pod as failed, and nothing is left of it."""
    for pod in world.pods_of(job):
        world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    stored = world.job(job)
    assert stored is not None
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
    stored["status"] = {"conditions": [failed]}
    world.kube.put(stored)
    world.settle()


def test_a_training_that_ended_well_beside_a_sidecar_that_runs_on_is_published_when_its_pod_is_gone(
    world: World,
) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    assert world.phase(RUN) == "TRAINING"
    assert deleted_pods(world) == []
    world.later(10)
    assert len(deleted_pods(world)) == 1
    assert world.jobs("publish") == []
    pod_goes(world, job)
    assert len(world.jobs("publish")) == 1
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"
    assert status(world)["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
    assert "failure" not in status(world)


def test_the_condition_names_the_sidecar_and_the_pod(world: World) -> None:
    world.main_container_ends(world.attempt(RUN), record=DONE)
    ended = next(c for c in status(world)["conditions"] if c["type"] == "PodEnding")
    assert ended["reason"] == "SidecarRunsOn"
    assert "exit code 0, and container proxy runs on" in ended["message"]


def test_what_only_the_last_word_of_the_pod_said_is_kept_for_the_publication(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    assert DIGEST in status(world)["lastWord"]
    world.later(10)
    pod_goes(world, job)
    told = json.loads(world.config_map(world.publication(RUN))["job.json"])
    assert told["expectedDigest"] == DIGEST


def test_a_sidecar_that_ends_by_itself_in_time_is_left_alone(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    world.later(5)
    world.job_ends(job, record=DONE)
    world.later(60)
    assert deleted_pods(world) == []
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"


def test_the_failure_of_a_main_container_is_told_although_its_sidecar_runs_on_and_its_pod_is_gone_at_last(
    world: World,
) -> None:
    job = world.attempt(RUN)
    record = TerminationRecord(outcome="failed", reason="NonFiniteLoss", message="the loss became nan at step 7")
    world.main_container_ends(job, exit_code=64, record=record)
    world.later(10)
    assert len(deleted_pods(world)) == 1
    pod_goes(world, job)
    assert (world.phase(RUN), status(world)["reason"]) == ("failed", "NonFiniteLoss")
    assert status(world)["message"] == "the loss became nan at step 7"
    assert status(world)["failure"]["exitCode"] == 64


def test_an_infrastructure_failure_beside_a_sidecar_is_tried_again(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, exit_code=70)
    world.later(10)
    pod_goes(world, job)
    assert status(world)["attempts"]["infrastructure"] == 1
    assert not [c for c in status(world)["conditions"] if c["type"] == "PodEnding"]
    world.train_to_the_end(RUN)
    assert world.phase(RUN) == "TRAINED"


def test_a_run_that_is_suspended_after_its_main_container_ended_well_is_published_all_the_same(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    stored = world.run(RUN)
    world.put({**stored, "spec": stored["spec"] | {"suspend": True}})
    world.later(10)
    pod_goes(world, job)
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"


def test_a_published_model_counts_although_a_sidecar_of_the_publish_pod_runs_on(world: World) -> None:
    world.job_ends(world.attempt(RUN), record=DONE)
    job = world.publication(RUN)
    world.pod_starts(job)
    world.main_container_ends(job, record=DONE.model_copy(update={"bytes": 1000, "promoted": True}))
    assert world.phase(RUN) == "TRAINED"
    assert world.job(job) is None


def test_a_fetched_base_model_counts_although_a_sidecar_of_the_fetch_pod_runs_on() -> None:
    world = World()
    world.put(plugin(lora=LORA | {"baseModel": {"uri": "hf://org/model"}}), project())
    world.frame_ready()
    fetch = world.jobs("fetch")[0]
    world.pod_starts(fetch)
    world.main_container_ends(fetch, record=TerminationRecord(outcome="succeeded"))
    assert world.jobs("fetch") == []
    assert world.jobs("train") == [world.attempt(RUN)]


def test_a_container_plugin_beside_a_sidecar_ends_as_its_main_container_did() -> None:
    world = World()
    world.put(container_plugin(describe=False, artefact="None"), project())
    world.frame_ready()
    world.pod_trains(RUN)
    world.pod_says(RUN, modelName={"modelName": "m"})
    job = world.attempt(RUN)
    world.main_container_ends(job)
    world.later(10)
    pod_goes(world, job)
    assert world.phase(RUN) == "TRAINED"


@pytest.mark.parametrize("role", ["prepare", "fetch", "publish"])
def test_a_try_of_a_cpu_job_that_failed_beside_a_sidecar_makes_room_for_the_next_one(role: str) -> None:
    world = World()
    uri = "hf://org/model" if role == "fetch" else "pvc://models/tiny"
    world.put(plugin(lora={"baseModel": {"uri": uri}}), project())
    if role != "prepare":
        world.frame_ready()
    if role == "publish":
        world.pod_trains(RUN)
        world.job_ends(world.attempt(RUN), record=DONE)
    (job,) = world.jobs(role)
    name = world.pod_starts(job)
    world.main_container_ends(job, exit_code=70)
    assert deleted_pods(world) == [name]
    assert world.job(job) is not None


def test_a_sidecar_that_fails_does_not_make_a_good_training_fail(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    for pod in world.pods_of(job):
        pod["status"]["phase"] = "Failed"
        pod["status"]["containerStatuses"][1]["state"] = {"terminated": {"exitCode": 1}}
        world.kube.put(pod)
    stored = world.job(job)
    assert stored is not None
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
    world.kube.put({**stored, "status": {"conditions": [failed]}})
    world.settle()
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"


def test_a_failed_container_whose_forwarder_and_injected_sidecar_run_on_is_not_waited_for() -> None:
    world = World()
    world.put(container_plugin(describe=False, artefact="None", messages="File"), project())
    world.frame_ready()
    world.pod_trains(RUN)
    job = world.attempt(RUN)
    world.sidecar_runs(job)
    world.main_container_ends(job, exit_code=64)
    world.later(10)
    assert len(deleted_pods(world)) == 1
    pod_goes(world, job)
    assert (world.phase(RUN), status(world)["reason"]) == ("failed", "BadConfiguration")


def test_a_held_pod_whose_node_is_lost_is_lost_with_it(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, record=DONE)
    for pod in world.pods_of(job):
        pod["metadata"]["deletionTimestamp"] = iso(world.now)
        world.kube.put(pod)
    world.later(120)
    assert status(world)["attempts"]["disruption"] == 1


def test_a_written_failure_whose_reason_this_version_does_not_know_is_read(world: World) -> None:
    job = world.attempt(RUN)
    world.main_container_ends(job, exit_code=70)
    stored = world.run(RUN)
    stored["status"]["failure"]["reason"] = "OfAnotherVersion"
    world.kube.put(stored)
    pod_goes(world, job)
    assert status(world)["attempts"]["infrastructure"] == 1
