"""A node whose clock is a quarter of an hour off: deadlines count by the operator's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from unit_manifests import container_plugin, plugin, project
from world import World, iso

RUN = "home-soft-1"
OFF = [timedelta(minutes=-15), timedelta(minutes=15)]


def ready_reason(world: World) -> str:
    conditions = world.plugin("soft")["status"]["conditions"]
    return str(next(c["reason"] for c in conditions if c["type"] == "Ready"))


def waiting(**deadlines: int) -> World:
    world = World()
    world.put(plugin(deadlines=deadlines), project())
    world.frame_ready()
    return world


@pytest.mark.parametrize("off", OFF)
def test_a_pod_on_a_node_with_another_clock_has_its_whole_deadline(off: timedelta) -> None:
    world = waiting(dataReportSeconds=300)
    world.pod_starts(world.attempt(RUN), clock_off=off)
    world.later(299)
    assert world.phase(RUN) == "PREPROCESSING"
    world.later(2)
    assert (world.phase(RUN), world.run(RUN)["status"]["reason"]) == ("failed", "DataReportDeadlineExceeded")


@pytest.mark.parametrize("off", OFF)
def test_the_time_of_a_run_counts_from_when_its_pod_was_first_seen_running(off: timedelta) -> None:
    world = waiting(activeSeconds=300)
    world.pod_starts(world.attempt(RUN), clock_off=off)
    world.pod_says(RUN, dataReport={"applicable": True}, trainingStart={})
    world.later(299)
    assert world.phase(RUN) == "TRAINING"
    world.later(2)
    assert world.run(RUN)["status"]["reason"] == "ActiveDeadlineExceeded"


@pytest.mark.parametrize("off", OFF)
def test_the_start_that_status_shows_lies_between_the_making_of_the_pod_and_now(off: timedelta) -> None:
    world = waiting()
    world.pod_starts(world.attempt(RUN), clock_off=off)
    assert world.run(RUN)["status"]["startTime"] == iso(world.now)


@pytest.mark.parametrize("off", OFF)
def test_an_image_that_is_asked_what_it_needs_has_its_whole_time(off: timedelta) -> None:
    world = World()
    world.put(container_plugin())
    (job,) = world.jobs("describe")
    world.pod_starts(job, clock_off=off)
    world.later(119)
    assert ready_reason(world) == "AwaitingPlugin"
    world.later(2)
    assert ready_reason(world) == "DescribeFailed"
