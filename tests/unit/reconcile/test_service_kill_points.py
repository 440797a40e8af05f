"""The operator may end after any write about a service: nothing is lost, and nothing is told that is not so."""

from __future__ import annotations

from typing import Any

import pytest

from builders import make_run
from chorus_operator.kube.resources import JOBS
from fakes import Call
from service_world import MODEL, RUN, ServiceWorld
from world import Killed


def story(world: ServiceWorld) -> None:
    """An error that passes, a suspension, and a model."""
    world.begin()
    world.trains()
    world.pod_says(RUN, error={"detail": "no GPU is free", "retryable": True})
    world.trains(attempt=2)
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))
    world.trains(attempt=3)
    world.pod_says(RUN, modelName=MODEL)
    world.publish(RUN)


def outcome(world: ServiceWorld) -> dict[str, Any]:
    """What must be the same whenever the operator was killed."""
    status = world.run(RUN)["status"]
    return {
        "jobs": sorted(job["metadata"]["name"] for job in world.kube.all(JOBS)),
        "phase": (status["phase"], status["reason"], status["attempts"]),
        "told": sorted({(event["id"], event["data"]["token"]) for event in world.courier.events("TRAINING_DATA")}),
        "project": world.project("shop")["status"]["phase"],
    }


def undisturbed() -> tuple[list[int], dict[str, Any]]:
    world = ServiceWorld()
    story(world)
    return [number for number, call in enumerate(world.kube.calls, start=1) if call.writes], outcome(world)


WRITES, UNDISTURBED = undisturbed()
POSITIONS = [
    position if number % 4 == 0 else pytest.param(position, marks=pytest.mark.chaos)
    for number, position in enumerate(WRITES)
]


def test_the_story_goes_through_a_retry_a_suspension_and_a_model() -> None:
    attempts = {"current": 3, "user": 0, "infrastructure": 1, "disruption": 0}
    assert UNDISTURBED["phase"] == ("TRAINED", "Trained", attempts)
    assert len(UNDISTURBED["told"]) == 3


@pytest.mark.parametrize("position", POSITIONS)
def test_killed_after_any_write_the_operator_tells_the_same_and_ends_the_same(position: int) -> None:
    world = ServiceWorld()
    left = iter([True])

    def hook(call: Call) -> None:
        if len(world.kube.calls) >= position and next(left, False):
            world.courier.restart()
            raise Killed

    world.kube.after = hook
    story(world)
    assert world.disturbed == 1
    assert outcome(world) == UNDISTURBED
