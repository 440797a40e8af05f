"""The operator may end after any write about a service: nothing is lost, and nothing is told that is not so."""

from __future__ import annotations

from typing import Any

import pytest

from broken_story import Story, thinned
from builders import make_run
from chorus_kube.resources import JOBS
from service_world import MODEL, RUN, ServiceWorld
from world import Killed


def somebody_suspends_it_for_a_while(world: ServiceWorld) -> None:
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))


STORY = Story(
    ServiceWorld(),
    [
        ServiceWorld.begin,
        ServiceWorld.trains,
        lambda world: world.pod_says(RUN, error={"detail": "no GPU is free", "retryable": True}),
        lambda world: world.trains(attempt=2),
        somebody_suspends_it_for_a_while,
        lambda world: world.trains(attempt=3),
        lambda world: world.pod_says(RUN, modelName=MODEL),
        lambda world: world.publish(RUN),
    ],
)
"""An error that passes, a suspension, and a model."""


def outcome(world: ServiceWorld) -> dict[str, Any]:
    """What must be the same whenever the operator was killed."""
    status = world.run(RUN)["status"]
    return {
        "jobs": sorted(job["metadata"]["name"] for job in world.kube.all(JOBS)),
        "phase": (status["phase"], status["reason"], status["attempts"]),
        "told": sorted({(event["id"], event["data"]["token"]) for event in world.dispatcher.events("TRAINING_DATA")}),
        "project": world.project("shop")["status"]["phase"],
    }


WRITES, UNDISTURBED = STORY.writes, outcome(STORY.end)


def killed(world: ServiceWorld) -> Killed:
    """A new process has sent nothing yet."""
    world.dispatcher.restart()
    return Killed()


def test_the_story_goes_through_a_retry_a_suspension_and_a_model() -> None:
    attempts = {"current": 3, "user": 0, "infrastructure": 1, "disruption": 0}
    assert UNDISTURBED["phase"] == ("TRAINED", "Trained", attempts)
    assert len(UNDISTURBED["told"]) == 3


@pytest.mark.parametrize("position", thinned(WRITES, 4))
def test_killed_after_any_write_the_operator_tells_the_same_and_ends_the_same(position: int) -> None:
    world = STORY.broken_at(position, killed, when="after")
    assert world.disturbed == 1
    assert outcome(world) == UNDISTURBED
