"""What a pod shows when it begins to end is written down: its Job may be all that is left when it is judged."""

from __future__ import annotations

from typing import Any

import pytest

from chorus_kube.resources import PODS
from pod_faults import container_ends, is_disrupted, is_gone, is_told_to_end, job_is_judged, the_pod
from unit_manifests import container_plugin, plugin, project
from world import World, made_once

RUN = "home-soft-1"


@pytest.fixture
@made_once
def world() -> World:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains(RUN)
    return world


def status(world: World) -> dict[str, Any]:
    return dict(world.run(RUN)["status"])


def kinds(world: World) -> set[str]:
    return {condition["type"] for condition in status(world)["conditions"]}


def judged_without_pod(world: World) -> None:
    """The Job controller judges the Job, and nothing is left of its pod when the operator looks again."""
    job = world.attempt(RUN)
    job_is_judged(world, job)
    is_gone(world, job)
    world.settle()


def test_who_disrupted_a_pod_is_told_although_the_pod_is_gone_when_its_job_has_failed(world: World) -> None:
    is_disrupted(world, world.attempt(RUN))
    world.settle()
    assert world.phase(RUN) == "TRAINING"
    container_ends(world, world.attempt(RUN), 143)
    judged_without_pod(world)
    failure = status(world)["failure"]
    assert failure["message"].startswith("Eviction API: evicting (Pod ")
    assert (failure["class"], failure["node"], failure["pod"]) == ("disruption", "node-1", failure["pod"])
    assert status(world)["attempts"]["disruption"] == 1


def test_how_a_disrupted_pod_ended_at_last_is_added_to_who_disrupted_it(world: World) -> None:
    job = world.attempt(RUN)
    is_disrupted(world, job)
    world.settle()
    container_ends(world, job, 75, log="saved at step 7\n")
    job_is_judged(world, job)
    world.settle()
    failure = status(world)["failure"]
    assert failure["message"].startswith("Eviction API: evicting (Pod ")
    assert (failure["exitCode"], failure["logTail"]) == (75, "saved at step 7\n")


def test_memory_that_ran_out_is_told_although_the_pod_is_gone_when_its_job_has_failed(world: World) -> None:
    container_ends(world, world.attempt(RUN), 137, reason="OOMKilled")
    world.settle()
    judged_without_pod(world)
    assert (world.phase(RUN), status(world)["reason"]) == ("failed", "OutOfMemory")
    assert status(world)["failure"]["exitCode"] == 137


@pytest.mark.parametrize("code", [143, 137])
def test_who_ended_by_sigterm_in_a_deleted_pod_was_disrupted_although_the_pod_is_gone(world: World, code: int) -> None:
    job = world.attempt(RUN)
    is_told_to_end(world, job)
    world.settle()
    container_ends(world, job, code)
    judged_without_pod(world)
    assert status(world)["failure"]["message"].startswith("Somebody deleted pod ")
    assert status(world)["attempts"]["disruption"] == 1


def test_a_program_that_fails_by_itself_in_a_deleted_pod_is_told_by_its_own_exit(world: World) -> None:
    job = world.attempt(RUN)
    is_told_to_end(world, job)
    world.settle()
    container_ends(world, job, 64)
    judged_without_pod(world)
    assert (world.phase(RUN), status(world)["reason"]) == ("failed", "BadConfiguration")


def test_the_run_is_looked_at_again_when_its_active_seconds_are_over() -> None:
    world = World()
    world.put(plugin(deadlines={"activeSeconds": 20}), project())
    world.frame_ready()
    world.pod_trains(RUN)
    assert 20 <= min(world.wakes) <= 22


def test_a_retry_of_a_run_whose_pod_never_started_says_why_in_the_queue(world: World) -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.waits_out_pauses = False
    pod_is_refused(world, world.attempt(RUN))
    world.later(30)
    assert (world.phase(RUN), status(world)["reason"]) == ("queued", "Retrying")
    assert "NodeAffinity" in status(world)["message"]


def pod_is_refused(world: World, job: str) -> None:
    """The kubelet refuses a pod, and its Job fails for it."""
    world.pod_waits(job)
    pod = the_pod(world, job)
    pod["status"] = {"phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected"}
    world.kube.put(pod)
    job_is_judged(world, job)
    world.settle()


def test_the_log_is_read_once_when_the_main_container_has_failed(world: World) -> None:
    log = "Traceback (most recent call last):\n  File 'a.py'\nValueError: row 17\n"
    container_ends(world, world.attempt(RUN), 1, log=log)
    world.settle()
    judged_without_pod(world)
    assert status(world)["message"].startswith("ValueError: row 17")
    assert status(world)["failure"]["logTail"] == log
    assert len([call for call in world.kube.calls if call.verb == "pod_log"]) == 1


def test_an_end_that_its_job_is_not_judged_for_is_told_at_the_deadline_and_not_as_silence(world: World) -> None:
    container_ends(world, world.attempt(RUN), 137, reason="OOMKilled")
    world.settle()
    world.later(1900)
    assert (world.phase(RUN), status(world)["reason"]) == ("failed", "OutOfMemory")


def test_a_disruption_that_is_called_off_is_forgotten(world: World) -> None:
    job = world.attempt(RUN)
    is_disrupted(world, job)
    world.settle()
    assert "PodEnding" in kinds(world)
    pod = the_pod(world, job)
    pod["status"]["conditions"] = []
    del pod["metadata"]["deletionTimestamp"]
    world.kube.put(pod)
    world.settle()
    assert "PodEnding" not in kinds(world)
    assert "failure" not in status(world)


def test_the_next_attempt_knows_nothing_of_how_the_last_pod_ended(world: World) -> None:
    container_ends(world, world.attempt(RUN), 70)
    world.settle()
    judged_without_pod(world)
    assert status(world)["attempts"]["current"] == 2
    assert "PodEnding" not in kinds(world)
    assert world.kube.all(PODS) == []
    world.train_to_the_end(RUN)
    assert world.phase(RUN) == "TRAINED"
    assert "failure" not in status(world)


def test_a_refusal_of_the_data_stands_before_the_exit_that_follows_it() -> None:
    world = World()
    world.put(container_plugin(describe=False), project())
    world.frame_ready()
    job = world.attempt(RUN)
    world.pod_starts(job)
    container_ends(world, job, 1)
    world.pod_says(RUN, dataReport={"applicable": False, "reason": "texts too short"})
    assert (world.phase(RUN), status(world)["message"]) == ("notApplicable", "texts too short")
