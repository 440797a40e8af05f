"""The operator with everything real but the pods: a Project goes to TRAINED, and no right is spare."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from chorus_operator.ca import CA_SECRET
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kustomize
from harness.client import Manifest
from harness.operator import NAMESPACE
from harness.operator_harness import operator_harness
from harness.pods import by_run
from operator_story import PLAN, SOMETIMES, UNASKED, Right, automatic_runs, rights_in, runs_by_hand

PLACE = "story"


@dataclass(frozen=True)
class Recorded:
    """The story, after its end."""

    project_phases: list[str]
    """Until the Project was TRAINED for the first time."""
    steps_back: list[str]
    runs: dict[str, Manifest]
    """As they were last seen, deleted ones too."""
    left: set[str]
    project: Manifest
    jobs: dict[str, int]
    pods: dict[str, int]
    forbidden: list[str]
    asked: set[Right]
    exit_code: int


@pytest.fixture(scope="module")
def recorded(installed: ControlPlane) -> Recorded:
    return asyncio.run(_record(installed))


async def _record(control_plane: ControlPlane) -> Recorded:
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        if await api.find("Secret", CA_SECRET, namespace=NAMESPACE) is not None:  # an earlier test's operator made it
            await api.delete("Secret", CA_SECRET, namespace=NAMESPACE)
        async with operator_harness(control_plane, api, namespace=PLACE, plan=by_run(PLAN), forked=False) as on:
            project_phases = await automatic_runs(on)
            runs = await runs_by_hand(on)
            exit_code, _ = await on.operator.terminate()
            return Recorded(
                project_phases,
                [wrong for wrong in on.witness.steps_back() if wrong.startswith("TrainingRun")],
                runs,
                set(on.runs),
                await api.get("Project", "home", namespace=PLACE),
                dict(on.jobs_created()),
                dict(on.kubelet.started),
                on.answered(403),
                {
                    (r.group, "/".join(part for part in (r.resource, r.subresource) if part), r.verb)
                    for r in on.proxy.requests
                },
                exit_code,
            )


def status(recorded: Recorded, run: str) -> dict[str, Any]:
    return dict(recorded.runs[run]["status"])


def test_a_project_with_two_plugins_goes_to_trained_and_shows_every_phase_on_the_way(recorded: Recorded) -> None:
    assert recorded.project_phases == ["PREPROCESSING", "TRAINING", "TRAINED"]
    assert {row["run"]: row["phase"] for row in recorded.project["status"]["plugins"]} == {
        "last": "TRAINED",
        "home-b-1": "TRAINED",
    }
    assert [row["run"] for row in recorded.project["status"]["latestModel"]] == ["home-a-1", "home-b-1"]


def test_no_run_goes_back_to_an_earlier_phase_or_leaves_its_end(recorded: Recorded) -> None:
    assert recorded.steps_back == []


def test_each_attempt_has_one_job_and_one_pod_and_is_counted_by_whose_fault_it_was(recorded: Recorded) -> None:
    assert status(recorded, "home-a-1")["attempts"] == {"current": 3, "user": 0, "infrastructure": 1, "disruption": 1}
    for name in ("home-a-1-1", "home-a-1-2", "home-a-1-3", "home-a-1-pub", "home-b-1-1", "stopped-1", "last-1"):
        assert (recorded.jobs[name], recorded.pods[name]) == (1, 1), name
    assert set(recorded.jobs.values()) == {1}


def test_a_suspended_run_goes_on_with_another_pod_and_no_failure_is_counted(recorded: Recorded) -> None:
    """In the same attempt, unless the Job controller has seen the pod that it stopped itself as failed."""
    attempts = dict(status(recorded, "paused")["attempts"])
    pods = [recorded.pods[f"paused-{number}"] for number in range(1, attempts.pop("current") + 1)]
    assert attempts == {"user": 0, "infrastructure": 0, "disruption": 0}
    assert pods in ([2], [1, 1])


def test_a_cancelled_run_ends_as_cancelled_by_its_user(recorded: Recorded) -> None:
    assert status(recorded, "stopped")["reason"] == "CancelledByUser"


def test_ended_runs_beyond_the_history_are_deleted_but_not_the_newest_and_not_the_promoted(recorded: Recorded) -> None:
    assert recorded.left == {"home-a-1", "home-b-1", "stopped", "last"}


def test_the_log_of_a_failed_attempt_is_read_and_nothing_of_it_is_left_after_a_success(recorded: Recorded) -> None:
    assert ("", "pods/log", "get") in recorded.asked
    assert "failure" not in status(recorded, "home-a-1")


def test_everything_that_pods_said_is_in_the_report_of_their_run(recorded: Recorded) -> None:
    for name in ("home-a-1", "home-b-1", "last"):
        assert {"dataReport", "trainingStart", "modelName"} <= status(recorded, name)["report"].keys()


def test_the_operator_asks_for_nothing_that_it_may_not_have(recorded: Recorded) -> None:
    assert recorded.forbidden == []


def test_the_operator_has_no_right_that_it_does_not_use(recorded: Recorded, installed: ControlPlane) -> None:
    granted = granted_rights(installed)
    assert sorted(granted - recorded.asked - UNASKED.keys() - SOMETIMES.keys()) == []
    assert UNASKED.keys() <= granted
    assert not recorded.asked & UNASKED.keys(), "it is asked for now: take it off the list"


def granted_rights(control_plane: ControlPlane) -> set[Right]:
    """All rights that `deploy/` gives to the operator's service account."""
    manifests: list[Any] = kustomize(REPOSITORY / "deploy", binaries=control_plane.binaries)
    roles = [
        m for m in manifests
        if m["kind"] in {"Role", "ClusterRole"} and m["metadata"]["name"].startswith("chorus-operator")
    ]  # fmt: skip
    assert {(role["kind"], role["metadata"].get("namespace")) for role in roles} == {
        ("ClusterRole", None),
        ("Role", NAMESPACE),
        ("Role", "default"),
    }
    return rights_in([rule for role in roles for rule in role["rules"]])


def test_it_ends_well_when_it_is_asked_to(recorded: Recorded) -> None:
    assert recorded.exit_code == 0
