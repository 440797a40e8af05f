"""From a finished training to a published model: what is waited for, what the publish Job is told, and what it says."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chorus_api import contract
from chorus_api.project import Project
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import CLAIMS, CONFIG_MAPS, PODS, PROJECTS
from chorus_operator.decisions.project.listed_runs import listed_runs
from chorus_operator.decisions.run.publication import POD_END_SECONDS
from unit_manifests import plugin, project, run
from world import World, iso, made_once

RUN = "home-soft-1"
LEFT = "home-soft-1-left"
GRACE = 120
"""checkpoint.graceSeconds of the Plugin, by default."""
OTHERS = "Project team-b/cars (uid 1234)"


@pytest.fixture
@made_once
def world() -> World:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    return world


@pytest.fixture
def tried_again(world: World) -> World:
    """A run whose first attempt was disrupted: a pod of it may be left."""
    world.pod_trains(RUN)
    world.job_ends(world.attempt(RUN), exit_code=75)
    assert world.run(RUN)["status"]["attempts"]["current"] == 2
    return world


def train(world: World, name: str = RUN) -> None:
    world.pod_trains(name)
    attempt = world.run(name)["status"]["attempts"]["current"]
    record = TerminationRecord(outcome="succeeded", digest="sha256:" + "cd" * 32, final_loss=0.4, samples=100)
    world.job_ends(world.attempt(name, attempt), record=record)


def put_pod(world: World, *, run_uid: str | None = None, phase: str = "Running", deleting: str | None = None) -> None:
    """Leave a pod of the run that is no pod of its present attempt's Job."""
    metadata: dict[str, Any] = {
        "name": LEFT,
        "labels": {contract.RUN_LABEL: RUN, "batch.kubernetes.io/job-name": "gone"},
        "annotations": {contract.RUN_UID_ANNOTATION: run_uid or world.run(RUN)["metadata"]["uid"]},
    }
    if deleting is not None:
        metadata["deletionTimestamp"] = deleting
    spec = {"nodeName": "node-1", "containers": [{"name": "trainer"}]}
    world.kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}})
    world.settle()


def told(world: World, name: str = RUN) -> dict[str, Any]:
    return world.told_to_publish(name)


def publish_pod(world: World) -> dict[str, Any]:
    stored = world.job(world.publication(RUN))
    assert stored is not None
    return dict(stored["spec"]["template"])


