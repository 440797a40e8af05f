"""A run that is admitted is frozen and started in the same step, whatever ends the operator in the middle of it."""

from __future__ import annotations

from functools import partial

import pytest

from chorus_kube.resources import CONFIG_MAPS, TRAINING_RUNS
from lagging_world import PROJECT, LaggingWorld, run_key
from unit_manifests import container_plugin, project, run
from world import made_once


def _prepared(policy: str) -> LaggingWorld:
    world = LaggingWorld()
    world.put(container_plugin(describe=False, artefact="None"), project(trainOn="Manual", concurrencyPolicy=policy))
    world.frame_ready()
    return world


WORLDS = {policy: made_once(partial(_prepared, policy)) for policy in ("Queue", "Forbid")}


def waiting(*names: str, policy: str = "Queue") -> LaggingWorld:
    """Give a world in which runs wait for their turn, the first one longest, and the operator has not looked yet."""
    world = WORLDS[policy]()
    world.begin()
    for name in names:
        world.kube.put(run(name))
        world.passes()
    return world


def killed_before(world: LaggingWorld, verb: str, kind: str) -> LaggingWorld:
    """Have the operator end before a call of the Project's reconcile, and a new one look at everything."""
    world.operator.stands_before(PROJECT, verb, kind)
    world.operator_is_killed()
    world.operator_looks_at_everything()
    world.passes()
    return world


def writes(world: LaggingWorld, since: int = 0) -> list[str]:
    return [f"{call.verb} {call.kind}" for call in world.kube.calls[since:] if call.writes and call.kind != "Event"]


def started(world: LaggingWorld, name: str) -> bool:
    """Tell whether a run is accepted, has one Job, and says so."""
    status = world.run(name).get("status", {})
    accepted = any((each["type"], each["status"]) == ("Accepted", "True") for each in status.get("conditions", ()))
    frozen = status.get("resolved", {}).get("configMap") == world.frozen(name)
    return accepted and frozen and status["attempts"]["current"] == 1 and world.attempt(name) in world.jobs()


def test_a_run_is_frozen_started_and_written_in_one_step() -> None:
    world = waiting("r1")
    before = len(world.kube.calls)
    world.operator.looks(PROJECT)
    assert writes(world, before) == [
        "patch_status Project",
        "create ConfigMap",
        "create Job",
        "patch_status TrainingRun",
    ]
    assert started(world, "r1")
    assert world.laws.written == set()
    world.passes()
    assert world.laws.written == {("r1", 1)}


@pytest.mark.parametrize("kind", ["ConfigMap", "Job"])
def test_an_operator_that_ends_before_the_job_is_made_starts_the_run_after_all(kind: str) -> None:
    world = killed_before(waiting("r1"), "create", kind)
    assert started(world, "r1")
    assert world.jobs() == [world.attempt("r1")]
    world.comes_to_rest()
    assert world.phase("r1") == "TRAINED"


def test_an_operator_that_ends_before_the_status_is_written_finds_the_job_and_makes_no_other() -> None:
    world = waiting("r1")
    world.operator.stands_before(PROJECT, "patch_status", "TrainingRun")
    [made] = [job["metadata"]["uid"] for job in (world.job(name) for name in world.jobs()) if job is not None]
    world.operator_is_killed()
    world.operator_looks_at_everything()
    assert started(world, "r1")
    job = world.job(world.attempt("r1"))
    assert job is not None
    assert job["metadata"]["uid"] == made


def test_a_run_whose_job_was_made_has_its_turn_although_its_status_does_not_say_so() -> None:
    world = waiting("r1", "r2")
    world.operator.stands_before(PROJECT, "patch_status", "TrainingRun")
    world.operator_is_killed()
    world.operator.looks(PROJECT)
    world.passes()
    assert world.jobs() == [world.attempt("r1")]
    assert world.run("r2").get("status", {}).get("phase") in (None, "queued")
    world.comes_to_rest()
    assert {world.phase("r1"), world.phase("r2")} == {"TRAINED"}


def test_a_run_is_forbidden_beside_one_whose_job_was_made_although_its_status_does_not_say_so() -> None:
    world = waiting("r1", policy="Forbid")
    world.operator.stands_before(PROJECT, "patch_status", "TrainingRun")
    world.kube.put(run("r2"))
    world.operator_is_killed()
    world.operator.looks(PROJECT)
    world.passes()
    status = world.run("r2")["status"]
    assert (status["phase"], status["reason"]) == ("cancelled", "ConcurrencyForbidden")
    world.operator_looks_at_everything()
    assert started(world, "r1")


def test_a_run_that_a_user_changes_before_its_status_is_written_is_started_all_the_same_and_once() -> None:
    world = waiting("r1")
    world.operator.stands_before(PROJECT, "patch_status", "TrainingRun")
    world.edit("r1", ttlSecondsAfterFinished=1000)
    world.operator.looks(PROJECT)
    world.passes()
    assert world.run("r1").get("status", {}).get("attempts", {}).get("current", 0) == 0
    world.operator_looks_at_everything()
    world.passes()
    assert started(world, "r1")
    assert world.laws.made_again == []


def with_config_map(world: LaggingWorld, name: str, *, ours: bool) -> LaggingWorld:
    """Have a ConfigMap of another content under the name that the run's frozen configuration gets."""
    uid = world.run(name)["metadata"]["uid"] if ours else "somebody"
    owner = {"apiVersion": "v1", "kind": "TrainingRun" if ours else "Thing", "name": name, "uid": uid}
    metadata = {"name": world.frozen(name), "namespace": "default", "ownerReferences": [owner]}
    world.kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"run.json": "{}"}})
    return world


def test_a_frozen_configuration_of_another_content_is_replaced_before_a_job_is_made() -> None:
    """Such as one that the operator made before it ended, and before the Plugin was edited."""
    world = with_config_map(waiting("r1"), "r1", ours=True)
    world.operator.looks(PROJECT)
    assert world.jobs() == []
    world.passes()
    world.operator.looks(run_key("r1"))
    assert started(world, "r1")
    stored = world.kube.find(CONFIG_MAPS, world.frozen("r1"))
    assert stored is not None
    assert stored["data"]["run.json"] != "{}"


def test_a_configuration_of_somebody_else_under_its_name_keeps_a_run_from_starting_and_is_left_alone() -> None:
    world = with_config_map(waiting("r1"), "r1", ours=False)
    world.operator_looks_at_everything()
    world.passes()
    world.operator_looks_at_everything()
    assert world.jobs() == []
    stored = world.kube.find(TRAINING_RUNS, "r1")
    assert stored is not None
    assert "belongs to somebody else" in stored["status"]["message"]
    assert world.config_map(world.frozen("r1")) == {"run.json": "{}"}
