"""What an earlier object of the same name has left, and what others have put there, is never taken for a child."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from chorus_api import contract
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import CONFIG_MAPS, JOBS
from fakes import Call
from service_world import MODEL, RUN, ServiceWorld
from unit_manifests import container_plugin, plugin, project, run
from world import NAMESPACE, World, frame, made_once

Manifest = dict[str, Any]


@pytest.fixture
@made_once
def world() -> World:
    """A Project whose frame is ready, and a run by hand that trains."""
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("x", lora={"learningRate": "1e-3"}))
    world.pod_trains("x")
    return world


def remove(world: World, *kept: str) -> None:
    """Delete the run as the API server does at once; of its children only those with these words are left as yet."""
    del world.kube.objects["TrainingRun", NAMESPACE, "x"]
    for key, stored in list(world.kube.objects.items()):
        ours = stored["metadata"].get("labels", {}).get(contract.RUN_LABEL) == "x"
        if ours and not any(word in f"{key[0]} {key[2]}" for word in kept):
            del world.kube.objects[key]


def told(world: World, name: str = "x") -> Manifest:
    """What the run's pods are told."""
    (stored,) = [
        each
        for each in world.kube.all(CONFIG_MAPS)
        if each["metadata"]["name"].endswith("-frozen")
        and each["metadata"]["ownerReferences"][0]["uid"] == world.run(name)["metadata"]["uid"]
    ]
    config: Manifest = json.loads(stored["data"]["run.json"])
    return config


def live_job(world: World) -> Manifest:
    """The one Job of the run that is there now."""
    uid = world.run("x")["metadata"]["uid"]
    (job,) = [
        job for job in world.kube.all(JOBS) if uid in [o["uid"] for o in job["metadata"].get("ownerReferences", ())]
    ]
    return job


# Made again before the garbage collector came


def test_a_run_that_is_replaced_by_force_starts_its_own_life_while_the_old_job_is_there(world: World) -> None:
    remove(world, "Job", "ConfigMap", "Pod")
    world.put(run("x", lora={"learningRate": "5e-5"}))
    assert world.phase("x") == "queued"
    assert live_job(world)["metadata"]["name"] == world.attempt("x")
    world.train_to_the_end("x")
    assert world.phase("x") == "TRAINED"


def test_a_run_that_is_made_again_trains_on_its_own_configuration_while_the_old_one_is_there(world: World) -> None:
    remove(world, "ConfigMap")
    world.put(run("x", lora={"learningRate": "5e-5"}))
    uid = world.run("x")["metadata"]["uid"]
    config = told(world)
    assert config["runUid"] == config["messaging"]["subjectUid"] == uid
    assert config["decoder"]["learningRate"] == "5e-5"
    assert config["modelName"] == f"x-{uid[:5]}"
    mounted = live_job(world)["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": world.frozen("x")}} in mounted


def test_a_run_that_is_made_again_after_orphaning_publishes_its_own_model(world: World) -> None:
    finish(world)
    first = world.run("x")["status"]["model"]["name"]
    remove(world, "Job", "ConfigMap")
    for stored in [*world.kube.all(JOBS), *world.kube.all(CONFIG_MAPS)]:
        if stored["metadata"].get("labels", {}).get(contract.RUN_LABEL) == "x":
            stored["metadata"].pop("ownerReferences")
            world.kube.put(stored)
    for job in world.jobs():
        del world.kube.objects["Job", NAMESPACE, job]
    world.put(run("x"))
    world.pod_trains("x")
    record = TerminationRecord(outcome="succeeded", digest="sha256:" + "ef" * 32, final_loss=0.1, samples=7)
    world.job_ends(live_job(world)["metadata"]["name"], record=record)
    assert world.phase("x") == "TRAINING", "it is being published"
    world.publish("x")
    model = world.run("x")["status"]["model"]["name"]
    assert model == f"x-{world.run('x')['metadata']['uid'][:5]}" != first


def finish(world: World) -> None:
    """The run trains well and is published."""
    record = TerminationRecord(outcome="succeeded", digest="sha256:" + "cd" * 32, final_loss=0.4, samples=100)
    world.job_ends(world.attempt("x"), record=record)
    world.publish("x")


def test_a_project_that_is_made_again_prepares_its_own_frame(world: World) -> None:
    (old,) = world.jobs("prepare")
    del world.kube.objects["Project", NAMESPACE, "home"]
    world.put(project(trainOn="Manual"))
    assert len(world.jobs("prepare")) == 2
    assert world.project()["status"]["phase"] == "PREPROCESSING"
    world.frame_ready(result=frame("df-fedcba987654"))
    assert world.project()["status"]["dataset"]["name"] == "df-fedcba987654"
    assert world.job(old) is not None


