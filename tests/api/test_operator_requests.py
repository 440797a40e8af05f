"""What the operator asks of the API server: nothing while nothing happens, and how much for a run of no length.

`-s` prints the table of `benchmarks/README.md`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import pytest

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import Attempt, by_run
from harness.proxy import ApiRequest

PLACE = "requests"
IDLE_SECONDS = 6.0
RUNS = 3
MESSAGES = 3
"""Of a run that speaks, beside its progress: DATA_REPORT, TRAINING_START, MODEL_NAME."""
ALLOWED_A_RUN = 40.0
"""Requests for a run that sends three messages. A bound against getting worse: the aim is 4 more than a bare Job's."""


@dataclass(frozen=True)
class Asked:
    """The operator's requests."""

    by_kind: Mapping[str, Sequence[ApiRequest]]
    """For so many runs of a kind, without the Lease."""
    idle: Sequence[ApiRequest]
    """In some seconds with one run that goes on and others that have ended, with the Lease."""
    conflicts: Collection[int]
    """The numbers of those that the API server refused because another one had written meanwhile."""


@pytest.fixture(scope="module")
def asked(installed: ControlPlane) -> Asked:
    return asyncio.run(_ask(installed))


async def _ask(control_plane: ControlPlane) -> Asked:
    planned = {f"silent-{n}": [Attempt(speaks=False)] for n in range(RUNS)} | {"goes-on": [Attempt(lingers=True)]}
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        async with operator_harness(control_plane, api, namespace=PLACE, plan=by_run(planned)) as on:
            await _apply_project(on)
            await _run(on, "first")
            await on.rests()
            by_kind = {}
            for kind in ("silent", "speaking"):
                before = len(on.proxy.requests)
                for number in range(RUNS):
                    await _run(on, f"{kind}-{number}")
                await on.rests()
                by_kind[kind] = on.work(after=before)
            await _run(on, "goes-on", until="TRAINING")
            await on.rests(seconds=2.0)
            before = len(on.proxy.requests)
            await asyncio.sleep(IDLE_SECONDS)  # it is about what does not happen in a while
            conflicts = {number for number, status in on.proxy.statuses.items() if status == HTTPStatus.CONFLICT}
            return Asked(by_kind, on.proxy.requests[before:], conflicts)


async def _apply_project(on: OperatorHarness) -> None:
    spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}}
    await on.create(make_plugin("soft", namespace=PLACE, spec=spec))
    entries = [{"name": "a", "pluginRef": {"name": "soft"}}]
    await on.create(make_project("home", namespace=PLACE, plugins=entries, spec={"trainOn": "Manual"}))
    await on.reaches("Project", "home", "queued")


async def _run(on: OperatorHarness, name: str, *, until: str = "TRAINED") -> None:
    await on.create(make_run(name, namespace=PLACE, project="home", plugin="a"))
    await on.reaches("TrainingRun", name, until)


def test_while_nothing_happens_nothing_is_asked_but_the_lease(asked: Asked) -> None:
    assert [str(request) for request in asked.idle if request.resource != "leases"] == []
    assert 2 <= len(asked.idle) <= 2 * (IDLE_SECONDS / 2 + 1)


def test_a_run_of_no_length_costs_no_more_requests_than_it_did(asked: Asked) -> None:
    _print(asked.by_kind)
    assert len(asked.by_kind["speaking"]) / RUNS <= ALLOWED_A_RUN


def test_runs_do_not_list_what_is_in_their_namespace(asked: Asked) -> None:
    lists = [request for requests in asked.by_kind.values() for request in requests if request.verb == "list"]
    assert len(lists) <= RUNS, "what is remembered is listed anew once a minute, and pods before a watch tells of them"


def test_a_run_that_speaks_costs_one_review_a_write_a_message_and_no_read(asked: Asked) -> None:
    requests = asked.by_kind["speaking"]
    counts = Counter(_what(request) for request in requests if request.number not in asked.conflicts)
    assert counts["create tokenreviews"] <= RUNS
    assert counts["patch trainingruns/status (chorus-report)"] == MESSAGES * RUNS
    assert counts["patch trainingruns/status (chorus-progress)"] <= 2 * RUNS, "the first word and the last"
    conflicts = [str(request) for request in requests if request.number in asked.conflicts]
    reads = [str(request) for request in requests if request.verb == "get" and request.resource != "configmaps"]
    assert len(reads) <= 2 * len(conflicts), "after a conflict receiver and reconcile may each read the run"


def _print(by_kind: Mapping[str, Sequence[ApiRequest]]) -> None:
    """Print requests a run, by what was asked, as a Markdown table."""
    counts = {kind: Counter(_what(request) for request in requests) for kind, requests in by_kind.items()}
    print("\n\n| request | silent | speaking |\n| --- | ---: | ---: |")
    for what in sorted(counts["silent"] | counts["speaking"]):
        print(f"| {what} | {counts['silent'][what] / RUNS:.1f} | {counts['speaking'][what] / RUNS:.1f} |")
    print("| all | " + " | ".join(f"{len(requests) / RUNS:.0f}" for requests in by_kind.values()) + " |")


def _what(request: ApiRequest) -> str:
    resource = "/".join(part for part in (request.resource, request.subresource) if part)
    made = json.loads(request.body).get("metadata", {}) if request.verb == "create" else {}
    name = request.name or made.get("name", "")
    detail = ""
    if request.subresource == "status":
        detail = f" ({request.query['fieldManager']})"
    elif request.resource == "jobs":
        detail = " (publish)" if name.endswith("-pub") else " (training)"
    elif request.resource == "configmaps":
        detail = " (frame)" if "-frame-" in name else f" ({name.rpartition('-')[2]})"
    return f"{request.verb} {resource}{detail}"
