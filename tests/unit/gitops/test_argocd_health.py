"""The health script for Argo CD, run by Lua 5.1 as Argo CD's own interpreter is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from lupa import lua51

from chorus_api.crd import KINDS
from docs_text import REPOSITORY

GITOPS = REPOSITORY / "examples" / "gitops"
DATA: dict[str, str] = yaml.safe_load((GITOPS / "argocd-health.yaml").read_text(encoding="utf-8"))["data"]
PREFIX = "resource.customizations.health.chorus.dev_"
WORDS = {"Healthy", "Progressing", "Degraded", "Suspended"}


def health(kind: str, condition: dict[str, Any] | None, *, phase: str = "", generation: int = 1) -> tuple[str, str]:
    """What the script says of an object; its condition is about generation 1 unless it says otherwise."""
    status: dict[str, Any] = {"phase": phase} if phase else {}
    if condition is not None:
        other = {"type": "Degraded", "status": "False", "reason": "AllWell", "message": ""}
        status["conditions"] = [other, {"observedGeneration": 1, "reason": "R", "message": "why"} | condition]
    stored = {"kind": kind, "metadata": {"generation": generation}, "status": status}
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.globals()["obj"] = as_table(lua, stored)
    answer = lua.execute(DATA[PREFIX + kind])
    assert answer["status"] in WORDS
    return str(answer["status"]), str(answer["message"])


def as_table(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: as_table(lua, each) for key, each in value.items()})
    if isinstance(value, list):
        return lua.table_from([as_table(lua, each) for each in value])
    return value


def test_there_is_a_script_for_each_kind_and_for_nothing_else() -> None:
    assert {key.removeprefix(PREFIX) for key in DATA} == {kind.name for kind in KINDS}
    assert json.dumps(DATA)


@pytest.mark.parametrize("kind", ["Project", "Plugin", "TrainingRun"])
def test_an_object_without_status_is_waited_for(kind: str) -> None:
    assert health(kind, None)[0] == "Progressing"


@pytest.mark.parametrize("kind", ["Project", "Plugin"])
def test_what_is_ready_is_healthy(kind: str) -> None:
    assert health(kind, {"type": "Ready", "status": "True"}) == ("Healthy", "R: why")


@pytest.mark.parametrize(
    ("kind", "phase", "status", "expected"),
    [
        ("TrainingRun", "TRAINED", "True", "Healthy"),
        ("TrainingRun", "queued", "Unknown", "Progressing"),
        ("TrainingRun", "TRAINING", "Unknown", "Progressing"),
        ("TrainingRun", "failed", "False", "Degraded"),
        ("TrainingRun", "notApplicable", "False", "Degraded"),
        ("TrainingRun", "cancelled", "False", "Suspended"),
        ("TrainingRun", "suspended", "Unknown", "Suspended"),
        ("Project", "PREPROCESSING", "False", "Progressing"),
        ("Project", "TRAINING", "False", "Progressing"),
        ("Project", "failed", "False", "Degraded"),
        ("Project", "suspended", "False", "Suspended"),
        ("Plugin", "", "False", "Degraded"),
    ],
)
def test_a_phase_is_told_as_health(kind: str, phase: str, status: str, expected: str) -> None:
    type_ = "Succeeded" if kind == "TrainingRun" else "Ready"
    assert health(kind, {"type": type_, "status": status}, phase=phase)[0] == expected


def test_a_project_that_waits_for_its_trigger_is_healthy() -> None:
    waiting = {"type": "Ready", "status": "False", "reason": "AwaitingTrigger"}
    assert health("Project", waiting, phase="queued")[0] == "Healthy"


@pytest.mark.parametrize("kind", ["Project", "Plugin", "TrainingRun"])
def test_a_condition_about_an_older_spec_does_not_count(kind: str) -> None:
    type_ = "Succeeded" if kind == "TrainingRun" else "Ready"
    assert health(kind, {"type": type_, "status": "True"}, phase="TRAINED", generation=2)[0] == "Progressing"


def test_a_condition_without_a_message_is_told() -> None:
    assert health("Project", {"type": "Ready", "status": "True", "message": None}) == ("Healthy", "R: ")
