"""The operator may end at any call to the API server, before it arrives or after it is done, and nothing goes wrong."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from broken_story import Story, thinned
from chorus_api.run_config import TerminationRecord
from chorus_kube.errors import Conflict, Unavailable
from chorus_kube.resources import JOBS, TRAINING_RUNS
from unit_manifests import plugin, project, run
from world import Killed, World

TWO = [
    {"name": "a", "pluginRef": {"name": "soft"}},
    {"name": "b", "pluginRef": {"name": "hub"}, "optional": True},
]


def the_base_model_is_fetched(world: World) -> None:
    fetch = world.jobs("fetch")[0]
    world.pod_starts(fetch)
    world.job_ends(fetch, record=TerminationRecord(outcome="succeeded"))


def somebody_makes_a_run(world: World) -> None:
    world.now = world.now.replace(minute=1)
    world.put(run("by-hand", plugin="a"))


def somebody_cancels_it(world: World) -> None:
    world.put(run("by-hand") | {"spec": world.run("by-hand")["spec"] | {"cancel": True}})


STORY = Story(
    World(),
    [
        lambda world: world.put(plugin(), plugin("hub", lora={"baseModel": {"uri": "hf://a/b"}}), project(plugins=TWO)),
        World.frame_ready,
        the_base_model_is_fetched,
        lambda world: world.pod_trains("home-a-1"),
        lambda world: world.job_ends(world.attempt("home-a-1"), exit_code=75),
        somebody_makes_a_run,
        lambda world: world.train_to_the_end("home-a-1"),
        lambda world: world.pod_trains("home-b-1"),
        lambda world: world.job_ends(world.attempt("home-b-1"), exit_code=1),
        somebody_cancels_it,
    ],
)
"""Two plugins, one with a hub's model; a retry, a failure, and a run by hand that waits and is cancelled."""


def outcome(world: World) -> dict[str, Any]:
    """What must be the same whenever the operator was killed."""
    runs = {stored["metadata"]["name"]: stored["status"] for stored in world.kube.all(TRAINING_RUNS)}
    return {
        "jobs": sorted(job["metadata"]["name"] for job in world.kube.all(JOBS)),
        "phases": {name: (status["phase"], status["reason"]) for name, status in runs.items()},
        "attempts": {name: status["attempts"] for name, status in runs.items()},
        "project": (world.project()["status"]["phase"], world.project()["status"]["latestModel"]),
    }


WRITES, UNDISTURBED = STORY.writes, outcome(STORY.end)


def test_the_story_goes_through_every_kind_of_end() -> None:
    assert len(WRITES) > 70
    assert {phase for phase, _ in UNDISTURBED["phases"].values()} == {"TRAINED", "failed", "cancelled"}


@pytest.mark.parametrize("position", thinned(WRITES, 5))
def test_killed_after_any_write_the_operator_loses_nothing_and_starts_nothing_twice(position: int) -> None:
    world = STORY.broken_at(position, lambda _: Killed(), when="after")
    assert world.disturbed == 1
    assert outcome(world) == UNDISTURBED


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("position", thinned(STORY.calls, 60))
def test_killed_before_or_after_any_call_the_operator_loses_nothing(
    position: int, when: Literal["before", "after"]
) -> None:
    world = STORY.broken_at(position, lambda _: Killed(), when=when)
    assert world.disturbed == 1
    assert outcome(world) == UNDISTURBED


@pytest.mark.parametrize("position", thinned(WRITES, 12))
def test_a_conflict_at_any_write_only_makes_the_operator_look_again(position: int) -> None:
    error = Conflict("changed", status=409, reason="Conflict")
    assert outcome(STORY.broken_at(position, lambda _: error, when="before")) == UNDISTURBED


@pytest.mark.parametrize("position", thinned(WRITES, 12))
def test_an_api_server_that_is_away_is_no_failure_of_a_run(position: int) -> None:
    error = Unavailable("away", status=503)
    assert outcome(STORY.broken_at(position, lambda _: error, when="before")) == UNDISTURBED
