"""An API server that refuses, breaks off and forgets its watches changes how long things take, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping

import pytest

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api
from harness.operator_harness import FINAL, OperatorHarness, operator_harness
from harness.pods import Attempt, by_run
from harness.proxy import ApiRequest, Cut, Fault, Refuse
from harness.proxy import Moment as When

EVERY = 9
FAULTS: dict[str, tuple[When, Fault]] = {
    "too many requests": ("before", Refuse(429, "try later", retry_after=1)),
    "internal error": ("before", Refuse(500, "etcdserver: request timed out")),
    "cut before": ("before", Cut()),
    "cut after": ("after", Cut()),
    "conflict": ("before", Refuse(409, "the object has been modified")),
}
PLAN = {
    "home-b-1": [Attempt(exit_code=75), Attempt(exit_code=137)],
    "home-c-1": [Attempt(exit_code=1, log="bad\n")],
    "stopped": [Attempt(lingers=True)],
}
ENDS = {
    "home-a-1": ("TRAINED", 1),
    "home-b-1": ("TRAINED", 3),
    "home-c-1": ("failed", 1),
    "stopped": ("cancelled", 1),
}


class Trouble:
    """After every ninth request, strikes one that the fault fits, by each fault in turn.

    What was struck gets through when it is tried again: few requests can conflict, and if all did, nothing could ever
    be written. The Lease is let alone: its loss has its own test.
    """

    def __init__(self, faults: Mapping[str, tuple[When, Fault]]) -> None:
        self.struck: Counter[str] = Counter()
        self._faults = faults
        self._turn = itertools.cycle(faults)
        self._owed: list[str] = []
        self._chosen: dict[int, str] = {}
        self._spared: set[str] = set()
        self._seen = 0

    async def hook(self, request: ApiRequest, when: When) -> Fault | None:
        if when == "before" and request.resource not in {"leases", "secrets"} and request.verb != "watch":
            self._choose(request)
        name = self._chosen.get(request.number)
        if name is None or self._faults[name][0] != when:
            return None
        self.struck[name] += 1
        return self._faults[name][1]

    def _choose(self, request: ApiRequest) -> None:
        self._seen += 1
        if self._seen % EVERY == 0:
            self._owed.append(next(self._turn))
        fitting = [name for name in self._owed if name != "conflict" or request.method in {"PATCH", "PUT"}]
        what = f"{request.method} {request.path}"
        if what in self._spared:
            self._spared.remove(what)
        elif fitting:
            self._owed.remove(fitting[0])
            self._chosen[request.number] = fitting[0]
            self._spared.add(what)


async def tell(on: OperatorHarness) -> None:
    """Three automatic runs, and one by hand that waits for its turn and is cancelled."""
    spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}}
    await on.create(make_plugin("soft", namespace=on.namespace, spec=spec))
    entries = [{"name": name, "pluginRef": {"name": "soft"}} for name in ("a", "b", "c")]
    await on.create(make_project("home", namespace=on.namespace, plugins=entries))
    await on.reaches("TrainingRun", "home-a-1", FINAL)
    await on.create(make_run("stopped", namespace=on.namespace, project="home", plugin="a"))
    await on.reaches("TrainingRun", "stopped", "TRAINING", seconds=100)
    await on.set_run("stopped", cancel=True)
    for name in ENDS:
        await on.reaches("TrainingRun", name, FINAL, seconds=100)


def check(on: OperatorHarness) -> None:
    ends = {name: (run["status"]["phase"], run["status"]["attempts"]["current"]) for name, run in on.runs.items()}
    assert ends == ENDS
    assert set(on.jobs_created().values()) == {1}
    assert set(on.kubelet.started.values()) == {1}
    assert [wrong for wrong in on.witness.steps_back() if wrong.startswith("TrainingRun")] == []
    assert on.mailbag.lost == []
    assert on.answered(403) == []
    assert on.operator.starts == 1
    assert on.operator.running


async def test_requests_refused_and_cut_in_every_way_lead_to_the_same_end(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    trouble = Trouble(FAULTS)
    async with operator_harness(installed, api, namespace=namespace, plan=by_run(PLAN), hook=trouble.hook) as on:
        await tell(on)
        check(on)
        print(f"\n{len(on.proxy.requests)} requests, struck: {dict(trouble.struck)}")
        assert min(trouble.struck[name] for name in FAULTS) >= 3


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FAULTS)
async def test_one_kind_of_fault_again_and_again_leads_to_the_same_end(
    name: str, installed: ControlPlane, api: Api, namespace: str
) -> None:
    trouble = Trouble({name: FAULTS[name]})
    async with operator_harness(installed, api, namespace=namespace, plan=by_run(PLAN), hook=trouble.hook) as on:
        await tell(on)
        check(on)
        assert trouble.struck[name] >= 10


async def test_watches_that_break_all_the_time_miss_nothing(installed: ControlPlane, api: Api, namespace: str) -> None:
    async with operator_harness(installed, api, namespace=namespace, plan=by_run(PLAN)) as on:
        cut = 0

        async def cut_watches() -> None:
            nonlocal cut
            while True:
                await asyncio.sleep(0.7)
                cut += on.proxy.cut_watches()

        cutting = asyncio.create_task(cut_watches())
        try:
            await tell(on)
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
        check(on)
        print(f"\n{cut} watches cut")
        assert cut >= 10
