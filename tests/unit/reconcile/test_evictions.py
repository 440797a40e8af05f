"""Pods that are evicted: for their own limits, which the user must mend, or because their node is short of room."""

from __future__ import annotations

import pytest

from service_world import RUN, ServiceWorld
from unit_manifests import container_plugin, plugin, project
from world import World, made_once

OWN_LIMITS = [
    'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ',
    "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. ",
    'Container trainer exceeded its local ephemeral storage limit "2Gi". ',
]
LOW_NODE = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. "
    "Container trainer was using 1200Mi, request is 64Mi, has larger consumption of ephemeral-storage. "
)


@pytest.fixture
@made_once
def world() -> World:
    made = World()
    made.put(plugin(), project())
    made.frame_ready()
    made.pod_trains("home-soft-1")
    return made


@pytest.mark.parametrize("said", OWN_LIMITS)
def test_a_training_pod_over_its_own_limit_fails_at_once_and_the_message_says_which_field_to_raise(
    world: World, said: str
) -> None:
    [job] = world.jobs()
    world.job_ends(job, exit_code=137, evicted=said)
    status = world.run("home-soft-1")["status"]
    assert (status["phase"], status["reason"]) == ("failed", "ScratchFull")
    assert said.strip() in status["message"]
    assert "Raise spec.scratch.size of the Plugin" in status["message"]
    assert status["failure"]["class"] == "user"
    assert world.jobs() == [job]


def test_the_cause_is_told_also_where_no_container_left_an_exit_code(world: World) -> None:
    [job] = world.jobs()
    [pod] = world.pods_of(job)
    pod["status"] = {"phase": "Failed", "reason": "Evicted", "message": OWN_LIMITS[0]}
    world.kube.put(pod)
    stored = world.job(job)
    assert stored is not None
    stored["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    world.kube.put(stored)
    world.settle()
    assert world.run("home-soft-1")["status"]["reason"] == "ScratchFull"


def test_a_pod_that_a_short_node_evicts_is_tried_again_as_a_disruption(world: World) -> None:
    [job] = world.jobs()
    [pod] = world.pods_of(job)
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "message": LOW_NODE}]
    world.kube.put(pod)
    world.job_ends(job, exit_code=137, evicted=LOW_NODE)
    assert world.phase("home-soft-1") == "TRAINING"
    assert world.run("home-soft-1")["status"]["attempts"]["disruption"] == 1


@pytest.mark.parametrize("said", OWN_LIMITS)
def test_a_prepare_pod_over_its_own_limit_fails_the_project_and_names_the_projects_field(said: str) -> None:
    world = World()
    world.put(plugin(), project())
    [job] = world.jobs("prepare")
    world.pod_starts(job)
    world.job_ends(job, exit_code=137, evicted=said)
    status = world.project()["status"]
    assert (status["phase"], status["reason"]) == ("failed", "ScratchFull")
    assert "Raise spec.scratch.size of the Project, and its spec.jobResources.limits" in status["message"]


def test_a_publish_pod_over_its_own_limit_names_the_projects_field(world: World) -> None:
    [job] = world.jobs()
    world.job_ends(job)
    [publish] = world.jobs("publish")
    world.pod_starts(publish)
    world.job_ends(publish, exit_code=137, evicted=OWN_LIMITS[0])
    status = world.run("home-soft-1")["status"]
    assert (status["phase"], status["reason"]) == ("failed", "ScratchFull")
    assert "Raise spec.scratch.size of the Project, and its spec.jobResources.limits" in status["message"]


def test_an_exchange_over_its_own_limit_names_the_plugins_field() -> None:
    world = ServiceWorld()
    world.begin()
    world.trains()
    [job] = world.jobs("exchange")
    world.job_ends(job, exit_code=137, evicted=OWN_LIMITS[1])
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("failed", "ScratchFull")
    assert "of the Plugin" in status["message"]


def test_an_image_over_its_own_limit_while_it_is_asked_names_the_plugins_field() -> None:
    world = World()
    world.put(container_plugin())
    [job] = world.jobs("describe")
    world.pod_starts(job)
    world.job_ends(job, exit_code=137, evicted=OWN_LIMITS[0])
    [ready] = [c for c in world.plugin("soft")["status"]["conditions"] if c["type"] == "Ready"]
    assert "Raise spec.scratch.size of the Plugin" in ready["message"]
