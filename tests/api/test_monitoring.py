"""Alerts and dashboard over what a real operator shows: no query asks for what is not there, every alert can fire."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from builders import make_plugin, make_project, make_run
from docs_text import anchors
from harness import promql
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY
from harness.client import eventually
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import Attempt, by_run
from harness.promql import TARGET, Expectation
from harness.proxy import ApiRequest, Fault, Refuse
from harness.proxy import Moment as When

FILES = REPOSITORY / "charts" / "chorus" / "files"
RULES = FILES / "prometheus-rules.yaml"
DASHBOARD = FILES / "dashboard.json"
PLACE = "monitored"
PLAN = {
    "home-a-1": [Attempt(exit_code=75)],
    "home-b-1": [Attempt(exit_code=1, log="no\n")],
    "works": [Attempt(lingers=True)],
}
VARIABLES = {"$job": ".*", "$__rate_interval": "5m", "$__range": "1h"}
ANY_CODE = "code"  # what the API server may answer is not ours to list


@dataclass(frozen=True)
class Seen:
    """What /metrics showed, at four moments of a story."""

    pages: list[str]
    phases: list[Mapping[str, int]]
    """Runs by phase as the API server has them: at the second moment, after a restart, after a deletion."""
    after_restart: str
    after_deletion: str

    @functools.cached_property
    def labels(self) -> dict[str, dict[str, set[str]]]:
        """The values of every label of every metric."""
        found: dict[str, dict[str, set[str]]] = {}
        for page in self.pages:
            for name, labels in promql.read(page):
                values = found.setdefault(name, {})
                for label, value in labels:
                    values.setdefault(label, set()).add(value)
        return found


@pytest.fixture(scope="module")
def seen(installed: ControlPlane) -> Seen:
    return asyncio.run(_see(installed))


async def _see(control_plane: ControlPlane) -> Seen:
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        async with operator_harness(control_plane, api, namespace=PLACE, plan=by_run(PLAN), hook=_one_refusal()) as on:
            await _shows(on, "chorus_leader 1.0")
            pages = [await on.operator.metrics()]
            entries = [{"name": name, "pluginRef": {"name": "soft"}} for name in ("a", "b")]
            plugin = make_plugin("soft", namespace=PLACE, spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}})
            await on.create(plugin, make_project("home", namespace=PLACE, plugins=entries))
            await on.reaches("Project", "home", "failed")
            await on.reaches("TrainingRun", "home-a-1", "TRAINED")
            await on.create(make_run("works", namespace=PLACE, project="home", plugin="a"))
            await on.reaches("TrainingRun", "works", "TRAINING")
            await _send_without_a_token(on)
            await on.rests()
            pages.append(await on.operator.metrics())
            phases = [_by_phase(on)]
            await on.set_run("works", cancel=True)
            await on.reaches("TrainingRun", "works", "cancelled")
            pages += [await on.operator.metrics()] * 2
            await on.operator.terminate()
            on.operator.start()
            await on.operator.ready()
            after_restart = await _shows(on, 'chorus_runs{phase="cancelled"} 1.0')
            phases.append(_by_phase(on))
            await api.delete("TrainingRun", "works", namespace=PLACE)
            await api.wait_until_gone("TrainingRun", "works", namespace=PLACE)
            after_deletion = await _shows(on, 'chorus_runs{phase="cancelled"} 0.0')
            return Seen(pages, [*phases, _by_phase(on)], after_restart, after_deletion)


def _one_refusal() -> Any:
    struck: list[int] = []

    async def hook(request: ApiRequest, when: When) -> Fault | None:
        if when == "before" and request.resource == "jobs" and request.verb == "get" and not struck:
            struck.append(request.number)
            return Refuse(503)
        return None

    return hook


async def _send_without_a_token(on: OperatorHarness) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        headers = {"Content-Type": "application/cloudevents+json"}
        async with session.post(on.operator.url, data=b"{}", headers=headers, ssl=False) as answer:
            assert answer.status == 401


async def _shows(on: OperatorHarness, line: str) -> str:
    page = ""

    async def check() -> bool:
        nonlocal page
        page = await on.operator.metrics()
        return line in page.splitlines()

    await eventually(check, what=f"/metrics shows {line}", seconds=30)
    return page


def _by_phase(on: OperatorHarness) -> Mapping[str, int]:
    return Counter(run["status"]["phase"] for run in on.runs.values())


def runs_shown(page: str) -> dict[str, float]:
    return {
        dict(labels)["phase"]: value
        for (name, labels), value in promql.read(page).items()
        if name == "chorus_runs" and value
    }


def test_runs_are_counted_as_they_are_also_after_a_restart_and_a_deletion(seen: Seen) -> None:
    shown = [runs_shown(page) for page in (seen.pages[1], seen.after_restart, seen.after_deletion)]
    assert shown == seen.phases
    assert shown[0] == {"TRAINED": 1, "failed": 1, "TRAINING": 1}


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("chorus_run_attempts_failed_total", {"class": "disruption"}, 1),
        ("chorus_run_attempts_failed_total", {"class": "user"}, 1),
        ("chorus_run_retries_total", {"class": "disruption"}, 1),
        ("chorus_run_phase_transitions_total", {"phase": "failed"}, 1),
        ("chorus_run_time_to_phase_seconds_count", {"phase": "TRAINED"}, 1),
        ("chorus_frames_prepared_total", {"result": "ready"}, 1),
        ("chorus_messages_refused_total", {"reason": "noToken"}, 1),
        ("chorus_messages_accepted_total", {"outcome": "taken", "type": "FRAME_READY"}, 1),
        ("chorus_api_requests_total", {"code": "503", "resource": "jobs", "verb": "get"}, 1),
        ("chorus_leader", {}, 1),
    ],
    ids=str,
)
def test_what_happened_is_counted(seen: Seen, name: str, labels: dict[str, str], value: float) -> None:
    assert promql.read(seen.pages[-1])[name, tuple(sorted(labels.items()))] == value


# Expressions


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str, str]]:
    """Panel, query and legend of the dashboard, its variables as a viewer might set them."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            yield panel["title"], expr, target["legendFormat"]