def test_a_plugin_that_is_made_again_is_asked_again() -> None:
    world = World()
    world.put(container_plugin())
    (old,) = world.jobs("describe")
    world.job_ends(old, exit_code=1)
    del world.kube.objects["Plugin", NAMESPACE, "soft"]
    world.put(container_plugin())
    assert len(world.jobs("describe")) == 2
    ready = next(each for each in world.plugin("soft")["status"]["conditions"] if each["type"] == "Ready")
    assert ready["reason"] == "AwaitingPlugin"


# Names that others have


def put_in_the_way(world: World, kind: str, part: str, owner: Manifest | None = None) -> list[tuple[str, str, str]]:
    """Have somebody make an object right before the operator makes a child, under its name, which fits the pattern.

    What is returned holds the key of the object once it is there.
    """
    there: list[tuple[str, str, str]] = []

    def before(call: Call) -> None:
        if not there and (call.verb, call.kind) == ("create", kind) and re.search(part, call.name):
            there.append((kind, NAMESPACE, call.name))
            metadata = {"name": call.name, "labels": {contract.ROLE_LABEL: "stranger"}}
            if owner is not None:
                metadata["ownerReferences"] = [owner]
            version = {"Job": "batch/v1"}.get(kind, "v1")
            world.kube.put({"apiVersion": version, "kind": kind, "metadata": metadata, "data": {}, "spec": {}})

    world.kube.before = before
    return there


def lora_story(world: World) -> None:
    """From the Project to a fetched base model and an attempt."""
    world.put(plugin(lora={"baseModel": {"uri": "hf://a/b"}}), project())


def go_on(world: World) -> None:
    """Let pods do what they do, as far as there are any."""
    for job in world.jobs("prepare"):
        if not world.project()["status"].get("dataset"):
            world.frame_ready()
            world.job_ends(job)
    for job in world.jobs("fetch"):
        world.job_ends(job, record=TerminationRecord(outcome="succeeded"))
    for job in world.jobs("train"):
        if not world.pods_of(job):
            world.pod_trains("home-soft-1")
            record = TerminationRecord(outcome="succeeded", digest="sha256:" + "cd" * 32, final_loss=0.4, samples=1)
            world.job_ends(job, record=record)
    for job in world.jobs("publish"):
        if not world.pods_of(job):
            world.publish("home-soft-1")


def words(world: World) -> str:
    """All that the statuses say."""
    return json.dumps([s.get("status", {}) for s in world.kube.objects.values() if "chorus.dev" in s["apiVersion"]])


CHILDREN = [
    ("PersistentVolumeClaim", "-data"),
    ("ConfigMap", "-prepare-"),
    ("Job", "-prepare-"),
    ("ConfigMap", "-frozen"),
    ("ConfigMap", "-base-"),
    ("Job", "-base-"),
    ("Job", "-1$"),
    ("ConfigMap", "-pub"),
    ("Job", "-pub"),
]


@pytest.mark.parametrize(("kind", "part"), CHILDREN)
def test_a_name_that_a_stranger_has_is_told_and_the_work_goes_on_when_it_is_free(kind: str, part: str) -> None:
    world = World()
    there = put_in_the_way(world, kind, part)
    lora_story(world)
    for _ in range(4):
        go_on(world)
        world.later(31)
    ((_, _, name),) = there
    assert f"{kind} {name} " in words(world)
    assert "delete it" in words(world)
    assert not world.runs() or world.phase("home-soft-1") == "queued" or part == "-pub"
    del world.kube.objects[there[0]]
    for _ in range(4):
        world.later(31)
        go_on(world)
    assert world.phase("home-soft-1") == "TRAINED"
    assert world.kube.objects[there[0]]["metadata"]["labels"].get(contract.ROLE_LABEL) != "stranger"
    assert "belongs to somebody else" not in words(world)


