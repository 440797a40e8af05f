"""The frozen ConfigMap is no way in: who may write ConfigMaps, but no pods, comes by no pod through it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from builders import make_plugin, make_project, make_run
from chorus_api.operator_config import OperatorConfig
from chorus_api.resources import BUILT_IN_JOB_RESOURCES, Resources
from chorus_kube.resources import CONFIG_MAPS, JOBS
from chorus_kube.work_queue import Key
from chorus_operator.decisions.run.frozen import digest_of
from fakes import Call
from world import NAMESPACE, Killed, World

RUN = "mine"
CONTAINER = {"image": "registry.test/p:1", "describe": False}


def prepared() -> World:
    """A Project with a container plugin whose frame is ready, and no run yet."""
    world = World()
    plugin = make_plugin("p", spec={"type": "container", "lora": None, "container": CONTAINER})
    world.put(plugin, make_project(plugins=["p"], spec={"trainOn": "Manual"}))
    world.frame_ready("shop")
    return world


def accepted() -> World:
    world = prepared()
    world.put(make_run(RUN, plugin="p"))
    return world


def stored(world: World) -> dict[str, Any]:
    found = world.kube.find(CONFIG_MAPS, world.frozen(RUN))
    assert found is not None
    return found


def remove(world: World) -> dict[str, Any]:
    found = stored(world)
    del world.kube.objects["ConfigMap", NAMESPACE, found["metadata"]["name"]]
    return found


def forged(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The ConfigMap with another priority for the operator and another image for the pod, owned as before."""
    data = dict(manifest["data"])
    operator = json.loads(data.get("operator.json", "{}"))
    operator["pod"] = {**operator.get("pod", {}), "priorityClassName": "system-node-critical"}
    config = {**json.loads(data["run.json"]), "image": "registry.test/mine:1"}
    data |= {"operator.json": json.dumps(operator), "run.json": json.dumps(config)}
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in ("uid", "resourceVersion")}
    return {**manifest, "metadata": metadata | changes, "data": data}


def pods_wanted(world: World) -> list[tuple[str, str | None]]:
    """Image and priority of what the operator has made Jobs for."""
    templates = [job["spec"]["template"]["spec"] for job in world.kube.all(JOBS) if RUN in job["metadata"]["name"]]
    return [(each["containers"][0]["image"], each.get("priorityClassName")) for each in templates]


def test_the_status_keeps_the_digest_of_the_whole_content() -> None:
    world = accepted()
    assert world.run(RUN)["status"]["resolved"]["digest"] == digest_of(stored(world)["data"])


def test_a_frozen_configuration_with_another_content_ends_the_run() -> None:
    world = accepted()
    world.kube.put(forged(remove(world)))
    world.job_ends(world.attempt(RUN), exit_code=137)
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("failed", "FrozenConfigChanged")
    assert world.frozen(RUN) in status["message"]
    assert pods_wanted(world) == [("registry.test/p:1", None)]


def test_a_frozen_configuration_of_another_owner_is_not_read() -> None:
    world = accepted()
    world.kube.put(forged(remove(world), ownerReferences=[]))
    world.job_ends(world.attempt(RUN), exit_code=137)
    assert pods_wanted(world) == [("registry.test/p:1", None)]
    assert world.run(RUN)["status"]["reason"] == "NameTaken"


def test_a_missing_frozen_configuration_is_written_again_with_the_same_digest() -> None:
    world = accepted()
    before = remove(world)
    world.job_ends(world.attempt(RUN), exit_code=137)
    assert stored(world)["data"] == before["data"]
    assert world.attempt(RUN, 2) in world.jobs()


def test_a_missing_frozen_configuration_that_cannot_be_written_again_ends_the_run_and_its_pod() -> None:
    world = accepted()
    world.pod_starts(world.attempt(RUN))
    remove(world)
    plugin = make_plugin("p", spec={"type": "container", "lora": None, "container": {**CONTAINER, "image": "other:2"}})
    world.put(plugin)
    status = world.run(RUN)["status"]
    assert (status["phase"], status["reason"]) == ("failed", "FrozenConfigChanged")
    assert world.job(world.attempt(RUN)) is None


def test_what_a_version_without_job_resources_froze_is_written_again_with_the_same_digest() -> None:
    world = accepted()
    frozen = json.loads(stored(world)["data"]["operator.json"])
    assert "jobResources" not in frozen, "no version before this one has written it"
    assert OperatorConfig.model_validate(frozen).job_resources == BUILT_IN_JOB_RESOURCES


