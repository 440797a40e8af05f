"""The kit against real processes: the good plugin keeps every rule, and each spoilt one breaks exactly its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chorus_conformance.check import Plan, check
from chorus_conformance.command import read_command
from chorus_conformance.launch import ProcessLauncher
from chorus_conformance.observed import Scenario
from chorus_conformance.report import as_text
from chorus_conformance.rule import Failed, Passed, Result, Skipped
from chorus_conformance.rulebook import RULES
from chorus_conformance.timeouts import Timeouts
from plugin_builders import KUBEFLOW, SPOILT, Spoilt, write_plugin

TIMEOUTS = Timeouts(describe=20, training=20, grace=2, away=0.3, impostor=0.3)
CONTAINER_ONLY = {"C103", "C407"}


def plan_for(folder: Path, *ran: Scenario, by_file: bool = False) -> Plan:
    launcher = ProcessLauncher(folder, read_command(folder))
    return Plan(launcher, frame_format="csv", timeouts=TIMEOUTS, scenarios=ran, by_file=by_file)


def broken(results: list[Result]) -> dict[str, str]:
    return {each.rule.id: each.verdict.seen for each in results if isinstance(each.verdict, Failed)}


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet is a zombie."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


async def test_a_good_plugin_keeps_every_rule(tmp_path: Path) -> None:
    results = await check(plan_for(write_plugin(tmp_path / "good")))
    assert not broken(results), as_text(results, target="good")
    assert {each.rule.id for each in results if not isinstance(each.verdict, Passed)} == CONTAINER_ONLY


async def test_a_good_plugin_that_speaks_by_file_keeps_every_rule(tmp_path: Path) -> None:
    results = await check(plan_for(write_plugin(tmp_path / "good"), by_file=True))
    assert not broken(results), as_text(results, target="good")
    skipped = {each.rule.id for each in results if isinstance(each.verdict, Skipped)}
    assert skipped <= CONTAINER_ONLY | {"C106", "C601", "C602", "C701", "C702", "C703"}


@pytest.mark.parametrize("case", SPOILT, ids=str)
async def test_a_spoilt_plugin_breaks_its_own_rule_alone(case: Spoilt, tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "spoilt", case.source())
    results = await check(plan_for(folder, Scenario.DESCRIBE, *case.ran))
    assert broken(results).keys() == {case.rule}, as_text(results, target=case.what)
    assert case.seen in broken(results)[case.rule]


async def test_progress_in_the_form_of_kubeflow_trainer_counts(tmp_path: Path) -> None:
    results = await check(plan_for(write_plugin(tmp_path / "good", KUBEFLOW.source()), Scenario.TRAIN))
    assert not broken(results), as_text(results, target="good")
    assert "C403" in {each.rule.id for each in results if isinstance(each.verdict, Passed)}


async def test_a_command_that_is_not_there_breaks_the_first_rule_and_no_other(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "lost", command=["./lost"])
    results = await check(plan_for(folder, Scenario.DESCRIBE))
    assert broken(results).keys() == {"C101"}
    assert "No such file" in broken(results)["C101"]


async def test_a_plugin_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    source = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "600"])
open({str(file)!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    plan = plan_for(write_plugin(tmp_path / "hanging", source), Scenario.DESCRIBE)
    results = await check(replace(plan, timeouts=replace(TIMEOUTS, describe=1.5)))
    assert "still running after 2 s and was killed" in broken(results)["C201"]
    assert is_gone(int(file.read_text()))


def test_every_rule_that_a_process_can_break_is_broken_by_a_plugin() -> None:
    assert {case.rule for case in SPOILT} | {"C101"} | CONTAINER_ONLY == {rule.id for rule in RULES}
