"""A failed attempt is followed by a pause, and by the next attempt's Job when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api.reasons import FailureClass
from chorus_kube.resources import EVENTS
from chorus_operator.decisions.observed import parse_time
from chorus_operator.decisions.run.retry import (
    FIRST_PAUSE_SECONDS,
    JITTER,
    LONGEST_PAUSE_SECONDS,
    pause_seconds,
)
from unit_manifests import plugin, project
from world import World, made_once

RUN = "home-soft-1"


@pytest.fixture
@made_once
def world() -> World:
    """A run whose first attempt trains, in a world whose time does not pass by itself."""
    world = World(waits_out_pauses=False)
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains(RUN)
    return world


def condition(world: World, name: str) -> dict[str, str]:
    return next(c for c in world.run(RUN)["status"]["conditions"] if c["type"] == name)


def pause(world: World) -> float:
    until = parse_time(world.run(RUN)["status"]["attempts"]["notBefore"])
    assert until is not None
    return (until - world.now).total_seconds()


def test_the_next_attempt_starts_after_a_pause_that_the_condition_tells(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    left = pause(world)
    assert 8 <= left <= 12
    assert condition(world, "Retrying")["message"].endswith(f"Attempt 1 ended so; attempt 2 starts in {left:.0f} s.")
    assert "Attempt 2 starts at" in condition(world, "PodsReady")["message"]
    assert world.job(world.attempt(RUN, 2)) is None
    assert min(world.wakes) == left
    world.later(left - 1)
    assert world.job(world.attempt(RUN, 2)) is None
    world.later(1)
    assert world.job(world.attempt(RUN, 2)) is not None
    assert "notBefore" not in world.run(RUN)["status"]["attempts"]


def test_a_disruption_is_followed_by_a_short_pause(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=75)
    assert 1 <= pause(world) <= 3


def test_further_failures_of_a_class_have_longer_pauses(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    world.later(pause(world))
    world.pod_trains(RUN)
    world.job_ends(world.attempt(RUN, 2), exit_code=70)
    assert 16 <= pause(world) <= 24


def test_a_job_that_somebody_deleted_is_made_again_after_a_pause(world: World) -> None:
    job = world.attempt(RUN)
    for pod in world.pods_of(job):
        world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.kube.objects.pop(("Job", "default", job))
    world.settle()
    assert pause(world) > 0
    world.later(pause(world))
    assert world.job(world.attempt(RUN, 2)) is not None


def test_a_run_that_is_cancelled_in_the_pause_ends_at_once(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    stored = world.run(RUN)
    world.put({**stored, "spec": stored["spec"] | {"cancel": True}})
    assert world.phase(RUN) == "cancelled"
    world.later(60)
    assert world.job(world.attempt(RUN, 2)) is None


def test_a_run_that_is_suspended_in_the_pause_makes_its_job_when_it_is_resumed(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    stored = world.run(RUN)
    world.put({**stored, "spec": stored["spec"] | {"suspend": True}})
    world.later(60)
    assert (world.phase(RUN), world.job(world.attempt(RUN, 2))) == ("suspended", None)
    world.put({**world.run(RUN), "spec": stored["spec"]})
    assert world.job(world.attempt(RUN, 2)) is not None


CLASSES = st.sampled_from(list(FailureClass))


@given(CLASSES, st.integers(1, 1000), st.text(max_size=50))
def test_a_pause_is_bounded_and_within_its_jitter(failure_class: FailureClass, failures: int, seed: str) -> None:
    seconds = pause_seconds(failure_class, failures, seed=seed)
    first = FIRST_PAUSE_SECONDS[failure_class]
    assert (1 - JITTER) * first <= seconds <= (1 + JITTER) * LONGEST_PAUSE_SECONDS
    assert seconds <= (1 + JITTER) * first * 2.0 ** min(failures - 1, 100)


def test_runs_that_fail_together_do_not_all_come_back_together() -> None:
    pauses = {pause_seconds(FailureClass.INFRASTRUCTURE, 1, seed=f"uid-{number}") for number in range(100)}
    assert max(pauses) - min(pauses) > JITTER * FIRST_PAUSE_SECONDS[FailureClass.INFRASTRUCTURE]


def test_time_that_the_operator_is_away_counts_into_the_pause(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    world.operator_since = world.now = world.now + timedelta(minutes=5)
    world.settle()
    assert world.job(world.attempt(RUN, 2)) is not None


def retries(world: World) -> list[str]:
    return [event["message"] for event in world.kube.all(EVENTS) if event["reason"] == "Retrying"]


def test_each_failed_attempt_sends_one_event_and_an_unchanged_condition_none(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    world.later(1)
    assert len(retries(world)) == 1
    world.later(pause(world))
    world.pod_starts(world.attempt(RUN, 2))
    world.job_ends(world.attempt(RUN, 2), exit_code=70)
    world.later(1)
    assert ["Attempt 1 ended so" in message for message in retries(world)].count(True) == 1
    assert ["Attempt 2 ended so" in message for message in retries(world)].count(True) == 1


def test_a_pause_that_no_pause_can_be_is_over(world: World) -> None:
    world.job_ends(world.attempt(RUN), exit_code=70)
    stored = world.run(RUN)
    stored["status"]["attempts"]["notBefore"] = "2999-01-01T00:00:00Z"
    world.kube.put(stored)
    world.settle()
    assert world.job(world.attempt(RUN, 2)) is not None