def all_expressions() -> list[tuple[str, str]]:
    return [(rule["alert"], rule["expr"]) for rule in alerts()] + [(title, expr) for title, expr, _ in queries()]


def test_every_metric_label_and_word_that_a_query_names_is_there(seen: Seen) -> None:
    for where, expr in all_expressions():
        named = promql.selectors(expr)
        assert named, f"{where}: {expr} names no metric"
        known = set(TARGET)
        for metric, matchers in named:
            assert metric in seen.labels, f"{where}: there is no metric {metric}"
            known |= seen.labels[metric].keys()
            for label, (operator, value) in matchers.items():
                assert label in seen.labels[metric].keys() | TARGET.keys(), f"{where}: {metric} has no label {label}"
                words = value.split("|") if operator in {"=~", "!~"} else [value]
                if label not in {ANY_CODE, "job"}:
                    assert set(words) <= seen.labels[metric][label], f"{where}: {metric}: {label} is never {words}"
        assert promql.grouping(expr) <= known, f"{where}: {expr} groups by what is not there"


def test_every_query_of_the_dashboard_gives_something_over_real_samples(seen: Seen, tmp_path: Path) -> None:
    expected = [Expectation(f"absent({expr})", 3, 0, f"{title}: {expr}") for title, expr, _ in queries()]
    assert len(expected) > 25
    promql.evaluate([(promql.as_series(seen.pages), expected)], directory=tmp_path)


def test_a_query_for_what_is_not_there_is_found(seen: Seen, tmp_path: Path) -> None:
    wrong = [Expectation('absent(chorus_runs{phase="trained"})', 3, 0, "wrong word")]
    with pytest.raises(AssertionError, match="wrong word"):
        promql.evaluate([(promql.as_series(seen.pages), wrong)], directory=tmp_path)


def test_what_every_alert_measures_is_there_in_real_samples(seen: Seen, tmp_path: Path) -> None:
    expected = []
    for rule in alerts():
        measured = re.sub(r"^absent\((.*)\)$|\s*[<>]=?\s*[\d.]+", r"\1", rule["expr"])
        expected.append(Expectation(f"absent({measured})", 3, 0, f"{rule['alert']} measures nothing"))
    promql.evaluate([(promql.as_series(seen.pages), expected)], directory=tmp_path)


def test_legends_name_labels_that_their_query_keeps() -> None:
    for title, expr, legend in queries():
        named = set(re.findall(r"{{\s*(\w+)\s*}}", legend))
        assert named <= promql.grouping(expr) | ({"pod"} if "by (" not in expr else set()), f"{title}: {legend}"


# Alerts

