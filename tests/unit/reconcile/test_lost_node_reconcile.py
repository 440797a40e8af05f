"""A pod that was told to end and never says that it has: its node is lost, and the run goes on elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chorus_kube.resources import PODS
from fakes import Call
from unit_manifests import plugin, project
from world import Killed, World, iso

GRACE = 120


def story(world: World) -> None:
    """A run trains; its pod is told to end and never says that it has."""
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains("home-soft-1")
    tell_to_end(world, world.attempt("home-soft-1"))


def tell_to_end(world: World, job: str) -> None:
    [pod] = world.pods_of(job)
    pod["metadata"]["deletionTimestamp"] = iso(world.now + timedelta(seconds=GRACE))
    world.kube.put(pod)
    world.settle()


def status(world: World) -> dict[str, Any]:
    return dict(world.run("home-soft-1")["status"])


def test_a_pod_that_is_told_to_end_is_looked_at_as_soon_as_it_can_be_lost() -> None:
    world = World()
    story(world)
    assert min(world.wakes) == GRACE + 60 + 1
    world.later(GRACE + 59)
    assert world.jobs() == [world.attempt("home-soft-1")]
    assert min(world.wakes) == 2


def test_a_lost_attempt_is_removed_with_its_job_and_the_next_one_counts_as_a_disruption() -> None:
    world = World()
    story(world)
    world.later(GRACE + 61)
    assert world.jobs() == [world.attempt("home-soft-1", 2)]
    assert world.kube.all(PODS) == []
    assert status(world)["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 1}
    assert (status(world)["failure"]["reason"], status(world)["failure"]["node"]) == ("NodeLost", "node-1")
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_pod_that_ends_after_all_is_judged_by_its_end() -> None:
    world = World()
    story(world)
    world.now += timedelta(seconds=GRACE + 50)
    world.job_ends(world.attempt("home-soft-1"), exit_code=1)
    assert status(world)["reason"] == "TrainingFailed"


def test_the_next_attempt_is_not_taken_for_lost_too() -> None:
    world = World()
    story(world)
    world.later(GRACE + 61)
    world.pod_starts(world.attempt("home-soft-1", 2))
    world.later(GRACE + 61)
    assert world.jobs() == [world.attempt("home-soft-1", 2)]
    tell_to_end(world, world.attempt("home-soft-1", 2))
    world.later(GRACE + 61)
    assert world.jobs() == [world.attempt("home-soft-1", 3)]
    assert status(world)["attempts"]["disruption"] == 2


@pytest.mark.parametrize("position", range(8))
def test_killed_while_it_gives_a_lost_attempt_up_the_operator_counts_it_once_and_right(position: int) -> None:
    world = World()
    story(world)
    left = iter([True])
    begun = len(world.kube.calls)

    def hook(call: Call) -> None:
        writes = [call for call in world.kube.calls[begun:] if call.writes]
        if len(writes) > position and next(left, False):
            raise Killed

    world.kube.after = hook
    world.later(GRACE + 61)
    assert world.disturbed == 1
    assert world.jobs() == [world.attempt("home-soft-1", 2)]
    assert status(world)["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 1}
