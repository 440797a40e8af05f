"""`chorus plugin check IMAGE`: the kit with real containers, made of the control-plane image and a script."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from chorus_conformance.check import Plan, check
from chorus_conformance.launch import ContainerLauncher, call, find_engine
from chorus_conformance.observed import Scenario
from chorus_conformance.report import as_text
from chorus_conformance.rule import Failed, Result, Skipped
from chorus_conformance.timeouts import Timeouts
from plugin_builders import LAST_WORD, NEEDS_ROOT_FILES, SPOILT, Spoilt

pytestmark = pytest.mark.engine

TIMEOUTS = Timeouts(describe=60, training=60, grace=20, away=1, impostor=1)
PROCESS_ONLY = {"C102", "C104"}


def plan_for(source: str, *played: Scenario) -> Plan:
    launcher = ContainerLauncher(
        find_engine(None), os.environ["CHORUS_OPERATOR_IMAGE"], ("-c", source), entrypoint="python"
    )
    return Plan(launcher, frame_format="csv", timeouts=TIMEOUTS, scenarios=played)


def broken(results: list[Result]) -> dict[str, str]:
    return {each.rule.id: each.verdict.seen for each in results if isinstance(each.verdict, Failed)}


async def test_a_good_image_keeps_every_rule_as_an_unknown_user_on_a_read_only_root() -> None:
    results = await check(plan_for(LAST_WORD.source()))
    assert not broken(results), as_text(results, target="good image")
    assert {each.rule.id for each in results if isinstance(each.verdict, Skipped)} == PROCESS_ONLY


@pytest.mark.parametrize("case", [NEEDS_ROOT_FILES], ids=str)
async def test_an_image_that_writes_to_its_root_breaks_the_rule_about_that_alone(case: Spoilt) -> None:
    results = await check(plan_for(case.source(), Scenario.DESCRIBE, *case.ran))
    assert broken(results).keys() == {case.rule}, as_text(results, target=case.what)
    assert case.seen in broken(results)[case.rule]


async def test_no_container_is_left() -> None:
    [endless] = [case for case in SPOILT if case.what == "no end"]
    results = await check(replace(plan_for(endless.source(), *endless.ran), timeouts=replace(TIMEOUTS, grace=2)))
    assert broken(results).keys() == {"C601"}, as_text(results, target="an image that does not end")
    _, left = await call(find_engine(None), "ps", "--all", "--quiet", "--filter=label=chorus.dev/check=plugin")
    assert left.split() == []