HOUR = "chorus_run_phase_transitions_total"
RECONCILES = "chorus_reconcile_duration_seconds_count"
Series = dict[tuple[str, str], str]
CASES: dict[str, tuple[int, Series, Series]] = {
    "ChorusOperatorDown": (8, {}, {("chorus_build_info", ""): "1x10"}),
    "ChorusNoLeader": (5, {("chorus_leader", ""): "0x10"}, {("chorus_leader", ""): "0x2 1x8"}),
    "ChorusQueueOld": (
        10,
        {("chorus_workqueue_oldest_key_age_seconds", ""): "300x20"},
        {("chorus_workqueue_oldest_key_age_seconds", ""): "300x3 60x20"},
    ),
    "ChorusReconcileErrors": (
        45,
        {(RECONCILES, 'kind="TrainingRun",result="failed"'): "0+1x60"},
        {
            (RECONCILES, 'kind="TrainingRun",result="failed"'): "0+0.2x60",
            (RECONCILES, 'kind="TrainingRun",result="conflict"'): "0+9x60",
        },
    ),
    "ChorusApiErrors": (
        30,
        {
            ("chorus_api_requests_total", 'verb="get",resource="jobs",code="503"'): "0+5x40",
            ("chorus_api_requests_total", 'verb="get",resource="jobs",code="none"'): "0+5x40",
            ("chorus_api_requests_total", 'verb="get",resource="jobs",code="200"'): "0+90x40",
        },
        {
            ("chorus_api_requests_total", 'verb="get",resource="jobs",code="503"'): "0+1x40",
            ("chorus_api_requests_total", 'verb="get",resource="jobs",code="404"'): "0+90x40",
        },
    ),
    "ChorusMessagesRefused": (
        30,
        {("chorus_messages_refused_total", 'reason="wrongPod"'): "0+12x40"},
        {
            ("chorus_messages_refused_total", 'reason="notYet"'): "0+600x40",
            ("chorus_messages_refused_total", 'reason="wrongPod"'): "0+3x40",
        },
    ),
    "ChorusRunStuck": (
        75,
        {("chorus_run_longest_silence_seconds", 'phase="TRAINING"'): "0+60x90"},
        {("chorus_run_longest_silence_seconds", 'phase="TRAINING"'): "0+60x65 0+60x25"},
    ),
    "ChorusRunsFailing": (
        75,
        {(HOUR, 'phase="failed"'): "0+0.2x90", (HOUR, 'phase="TRAINED"'): "0+0.1x90"},
        {(HOUR, 'phase="failed"'): "0+0.2x90", (HOUR, 'phase="TRAINED"'): "0+0.4x90"},
    ),
}
"""For each alert: minutes, what makes it fire by then, and what does not."""


def with_target(series: Series) -> dict[str, str]:
    target = promql.selector("", TARGET).strip("{}")
    return {
        f"{name}{{{','.join(part for part in (labels, target) if part)}}}": v for (name, labels), v in series.items()
    }


def test_the_rules_are_sound() -> None:
    promql.check_rules(RULES)


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    minutes, bad, good = CASES[alert]
    firing = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    fires = Expectation(firing, minutes, 1, f"{alert} does not fire")
    rests = Expectation(firing, minutes, 0, f"{alert} fires without need")
    promql.evaluate([(with_target(bad), [fires]), (with_target(good), [rests])], directory=tmp_path, rules=[RULES])


def test_two_failures_alone_are_no_trend(tmp_path: Path) -> None:
    series = {(HOUR, 'phase="failed"'): "0x20 1x20 2x60", (HOUR, 'phase="TRAINED"'): "0x100"}
    firing = 'ALERTS{alertname="ChorusRunsFailing"}'
    promql.evaluate(
        [(with_target(series), [Expectation(firing, 75, 0, "two failures make it fire")])],
        directory=tmp_path,
        rules=[RULES],
    )


def test_every_alert_has_a_case_and_says_what_it_must() -> None:
    assert sorted(rule["alert"] for rule in alerts()) == sorted(CASES)
    there = anchors(REPOSITORY / "docs" / "monitoring.md")
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (page, anchor) == ("docs/monitoring.md", rule["alert"].lower())
        assert anchor in there, f"docs/monitoring.md has no section {rule['alert']}"


def test_the_series_of_the_cases_are_those_of_a_real_operator(seen: Seen) -> None:
    for _, bad, good in CASES.values():
        for name, labels in [*bad, *good]:
            assert name in seen.labels
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
                assert label == ANY_CODE or value in seen.labels[name][label], f"{name}: {label}={value}"
