"""Preparing the data again: when, what becomes of the frame in use, and what is left of earlier preparations."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chorus_api.project import Project
from chorus_api.run_config import KeptFrames, PrepareConfig, TerminationRecord
from chorus_api.training_run import TrainingRun
from chorus_kube.resources import CONFIG_MAPS, JOBS
from chorus_operator.decisions.project.frame import frames_to_keep
from chorus_operator.decisions.project.state import ProjectView
from chorus_operator.plugin_types.registry import PLUGIN_TYPES
from fakes import Call
from unit_manifests import plugin, project, run
from world import Killed, World, frame

DATASET = {"source": {"inline": {"data": "a"}}, "format": "csv", "refreshSeconds": 3600}
OTHER = "df-ffffffffffff"
METADATA = {"name": "other", "namespace": "default", "uid": "u"}


def started(**dataset: Any) -> World:
    """A world whose first look has ended well, and whose run is trained."""
    return copy.deepcopy(_started(**dataset))


@functools.cache
def _started(**dataset: Any) -> World:
    world = World()
    world.put(plugin(), project(dataset={**DATASET, **dataset}))
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    return world


def condition(world: World, name: str) -> dict[str, Any]:
    return next(each for each in world.project()["status"]["conditions"] if each["type"] == name)


def finish_look(world: World, **result: Any) -> None:
    """The newest prepare Job reports, and ends."""
    if "reason" in result:
        world.frame_failed(**result)
    else:
        world.frame_ready(**result)
    world.job_ends(newest_job(world))


def newest_job(world: World) -> str:
    made = {name: world.job(name)["metadata"]["creationTimestamp"] for name in world.jobs("prepare")}  # type: ignore[index]
    return max(made, key=lambda name: made[name])


def children(world: World) -> list[str]:
    """Jobs and ConfigMaps of looks."""
    names = [each["metadata"]["name"] for kind in (JOBS, CONFIG_MAPS) for each in world.kube.all(kind)]
    return sorted(name for name in names if "-prepare-" in name or "-frame-" in name)


def test_the_next_look_comes_so_long_after_the_last_has_ended_and_not_before() -> None:
    world = started()
    world.later(3599)
    assert len(world.jobs("prepare")) == 1
    assert min(world.wakes) <= 1
    world.later(1)
    assert len(world.jobs("prepare")) == 2
    world.later(7200)
    assert len(world.jobs("prepare")) == 2, "while a look goes on no other is due"


def test_equal_content_starts_no_run_and_a_new_frame_does() -> None:
    world = started()
    world.later(3600)
    world.frame_ready()
    assert world.runs() == ["home-soft-1"]
    world.later(3600)
    world.frame_ready(result=frame(OTHER, rows=101))
    assert world.runs() == ["home-soft-1", "home-soft-2"]
    assert world.project()["status"]["dataset"]["name"] == OTHER


def test_the_frame_in_use_stays_while_a_look_goes_on() -> None:
    world = started()
    before = world.project()["status"]
    world.later(3600)
    status = world.project()["status"]
    assert (status["phase"], status["dataset"]) == (before["phase"], before["dataset"])
    assert condition(world, "DatasetReady")["status"] == "True"
    assert condition(world, "Refreshed")["status"] == "True"


def test_a_look_that_failed_keeps_the_frame_and_says_so() -> None:
    world = started()
    world.later(3600)
    world.frame_failed(reason="AccessDenied", detail="the database does not let the user in")
    status = world.project()["status"]
    assert status["phase"] == "TRAINED"
    assert status["dataset"]["name"] == "df-0123456789ab"
    refreshed = condition(world, "Refreshed")
    assert (refreshed["status"], refreshed["reason"]) == ("False", "AccessDenied")
    assert "does not let the user in" in refreshed["message"]
    assert "Frame df-0123456789ab of an earlier preparation stays in use" in refreshed["message"]
    assert "It is prepared again at 2026-01-01T14:00:00Z" in refreshed["message"]
    world.later(3600)
    world.frame_ready()
    assert condition(world, "Refreshed")["status"] == "True"


def test_a_look_whose_job_dies_keeps_the_frame_too() -> None:
    world = started()
    world.later(3600)
    newest = newest_job(world)
    world.pod_starts(newest)
    record = TerminationRecord(outcome="failed", reason="SourceUnreachable", message="nobody answers", retryable=True)
    world.job_ends(newest, exit_code=70, record=record)
    assert world.project()["status"]["phase"] == "TRAINED"
    assert condition(world, "Refreshed")["reason"] == "SourceUnreachable"


def test_a_source_that_is_gone_keeps_the_frame_also_for_new_runs_and_is_looked_for() -> None:
    world = World()
    world.kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"a.csv": "a"}})
    source = {"configMap": {"name": "rows", "key": "a.csv"}}
    world.put(plugin(), project(dataset={"source": source, "refreshSeconds": 60}))
    world.frame_ready()
    world.kube.objects.pop(("ConfigMap", "default", "rows"))
    world.later(60)
    assert condition(world, "Refreshed")["reason"] == "ConfigMapNotFound"
    assert condition(world, "DatasetReady")["status"] == "True"
    assert 30.0 in world.wakes
    world.train_to_the_end("home-soft-1")
    world.put(run("by-hand"))
    assert world.attempt("by-hand") in world.jobs()
    assert condition(world, "Degraded")["status"] == "False"


def test_a_first_look_that_failed_is_made_again_when_it_is_due() -> None:
    world = World()
    world.put(plugin(), project(dataset=DATASET))
    world.frame_failed(reason="NoRows", detail="a has no rows")
    assert world.project()["status"]["phase"] == "failed"
    world.later(3600)
    assert world.project()["status"]["reason"] == "Preparing"
    world.frame_ready()
    assert world.project()["status"]["dataset"]["name"] == "df-0123456789ab"


@pytest.mark.parametrize("fails", [False, True])
def test_what_earlier_looks_left_is_removed(fails: bool) -> None:
    world = started()
    kept = None
    for number in range(6):
        world.later(3600)
        if fails:
            finish_look(world, reason="NoRows", detail="none")
        else:
            finish_look(world, result=frame(f"df-{number:012d}"))
        kept = len(children(world))
        assert kept <= 6, "two looks, each a Job and two ConfigMaps"
    assert kept == (6 if fails else 3)
    shown = world.project()["status"]["dataset"]["configMap"]
    assert world.kube.find(CONFIG_MAPS, shown) is not None


def test_a_suspended_project_looks_at_nothing_and_goes_on_afterwards() -> None:
    world = started()
    world.put(project(dataset=DATASET, suspend=True))
    world.later(7200)
    assert len(world.jobs("prepare")) == 1
    world.put(project(dataset=DATASET))
    assert len(world.jobs("prepare")) == 2


def test_changing_how_often_to_look_prepares_nothing_by_itself() -> None:
    world = started()
    world.put(project(dataset={**DATASET, "refreshSeconds": 7200}))
    assert len(world.jobs("prepare")) == 1
    world.later(3600)
    assert len(world.jobs("prepare")) == 1
    without = {key: value for key, value in DATASET.items() if key != "refreshSeconds"}
    world.put(project(dataset=without))
    world.later(90_000)
    assert len(world.jobs("prepare")) == 1
    assert [each["type"] for each in world.project()["status"]["conditions"]] == ["DatasetReady", "Degraded", "Ready"]


def test_a_new_spec_is_prepared_at_once_and_counted_on() -> None:
    world = started()
    world.later(3600)
    world.frame_ready()
    world.put(project(dataset={**DATASET, "maxRows": 5}))
    assert world.project()["status"]["preparations"]["number"] == 2
    assert condition(world, "DatasetReady")["status"] == "False"


def test_a_spec_that_comes_back_is_prepared_again_since_its_frame_may_be_gone() -> None:
    world = started()
    world.put(project(dataset={**DATASET, "maxRows": 5}))
    world.frame_ready(result=frame(OTHER))
    world.put(project(dataset=DATASET))
    assert condition(world, "DatasetReady")["reason"] == "Preparing"
    assert len(world.jobs("prepare")) == 3
    world.frame_ready()
    assert world.project()["status"]["dataset"]["name"] == "df-0123456789ab"


def test_without_refresh_nothing_is_looked_at_again() -> None:
    world = started(refreshSeconds=None)
    world.later(1_000_000)
    assert len(world.jobs("prepare")) == 1


def look_again_twice(world: World) -> dict[str, Any]:
    """A look that finds a new frame, and one that fails; what is left."""
    world.later(3600)
    finish_look(world, result=frame(OTHER))
    world.later(3600)
    finish_look(world, reason="NoRows", detail="none")
    status = world.project()["status"]
    return {
        "children": children(world),
        "frame": status["dataset"],
        "preparations": {key: value for key, value in status["preparations"].items() if key != "endedTime"},
        "refreshed": condition(world, "Refreshed")["status"],
    }


def test_killed_at_any_call_the_operator_prepares_no_oftener_and_leaves_no_more() -> None:
    world = started()
    first = len(world.kube.calls)
    undisturbed = look_again_twice(world)
    calls = [number for number, call in enumerate(world.kube.calls[first:], start=1) if call.writes]
    assert len(calls) > 8
    for position in calls:
        world = started()
        end, left = len(world.kube.calls) + position, iter([True])

        def hook(call: Call, *, world: World = world, end: int = end, left: Iterator[bool] = left) -> None:
            if len(world.kube.calls) >= end and next(left, False):
                raise Killed

        world.kube.after = hook
        assert look_again_twice(world) == undisturbed, f"killed after call {position}"


# Which frames stay


def kept_frames(world: World) -> KeptFrames | None:
    """What the newest prepare Job is told."""
    text = world.config_map(newest_job(world))["job.json"]
    return PrepareConfig.model_validate_json(text).keep_frames


def test_the_first_look_has_nothing_to_keep() -> None:
    world = World()
    world.put(plugin(), project(dataset=DATASET))
    assert kept_frames(world) == KeptFrames(names=[], listed=world.now)


def test_the_frame_in_use_and_those_of_runs_that_have_not_ended_are_kept() -> None:
    world = started(refreshSeconds=60)
    world.put(run("slow"))
    world.pod_starts(world.attempt("slow"))
    for number in range(1, 4):
        world.later(60)
        finish_look(world, result=frame(f"df-{number:012d}"))
    world.later(60)
    assert kept_frames(world) == KeptFrames(names=["df-000000000003", "df-0123456789ab"], listed=world.now)
    world.train_to_the_end("slow")
    finish_look(world, reason="NoRows", detail="none")
    world.later(60)
    told = kept_frames(world)
    assert told is not None
    assert told.names[-1] == "df-000000000003", "the frame in use stays after a look that failed"
    assert "df-0123456789ab" not in told.names


def test_while_a_new_spec_is_prepared_the_frame_before_is_kept() -> None:
    world = started()
    world.put(project(dataset={**DATASET, "maxRows": 5}))
    told = kept_frames(world)
    assert told is not None
    assert told.names == ["df-0123456789ab"]


ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted", "lastTransitionTime": "2026-01-01T10:00:00Z"}
NOT_WRITTEN = {"conditions": [ACCEPTED]}
READS = {**NOT_WRITTEN, "resolved": {"configMap": "a", "hash": "b", "frame": "df-aaaaaaaaaaaa"}}


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        (READS, ("df-0123456789ab", "df-aaaaaaaaaaaa")),
        ({**READS, "phase": "TRAINING"}, ("df-0123456789ab", "df-aaaaaaaaaaaa")),
        ({**READS, "phase": "suspended"}, ("df-0123456789ab", "df-aaaaaaaaaaaa")),
        ({**READS, "phase": "TRAINED"}, ("df-0123456789ab",)),
        ({**READS, "phase": "cancelled"}, ("df-0123456789ab",)),
        ({"phase": "queued"}, ("df-0123456789ab",)),
        (NOT_WRITTEN, None),
        ({**READS, "resolved": {"configMap": "a", "hash": "b"}}, None),
    ],
)
def test_a_run_that_has_not_ended_keeps_its_frame_and_one_that_has_not_said_it_keeps_all(
    status: dict[str, Any], kept: tuple[str, ...] | None
) -> None:
    view = seen(started(), run("other") | {"status": status})
    assert frames_to_keep(view) == kept


def test_a_run_that_cannot_be_read_keeps_all_frames() -> None:
    assert frames_to_keep(replace(seen(started()), runs_unreadable=True)) is None


def seen(world: World, *runs: dict[str, Any]) -> ProjectView:
    """A Project with its frame ready, and runs."""
    return ProjectView(
        project=Project.model_validate(world.project()),
        plugins={},
        runs=[TrainingRun.model_validate(each | {"metadata": METADATA}) for each in runs],
        now=world.now,
        trainer_image="trainer:1",
        types=PLUGIN_TYPES,
    )
