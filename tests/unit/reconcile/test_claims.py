"""Which claim a Project has: its own, one that a Project of its name has left, and never another's by accident."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chorus_kube.errors import Unavailable
from chorus_kube.resources import CLAIMS
from chorus_kube.work_queue import Key
from fakes import Call
from unit_manifests import plugin, project, run
from world import NAMESPACE, Killed, World

OURS = {"app.kubernetes.io/managed-by": "chorus", "chorus.dev/project": "home"}
OLD = "2025-01-01T00:00:00Z"


def claim(name: str, *, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    described = {"name": name, "labels": OURS if labels is None else labels, **metadata}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": described}


def world_with(*claims: dict[str, Any]) -> World:
    """A world in which these claims are there before the Project."""
    world = World()
    for manifest in claims:
        world.kube.put(manifest)
    return world


def claims_of(world: World) -> set[str]:
    return {stored["metadata"]["name"] for stored in world.kube.all(CLAIMS)} - {"models"}


def used_by(world: World, name: str = "home") -> str:
    """The claim that the Project says that it has; all its pods must have the same."""
    said = str(world.project(name)["status"]["claimName"])
    for stored in world.kube.objects.values():
        if stored["kind"] == "Job" and stored["metadata"]["labels"]["chorus.dev/project"] == name:
            volumes = stored["spec"]["template"]["spec"]["volumes"]
            mounted = {each["name"]: each.get("persistentVolumeClaim", {}).get("claimName") for each in volumes}
            assert mounted["data"] == said, stored["metadata"]["name"]
    return said


def trained(world: World) -> World:
    """Apply the Project and let a run of it end, so that every kind of pod was made."""
    world.put(plugin(), project())
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    return world


def test_a_new_claim_bears_digits_of_the_projects_uid_and_all_pods_have_it() -> None:
    world = trained(World())
    name = f"home-{world.project()['metadata']['uid'][:5]}-data"
    assert (used_by(world), claims_of(world)) == (name, {name})
    assert world.run("home-soft-1")["status"]["model"]["uri"].startswith(f"pvc://{name}/")


def test_a_claim_that_an_older_version_made_and_a_deleted_project_has_left_is_taken_up_again() -> None:
    world = trained(world_with(claim("home-data")))
    assert (used_by(world), claims_of(world)) == ("home-data", {"home-data"})


def test_a_claim_that_a_deleted_project_has_left_is_taken_up_again() -> None:
    world = trained(World())
    left = used_by(world)
    for key in [key for key in world.kube.objects if key[0] in ("Project", "TrainingRun", "Job", "ConfigMap", "Pod")]:
        del world.kube.objects[key]
    trained(world)
    assert (used_by(world), claims_of(world)) == (left, {left})


def test_of_claims_that_several_projects_have_left_the_newest_is_taken_up() -> None:
    older = claim("home-aaaaa-data", creationTimestamp=OLD)
    world = trained(world_with(older, claim("home-bbbbb-data")))
    assert used_by(world) == "home-bbbbb-data"


@pytest.mark.parametrize(
    "stranger",
    [
        claim("home-data", labels={}),
        claim("home-data", labels={**OURS, "chorus.dev/project": "another"}),
        claim("home-data", ownerReferences=[{"kind": "Project", "name": "home", "uid": "an-earlier-one"}]),
        claim("home-aaaaa-data", deletionTimestamp=OLD, finalizers=["kubernetes.io/pvc-protection"]),
    ],
    ids=["of a user", "of another Project", "of an earlier Project, with which it goes", "that is being deleted"],
)
def test_a_claim_that_is_not_for_the_project_is_not_used(stranger: dict[str, Any]) -> None:
    world = trained(world_with(stranger))
    assert used_by(world) == f"home-{world.project()['metadata']['uid'][:5]}-data"


def test_a_claim_that_the_data_of_a_project_is_on_already_is_kept_whatever_its_labels_are() -> None:
    world = trained(world_with(claim("home-data")))
    stored = world.project()
    del stored["status"]["claimName"]  # as an older version leaves it
    world.kube.put(stored)
    world.kube.put(claim("home-data", labels={}))
    world.settle()
    assert used_by(world) == "home-data"


@pytest.mark.parametrize("mend", ["delete", "label"])
def test_a_claim_that_a_stranger_makes_in_advance_is_refused_by_name_until_it_goes_or_is_given(mend: str) -> None:
    world = World()
    there: list[str] = []

    def before(call: Call) -> None:
        if not there and (call.verb, call.kind) == ("create", "PersistentVolumeClaim"):
            there.append(call.name)
            world.kube.put(claim(call.name, labels={}))

    world.kube.before = before
    world.put(plugin(), project())
    status = world.project()["status"]
    assert (status["phase"], status["reason"]) == ("failed", "NameTaken")
    assert f"PersistentVolumeClaim {there[0]} was not made for Project home" in status["message"]
    assert world.jobs("prepare") == []
    if mend == "delete":
        del world.kube.objects["PersistentVolumeClaim", NAMESPACE, there[0]]
    else:
        world.kube.put(claim(there[0]))
    world.later(31)
    trained(world)
    assert used_by(world) == there[0]


def test_a_claim_in_whose_place_a_stranger_puts_another_holds_runs_back_and_is_told() -> None:
    world = trained(World())
    name = used_by(world)
    world.kube.put(claim(name, labels={}))
    world.put(run("by-hand"))
    assert world.phase("by-hand") == "queued"
    degraded = next(each for each in world.project()["status"]["conditions"] if each["type"] == "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "NameTaken")
    assert name in degraded["message"]


@pytest.mark.parametrize("error", [Killed, lambda: Unavailable("away", status=503)], ids=["killed", "away"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("verb", "kind"),
    [("list", "PersistentVolumeClaim"), ("create", "PersistentVolumeClaim"), ("patch_status", "Project")],
)
def test_an_operator_that_ends_while_it_decides_makes_one_claim(verb: str, kind: str, when: str, error: Any) -> None:
    world = World()
    left = iter([True])

    def hook(call: Call) -> None:
        if (call.verb, call.kind) == (verb, kind) and next(left, False):
            raise error()

    setattr(world.kube, when, hook)
    trained(world)
    assert claims_of(world) == {used_by(world)}


def test_a_run_whose_project_was_made_again_publishes_to_the_claim_it_was_accepted_with() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("by-hand"))
    world.pod_trains("by-hand")
    left = used_by(world)
    del world.kube.objects["Project", NAMESPACE, "home"]
    world.kube.put(project(trainOn="Manual"))
    job = world.job(world.attempt("by-hand"))
    assert job is not None
    for pod in world.pods_of(world.attempt("by-hand")):
        world.kube.put({**pod, "status": {**pod["status"], "phase": "Succeeded"}})
    world.kube.put({**job, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    asyncio.run(world.look(Key("TrainingRun", NAMESPACE, "by-hand", "home")))
    assert world.jobs("publish") == [world.publication("by-hand")]
    world.settle()
    assert used_by(world) == left