def condition(stored: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((dict(each) for each in stored["status"]["conditions"] if each["type"] == kind), {})


# How it is told


@pytest.fixture
def swept(world: World) -> World:
    world.has_swept = True
    return world


def test_it_is_told_by_its_environment_alone_so_that_one_request_starts_it(swept: World) -> None:
    train(swept)
    assert swept.kube.find(CONFIG_MAPS, swept.publication(RUN)) is None
    assert (told(swept)["runName"], told(swept)["runUid"]) == (RUN, swept.run(RUN)["metadata"]["uid"])


def test_a_list_of_all_runs_is_told_by_a_config_map_since_no_environment_could_hold_it(world: World) -> None:
    train(world)
    listed = json.loads(world.config_map(world.publication(RUN))["job.json"])["listedRuns"]
    assert listed["own"] == [world.run(RUN)["metadata"]["uid"]]
    assert "env" not in publish_pod(world)["spec"]["containers"][0]


def test_its_pod_has_no_part_that_it_does_not_need(swept: World) -> None:
    train(swept)
    pod = publish_pod(swept)
    [container] = pod["spec"]["containers"]
    assert [variable["name"] for variable in container["env"]] == [contract.JOB_CONFIG_VARIABLE]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["data"], "it sends nothing and needs no /tmp"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [str(contract.VOLUME_DIR)]
    assert "initContainers" not in pod["spec"]
    # By these Chorus knows whose a pod is whose Job is gone, and which container counts beside an injected sidecar.
    assert pod["metadata"]["annotations"].keys() == {contract.RUN_UID_ANNOTATION, contract.MAIN_CONTAINER_ANNOTATION}


def test_it_stays_on_the_node_of_a_claim_that_only_one_node_can_have(swept: World) -> None:
    train(swept)
    [term] = publish_pod(swept)["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"] == {"matchLabels": {contract.PROJECT_LABEL: "home"}}


def test_nothing_that_a_training_reports_is_expanded_as_a_variable_of_the_pod(swept: World) -> None:
    swept.pod_trains(RUN)
    record = TerminationRecord(outcome="succeeded", digest="$(HOME)$$(HOME)", final_loss=0.4, samples=100)
    swept.job_ends(swept.attempt(RUN), record=record)
    assert told(swept)["expectedDigest"] == "$(HOME)$$(HOME)"
    assert "$" not in publish_pod(swept)["spec"]["containers"][0]["env"][0]["value"]


# When it begins


def test_nothing_is_published_while_any_pod_of_the_run_is_left(tried_again: World) -> None:
    world = tried_again
    put_pod(world)
    train(world)
    assert world.jobs("publish") == []
    assert condition(world.run(RUN), "ModelPublished")["message"] == f"Waiting for pods of the run to end: {LEFT}."
    assert min(world.wakes) <= 5
    put_pod(world, phase="Failed")
    assert world.jobs("publish") == [world.publication(RUN)]


def test_a_pod_of_another_run_of_that_name_holds_up_nothing(tried_again: World) -> None:
    world = tried_again
    put_pod(world, run_uid="of-an-earlier-life")
    train(world)
    assert world.jobs("publish") == [world.publication(RUN)]


def test_a_pod_that_stays_terminating_is_removed_and_does_not_hold_up_publishing_for_ever(tried_again: World) -> None:
    world = tried_again
    put_pod(world, deleting=iso(world.now + timedelta(seconds=30)))
    train(world)
    world.later(89)
    assert world.jobs("publish") == []
    world.later(2)
    assert world.kube.find(PODS, LEFT) is None
    assert world.jobs("publish") == [world.publication(RUN)]


def test_a_pod_that_never_ends_fails_the_run_and_is_named(tried_again: World) -> None:
    world = tried_again
    put_pod(world)
    train(world)
    world.later(GRACE + POD_END_SECONDS)
    assert world.phase(RUN) == "TRAINING"
    world.later(1)
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("failed", "PublishFailed")
    assert LEFT in status["message"]
    assert world.jobs("publish") == []


# What the Job is told


def test_the_job_is_told_whose_the_run_is_and_which_runs_there_are(world: World) -> None:
    world.put(project("cars"))
    world.frame_ready("cars")
    train(world)
    config = told(world)
    assert (config["project"], config["namespace"]) == ("home", "default")
    assert config["projectUid"] == world.project()["metadata"]["uid"]
    assert config["listedRuns"]["own"] == [world.run(RUN)["metadata"]["uid"]]
    assert config["listedRuns"]["others"] == [world.run("cars-soft-1")["metadata"]["uid"]]
    assert datetime.fromisoformat(config["listedRuns"]["listed"]) == world.now


def test_each_project_on_a_claim_sweeps_for_itself() -> None:
    world = World()
    shared = {"claimName": "models"}
    world.put(plugin(), project(storage=shared), project("cars", storage=shared))
    for name in ("home", "cars"):
        world.frame_ready(name)
        train(world, f"{name}-soft-1")
    assert all(told(world, f"{name}-soft-1")["listedRuns"] is not None for name in ("home", "cars"))


def test_the_job_is_told_which_model_was_promoted_before(world: World) -> None:
    train(world)
    assert told(world)["promotedBefore"] is None
    world.publish(RUN)
    world.put(run("again"))
    train(world, "again")
    assert told(world, "again")["promotedBefore"] == world.run(RUN)["status"]["model"]["name"]


MADE = "2026-01-01T12:00:00Z"
IDENTITY = {"name": "home", "namespace": "default", "uid": "mine", "creationTimestamp": MADE}
MINE = Project.model_validate(project() | {"metadata": IDENTITY})


def stored_run(*, project: str = "home", owner: str | None = None, ended: str | None = None) -> dict[str, Any]:
    owners = [{"kind": "Project", "uid": owner, "name": project}] if owner else []
    status = {"completionTime": ended} if ended else {}
    return {
        "metadata": {"uid": "run", "ownerReferences": owners},
        "spec": {"projectRef": {"name": project}},
        "status": status,
    }


@pytest.mark.parametrize(
    ("stored", "own"),
    [
        (stored_run(), True),
        (stored_run(owner="mine"), True),
        (stored_run(ended="2026-01-01T12:00:01Z"), True),
        (stored_run(project="cars"), False),
        (stored_run(owner="of-an-earlier-life"), False),
        (stored_run(ended="2026-01-01T11:59:59Z"), False),
    ],
)
def test_runs_of_a_deleted_project_of_the_same_name_are_others(stored: dict[str, Any], own: bool) -> None:
    found = listed_runs(MINE, [stored], listed=datetime(2026, 1, 2, tzinfo=UTC))
    assert (found.own, found.others) == ((["run"], []) if own else ([], ["run"]))


# What the Job says


def publish_with(world: World, name: str = RUN, **changes: Any) -> None:
    job = world.publication(name)
    world.pod_starts(job)
    values = {
        "outcome": "succeeded",
        "digest": "sha256:" + "cd" * 32,
        "model_name": told(world, name)["modelName"],
        "final_loss": 0.4,
        "promoted": True,
    }
    world.job_ends(job, record=TerminationRecord.model_validate({**values, **changes}))


def test_a_model_that_could_not_become_latest_says_whose_the_link_is(world: World) -> None:
    train(world)
    publish_with(world, promoted=False, latest_owner=OTHERS)
    stored = world.run(RUN)
    degraded = condition(stored, "Degraded")
    assert (stored["status"]["phase"], stored["status"]["model"]["promoted"]) == ("TRAINED", False)
    assert (degraded["status"], degraded["reason"]) == ("True", "LatestNotOwned")
    claim = world.project()["status"]["claimName"]
    assert f"latest/soft of claim {claim} belongs to {OTHERS}" in degraded["message"]
    assert "latest/.owners/soft" in degraded["message"]
    assert (RUN, "LatestNotOwned", degraded["message"]) in world.kube.events
    of_project = condition(world.project(), "Degraded")
    assert (of_project["status"], of_project["reason"]) == ("True", "LatestNotOwned")
    assert OTHERS in of_project["message"]
    assert world.project()["status"]["phase"] == "TRAINED"


def test_the_project_claims_no_latest_model_that_was_not_promoted_or_is_not_latest_any_more(world: World) -> None:
    train(world)
    publish_with(world)
    assert [row["run"] for row in world.project()["status"]["latestModel"]] == [RUN]
    world.later(60)
    world.put(run("again"))
    train(world, "again")
    publish_with(world, "again", promoted=False, latest_owner=OTHERS)
    assert world.project()["status"].get("latestModel", []) == []


def test_a_run_whose_model_became_latest_is_not_degraded(world: World) -> None:
    train(world)
    publish_with(world)
    assert condition(world.run(RUN), "Degraded") == {}
    assert condition(world.project(), "Degraded")["status"] == "False"


def test_a_volume_without_room_for_the_model_is_the_runs_reason(world: World) -> None:
    train(world)
    job = world.publication(RUN)
    world.pod_starts(job)
    record = TerminationRecord(outcome="failed", reason="VolumeFull", message="needs 5 bytes, but has 3 bytes free")
    world.job_ends(job, exit_code=70, record=record)
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("failed", "VolumeFull")
    assert "needs 5 bytes" in status["message"]


# When the Project is deleted


@pytest.mark.parametrize(
    ("storage", "stays"),
    [
        ({"onDelete": "Delete"}, False),
        ({"onDelete": "Retain"}, True),
        ({}, True),
        ({"claimName": "models", "onDelete": "Delete"}, True),
    ],
)
def test_the_directories_of_a_deleted_project_go_with_its_claim_or_stay(storage: dict[str, str], stays: bool) -> None:
    world = World()
    world.put(plugin(), project(storage=storage))
    claim = storage.get("claimName") or world.project()["status"]["claimName"]
    assert world.kube.find(CLAIMS, claim) is not None
    uid = world.project()["metadata"]["uid"]
    asyncio.run(world.kube.delete(PROJECTS, namespace="default", name="home", uid=uid))
    assert (world.kube.find(CLAIMS, claim) is not None) == stays