def test_what_the_operator_says_of_jobs_is_frozen_and_another_word_of_it_changes_nothing() -> None:
    world = prepared()
    world.job_resources = Resources(limits={"cpu": "2"})
    world.put(make_run(RUN, plugin="p"))
    before = stored(world)["data"]
    assert json.loads(before["operator.json"])["jobResources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    world.job_resources = Resources(limits={"cpu": "7"})
    world.job_ends(world.attempt(RUN), exit_code=137)
    assert stored(world)["data"] == before
    assert world.attempt(RUN, 2) in world.jobs()


@pytest.mark.parametrize("name", ["-frozen", "-config"])
def test_what_somebody_writes_before_the_run_is_accepted_is_replaced(name: str) -> None:
    honest = accepted()
    manifest = stored(honest)
    world = prepared()
    world.kube.put(make_run(RUN, plugin="p"))
    uid = world.run(RUN)["metadata"]["uid"]
    owner = [{**manifest["metadata"]["ownerReferences"][0], "uid": uid}]
    world.kube.put(forged(manifest, name=f"{RUN}-{uid[:5]}{name}", ownerReferences=owner))
    world.settle()
    assert pods_wanted(world) == [("registry.test/p:1", None)]
    assert world.run(RUN)["status"]["resolved"]["digest"] == digest_of(stored(world)["data"])


def test_a_former_name_that_somebody_takes_before_the_run_is_accepted_decides_nothing() -> None:
    manifest = stored(accepted())
    world = prepared()
    world.kube.put(make_run(RUN, plugin="p"))
    uid = world.run(RUN)["metadata"]["uid"]
    owner = [{**manifest["metadata"]["ownerReferences"][0], "uid": uid}]
    world.kube.put(forged(manifest, name=f"{RUN}-config", ownerReferences=owner))
    world.settle()
    assert pods_wanted(world) == [("registry.test/p:1", None)]


def killed_after_its_job() -> World:
    """The operator has made the first attempt's Job, and ended before it could write the status."""
    world = prepared()
    world.kube.put(make_run(RUN, plugin="p"))

    def after(call: Call) -> None:
        if (call.kind, call.verb) == ("Job", "create"):
            raise Killed

    world.kube.after = after
    for key in (Key("Project", NAMESPACE, "shop", "shop"), Key("TrainingRun", NAMESPACE, RUN, "shop")):
        try:
            asyncio.run(world.look(key))
        except Killed:
            break
    world.kube.after = lambda call: None
    return world


def test_an_operator_that_ended_before_it_wrote_the_digest_goes_on_with_what_its_job_was_made_from() -> None:
    world = killed_after_its_job()
    before = stored(world)["data"]
    assert "status" not in world.run(RUN), "not even its admission is written"
    other = make_plugin("p", spec={"type": "container", "lora": None, "container": {**CONTAINER, "image": "other:2"}})
    world.put(other)
    assert stored(world)["data"] == before
    assert world.run(RUN)["status"]["resolved"]["digest"] == digest_of(before)
    assert pods_wanted(world) == [("registry.test/p:1", None)]


@pytest.mark.parametrize("name", ["stem", "former"])
def test_what_somebody_writes_while_the_operator_is_away_makes_no_second_job(name: str) -> None:
    world = killed_after_its_job()
    honest = remove(world)
    uid = world.run(RUN)["metadata"]["uid"]
    planted = f"{RUN}-{uid[:5]}-config" if name == "stem" else f"{RUN}-config"
    world.kube.put(forged(honest, name=planted))
    world.settle()
    assert pods_wanted(world) == [("registry.test/p:1", None)]
    assert world.jobs() == [world.attempt(RUN)]


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", "null", "7", ""])
def test_a_configuration_of_any_form_that_somebody_writes_before_the_run_is_accepted_stops_nothing(text: str) -> None:
    manifest = stored(accepted())
    world = prepared()
    world.kube.put(make_run(RUN, plugin="p"))
    uid = world.run(RUN)["metadata"]["uid"]
    owner = [{**manifest["metadata"]["ownerReferences"][0], "uid": uid}]
    planted = forged(manifest, name=f"{RUN}-{uid[:5]}-config", ownerReferences=owner)
    world.kube.put({**planted, "data": {"run.json": text, "operator.json": "{}"}})
    world.settle()
    assert pods_wanted(world) == [("registry.test/p:1", None)]


def taken() -> World:
    """Somebody deletes the frozen configuration of a run that trains, and takes its name."""
    world = accepted()
    world.pod_trains(RUN)
    world.kube.put(forged(remove(world), ownerReferences=[]))
    world.settle()
    assert world.run(RUN)["status"]["reason"] == "NameTaken"
    return world


def test_a_run_whose_configuration_cannot_be_read_can_be_cancelled() -> None:
    world = taken()
    stored = world.run(RUN)
    world.kube.put({**stored, "spec": {**stored["spec"], "cancel": True}})
    world.settle()
    for key in [key for key in world.kube.objects if key[0] == "Pod"]:
        world.kube.objects.pop(key)
    world.settle()
    assert (world.phase(RUN), world.job(world.attempt(RUN))) == ("cancelled", None)


def test_a_run_that_ends_for_a_name_leaves_no_job_that_trains_on() -> None:
    world = taken()
    world.later(3700)
    assert world.run(RUN)["status"]["reason"] == "JobRejected"
    assert world.job(world.attempt(RUN)) is None
