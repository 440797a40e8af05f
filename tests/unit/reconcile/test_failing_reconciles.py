"""Errors that only the operator's log had: from the third failure on the object says them, until it is reconciled."""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from chorus_kube.errors import Conflict, Forbidden, KubeError, NotFound, Unavailable
from chorus_kube.resources import TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_operator.reconcile import make_reconciler
from fakes import Call
from unit_manifests import plugin, project
from world import NAMESPACE, World

RUN = "home-soft-1"
KEYS = {
    "TrainingRun": Key("TrainingRun", NAMESPACE, RUN, "home"),
    "Project": Key("Project", NAMESPACE, "home", "home"),
    "Plugin": Key("Plugin", NAMESPACE, "soft", ""),
}


@cache
def _prepared(ready: bool) -> World:
    world = World()
    world.kube.put(plugin())
    world.kube.put(project())
    world.settle()
    if ready:
        world.frame_ready()
    return world


def made(*, ready: bool = False) -> World:
    """A Project, maybe with its frame ready and its run accepted."""
    return copy.deepcopy(_prepared(ready))


def fails(world: World, error: Exception, *calls: tuple[str, str]) -> None:
    def before(call: Call) -> None:
        if (call.verb, call.kind) in calls:
            raise error

    world.kube.before = before


def tries(world: World, key: Key, times: int) -> None:
    """The queue tries a key so often."""
    world.restart()
    reconcile = make_reconciler(world._context(), world.failures)
    for _ in range(times):
        world.tell()
        with pytest.raises(Exception, match=r"."):
            asyncio.run(reconcile(key))


def reconciled(stored: dict[str, Any]) -> dict[str, Any] | None:
    conditions = stored.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Reconciled"), None)


def run_of(world: World) -> dict[str, Any]:
    found = world.kube.find(TRAINING_RUNS, RUN)
    assert found is not None
    return found


ERRORS: dict[str, KubeError] = {
    "Forbidden": Forbidden(
        'jobs.batch is forbidden: User "x" cannot create resource "jobs"', status=403, reason="Forbidden"
    ),
    "Unavailable": Unavailable("POST jobs: the API server did not answer", reason="NoAnswer"),
    "NotFound": NotFound("namespaces default not found", status=404, reason="NotFound"),
    "Other": KubeError("quantities must match the regular expression", status=400, reason="BadRequest"),
}
CALLS = [
    ("TrainingRun", "create", "ConfigMap"),
    ("TrainingRun", "create", "Job"),
    ("TrainingRun", "get", "Job"),
    ("TrainingRun", "get", "ConfigMap"),
    ("Project", "get", "ConfigMap"),
]


@pytest.mark.parametrize(("kind", "verb", "resource"), CALLS)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_api_server_is_in_the_objects_status_after_three_failures(
    name: str, kind: str, verb: str, resource: str
) -> None:
    world = made(ready=True)
    for key in [key for key in world.kube.objects if key[0] in ("Job", "ConfigMap") and RUN in key[2]]:
        del world.kube.objects[key]
    stored = run_of(world)
    del stored["status"]["resolved"]
    stored["status"]["attempts"] = {"current": 0}
    world.kube.put(stored)
    fails(world, ERRORS[name], (verb, resource))
    key = KEYS[kind]
    tries(world, key, 2)
    read = (lambda: run_of(world)) if kind == "TrainingRun" else world.project
    assert reconciled(read()) is None
    tries(world, key, 1)
    condition = reconciled(read())
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "ReconcileFailed")
    assert str(ERRORS[name]) in condition["message"]
    assert read()["status"]["reason"] == "ReconcileFailed"
    world.kube.before = lambda call: None
    world.settle()
    assert reconciled(read()) is None
    assert read()["status"]["reason"] != "ReconcileFailed"


def test_a_secret_in_an_error_is_masked() -> None:
    world = made()
    fails(world, KubeError("url https://user:hunter2pass@host/x is wrong", status=400), ("get", "ConfigMap"))
    tries(world, KEYS["Project"], 3)
    condition = reconciled(world.project())
    assert condition is not None
    assert "hunter2pass" not in condition["message"]


def test_a_conflict_is_no_failure() -> None:
    world = made()
    fails(world, Conflict("changed", status=409, reason="Conflict"), ("get", "ConfigMap"))
    tries(world, KEYS["Project"], 5)
    assert reconciled(world.project()) is None


def test_the_same_failure_is_written_once() -> None:
    world = made()
    fails(world, ERRORS["Forbidden"], ("get", "ConfigMap"))
    tries(world, KEYS["Project"], 3)
    version = world.project()["metadata"]["resourceVersion"]
    tries(world, KEYS["Project"], 3)
    assert world.project()["metadata"]["resourceVersion"] == version


def test_a_report_that_the_api_server_refuses_hides_no_error() -> None:
    world = made()
    fails(world, ERRORS["Forbidden"], ("get", "ConfigMap"), ("patch_status", "Project"))
    tries(world, KEYS["Project"], 4)
    assert reconciled(world.project()) is None


def test_an_error_that_reads_otherwise_each_time_is_written_every_five_minutes_at_most() -> None:
    world = made()
    numbers = iter(range(1000))

    def before(call: Call) -> None:
        if (call.verb, call.kind) == ("get", "ConfigMap"):
            raise KubeError(f"read tcp 10.0.0.5:{next(numbers)}: connection reset", status=500)

    world.kube.before = before
    tries(world, KEYS["Project"], 3)
    version = world.project()["metadata"]["resourceVersion"]
    tries(world, KEYS["Project"], 5)
    assert world.project()["metadata"]["resourceVersion"] == version
    world.now += timedelta(minutes=6)
    tries(world, KEYS["Project"], 1)
    assert world.project()["metadata"]["resourceVersion"] != version


def test_an_ended_run_keeps_its_reason_whatever_fails_afterwards() -> None:
    world = made(ready=True)
    world.train_to_the_end(RUN)
    before = run_of(world)["status"]
    assert before["phase"] == "TRAINED"
    stored = run_of(world)
    world.kube.put({**stored, "spec": {**stored["spec"], "ttlSecondsAfterFinished": 0}})
    fails(world, ERRORS["Forbidden"], ("delete", "TrainingRun"))
    tries(world, KEYS["TrainingRun"], 4)
    assert run_of(world)["status"] == before