@pytest.mark.parametrize(("kind", "part"), [("Service", "ex-"), ("ConfigMap", "ex-"), ("Job", "-1$")])
def test_a_name_of_an_exchange_that_a_stranger_has_is_told_and_waited_for(kind: str, part: str) -> None:
    world = ServiceWorld()
    there = put_in_the_way(world, kind, part)
    world.begin()
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("queued", "NameTaken")
    assert f"{kind} {there[0][2]} exists and belongs to somebody else" in status["message"]
    del world.kube.objects[there[0]]
    world.later(31)
    world.trains()
    world.pod_says(RUN, modelName=MODEL)
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_a_plugin_tells_who_has_the_name_of_its_job(kind: str) -> None:
    world = World()
    there = put_in_the_way(world, kind, "-describe-")
    world.put(container_plugin())
    ready = next(each for each in world.plugin("soft")["status"]["conditions"] if each["type"] == "Ready")
    assert (ready["reason"], ready["message"].startswith(f"{kind} {there[0][2]} ")) == ("NameTaken", True)
    del world.kube.objects[there[0]]
    world.settle()
    assert len(world.jobs("describe")) == 1


def test_a_result_of_a_frame_that_a_stranger_has_put_there_is_not_used() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    (result,) = [each for each in world.kube.all(CONFIG_MAPS) if "-frame-" in each["metadata"]["name"]]
    other = World()
    other.put(plugin())
    other.kube.put({**result, "metadata": {"name": result["metadata"]["name"]}})
    other.put(project())
    status = other.project()["status"]
    assert (status["phase"], status["reason"]) == ("failed", "NameTaken")
    assert f"ConfigMap {result['metadata']['name']} exists" in status["message"]
    del other.kube.objects["ConfigMap", NAMESPACE, result["metadata"]["name"]]
    other.later(31)
    assert other.project()["status"]["phase"] == "PREPROCESSING"


def test_a_child_of_an_earlier_life_under_the_very_name_is_waited_for_with_the_words_of_one() -> None:
    world = World()
    owner = {"kind": "TrainingRun", "name": "home-soft-1", "uid": "an-earlier-one", "controller": True}
    there = put_in_the_way(world, "Job", "-1$", owner)
    world.put(plugin(), project())
    world.frame_ready()
    status = world.run("home-soft-1")["status"]
    assert (status["phase"], status["reason"]) == ("queued", "NameTaken")
    assert "of an earlier TrainingRun home-soft-1 is still being removed" in status["message"]
    del world.kube.objects[there[0]]
    world.later(5)
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_run_whose_name_for_a_child_stays_taken_ends_after_an_hour() -> None:
    world = World()
    put_in_the_way(world, "Job", "-1$")
    world.put(plugin(), project())
    world.frame_ready()
    world.later(3599)
    assert world.phase("home-soft-1") == "queued"
    world.later(2)
    status = world.run("home-soft-1")["status"]
    assert (status["phase"], status["reason"]) == ("failed", "JobRejected")
    assert "belongs to somebody else" in status["message"]


def test_a_job_that_a_stranger_puts_in_the_place_of_one_that_trains_is_not_believed(world: World) -> None:
    job = world.attempt("x")
    stored = world.job(job)
    assert stored is not None
    metadata = {**stored["metadata"], "ownerReferences": [], "uid": "a-strangers"}
    complete = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.kube.put({**stored, "metadata": metadata, "status": complete})
    world.settle()
    status = world.run("x")["status"]
    assert (status["phase"], status["reason"]) == ("TRAINING", "NameTaken")
    assert world.jobs("publish") == []


def test_a_pod_that_only_bears_the_labels_of_a_job_is_not_believed(world: World) -> None:
    (pod,) = world.pods_of(world.attempt("x"))
    record = TerminationRecord(outcome="succeeded", digest="sha256:" + "ee" * 32, final_loss=0.0, samples=1)
    ended = {"exitCode": 0, "message": record.model_dump_json(by_alias=True, exclude_none=True)}
    stranger = {
        **pod,
        "metadata": {
            "name": "zz-stranger",
            "labels": pod["metadata"]["labels"],
            "annotations": pod["metadata"]["annotations"],
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"name": pod["spec"]["containers"][0]["name"], "state": {"terminated": ended}}],
        },
    }
    world.kube.put(stranger)
    true = TerminationRecord(outcome="succeeded", digest="sha256:" + "cd" * 32, final_loss=0.4, samples=100)
    world.kube.before = _without_strangers(world)
    world.job_ends(world.attempt("x"), record=true)
    config = json.loads(world.config_map(world.publication("x"))["job.json"])
    assert config["expectedDigest"] == true.digest


def _without_strangers(world: World) -> Callable[[Call], None]:
    """Put the stranger's last word back each time: `job_ends` of the tests lets every pod with the label end."""
    stranger = world.kube.objects["Pod", NAMESPACE, "zz-stranger"]

    def before(call: Call) -> None:
        world.kube.objects["Pod", NAMESPACE, "zz-stranger"] = stranger

    return before
