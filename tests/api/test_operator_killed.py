"""The operator is killed by SIGKILL at chosen requests while runs of every kind go through: nothing is lost or doubled.

The moments come from a seeded generator: so many requests after each start, before or after the API server has done
the last of them. `-m chaos` tells the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest
from harness.operator import Operator
from harness.operator_harness import FINAL, OperatorHarness, operator_harness
from harness.pods import Attempt, Plan, by_run
from harness.proxy import ApiRequest, Cut, Fault, FaultProxy
from harness.proxy import Moment as When

LONGEST_LIFE = 110
"""Requests that the operator may send between two kills, at most."""
REST_SECONDS = 1.5
REPORTED = {"DATA_REPORT": "dataReport", "TRAINING_START": "trainingStart", "MODEL_NAME": "modelName"}


@dataclass(frozen=True)
class Scenario:
    """One way in which a run goes, and where it must end."""

    name: str
    phase: str
    pods: Sequence[Attempt] = (Attempt(),)
    """What its training pods do, one after another."""
    counted: dict[str, int] = field(default_factory=dict)

    def jobs(self, attempts: int) -> int:
        """How many attempts, and so Jobs, it must have, given how many it had.

        A suspended run goes on in the same Job, or in the next one: the Job controller may see the exit code of the pod
        that it stopped before it forgets the pod, and fail the Job.
        """
        if self.name == "suspended":
            return min(max(attempts, 1), len(self.pods))
        return len(self.pods)

    def expected(self, attempts: int) -> tuple[str, dict[str, int]]:
        """The final phase and the attempts of the status: being suspended is never counted as a failure."""
        none = {"user": 0, "infrastructure": 0, "disruption": 0}
        return self.phase, {"current": self.jobs(attempts), **none, **self.counted}


EXIT = {code: Attempt(exit_code=code) for code in (1, 70, 75, 137)}
SCENARIOS = (
    Scenario("good", "TRAINED"),
    Scenario("disrupted", "TRAINED", (EXIT[75], EXIT[75], Attempt()), {"disruption": 2}),
    Scenario("cancelled", "cancelled", (Attempt(lingers=True),)),
    Scenario("killed", "TRAINED", (EXIT[137], Attempt()), {"infrastructure": 1}),
    Scenario("suspended", "TRAINED", (Attempt(lingers=True), Attempt())),
    Scenario("broken", "failed", (EXIT[1],), {"user": 1}),
    Scenario("exhausted", "failed", (EXIT[137], EXIT[70]), {"infrastructure": 2}),
    Scenario("unfit", "notApplicable", (Attempt(exit_code=69, applicable=False),)),
    Scenario("silent", "TRAINED", (Attempt(speaks=False),)),
)
ENTRIES = ("a", "b", "c", "d")


class Reaper:
    """Kills the operator after the n-th request of each of its lives."""

    def __init__(self, *, kills: int, seed: int) -> None:
        chance = random.Random(seed)
        self.moments: list[tuple[int, When]] = [
            (chance.randint(1, LONGEST_LIFE), chance.choice(("before", "after"))) for _ in range(kills)
        ]
        self.victims: list[str] = []
        """The requests at which it struck; the last one of an operator that was at rest."""
        self.at_rest = 0
        self._operator: Operator | None = None
        self._born = 0
        self._alive = False

    @property
    def done(self) -> bool:
        """Whether every kill has been done."""
        return len(self.victims) == len(self.moments)

    async def hook(self, request: ApiRequest, when: When) -> Fault | None:
        """Strike when it is time."""
        if self.done or not self._alive:
            return None
        life, wanted = self.moments[len(self.victims)]
        if when != wanted or request.number < self._born + life:
            return None
        self._strike(f"{when} {request}")
        return Cut()

    def strike_at_rest(self) -> None:
        """Kill an operator that has nothing to do: the requests of its moment would not come."""
        if self._alive and not self.done:
            self.at_rest += 1
            self._strike("at rest")

    def _strike(self, what: str) -> None:
        assert self._operator is not None
        self._alive = False
        self._operator.kill()
        self.victims.append(what)

    async def attend(self, operator: Operator, proxy: FaultProxy) -> None:
        """Start the operator again after each kill, until cancelled."""
        self._operator = operator
        while True:
            if not operator.running:
                self._born = len(proxy.requests)
                operator.start()
                self._alive = True
            await asyncio.sleep(0.01)


@dataclass
class Users:
    """Make the runs one after another, as the kills go on, and cancel and suspend what the scenarios say."""

    on: OperatorHarness
    reaper: Reaper
    scenarios: dict[str, Scenario]

    async def tell(self, *, seconds: float) -> None:
        """Tell the whole story: every run made and ended, every kill done."""
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as acts:
            for number, (name, scenario) in enumerate(self.scenarios.items()):
                await self._until_its_turn(number)
                entry = ENTRIES[number % len(ENTRIES)]
                await self.on.create(make_run(name, namespace=self.on.namespace, project="hand", plugin=entry))
                acts.create_task(self._act(name, scenario, seconds))
            acts.create_task(self._finish(seconds))

    async def _until_its_turn(self, number: int) -> None:
        """Spread the runs over the kills; when the operator has nothing to do before the next one, it comes now."""
        while len(self.reaper.victims) * len(self.scenarios) < number * len(self.reaper.moments):
            if self._all_ended():
                await self._strike_at_rest()
            await asyncio.sleep(0.05)

    async def _finish(self, seconds: float) -> None:
        while not (self.reaper.done and self._all_ended()):
            if self._all_ended():
                await self._strike_at_rest()
            await asyncio.sleep(0.05)

    async def _strike_at_rest(self) -> None:
        done = len(self.reaper.victims)
        with contextlib.suppress(TimeoutError):
            await self.on.rests(seconds=REST_SECONDS, within=3 * REST_SECONDS)
            if len(self.reaper.victims) == done:
                self.reaper.strike_at_rest()

    def _all_ended(self) -> bool:
        self.on.kubelet.check()
        runs = self.on.runs
        return bool(runs) and all(run.get("status", {}).get("phase") in FINAL for run in runs.values())

    async def _act(self, name: str, scenario: Scenario, seconds: float) -> None:
        if scenario.name == "cancelled":
            await self.on.reaches("TrainingRun", name, "TRAINING", seconds=seconds)
            await self.on.set_run(name, cancel=True)
        if scenario.name == "suspended":
            await self.on.reaches("TrainingRun", name, "TRAINING", seconds=seconds)
            await self.on.set_run(name, suspend=True)
            await self.on.reaches("TrainingRun", name, "suspended", seconds=seconds)
            await self.on.set_run(name, suspend=False)


def choose(count: int) -> dict[str, Scenario]:
    """Name so many runs, the scenarios in turn."""
    return {f"r{n:02}-{SCENARIOS[n % len(SCENARIOS)].name}": SCENARIOS[n % len(SCENARIOS)] for n in range(count)}


@asynccontextmanager
async def story(
    control_plane: ControlPlane, api: Api, *, namespace: str, kills: int, runs: int, seed: int, seconds: float
) -> AsyncIterator[tuple[OperatorHarness, Reaper, dict[str, Scenario]]]:
    """Two runs are made by Chorus itself, the others by hand; all have ended, and the operator lives and rests."""
    by_hand = choose(runs - 2)
    expected = by_hand | {"auto-x-1": SCENARIOS[0], "auto-y-1": SCENARIOS[1]}
    plan: Plan = by_run({name: list(scenario.pods) for name, scenario in expected.items()})
    reaper = Reaper(kills=kills, seed=seed)
    async with operator_harness(
        control_plane, api, namespace=namespace, plan=plan, hook=reaper.hook, start=False
    ) as on:
        attending = asyncio.create_task(reaper.attend(on.operator, on.proxy))
        try:
            await on.create(*_manifests(namespace))
            await Users(on, reaper, by_hand).tell(seconds=seconds)
            for name in expected:
                await on.reaches("TrainingRun", name, FINAL)
            await on.operator.ready()
            await on.rests(within=60)
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
        yield on, reaper, expected


def _manifests(namespace: str) -> list[Manifest]:
    plugin = make_plugin(
        "soft",
        namespace=namespace,
        spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}, "retry": {"infrastructure": 1}},
    )

    def project(name: str, entries: Sequence[str], **spec: Any) -> Manifest:
        plugins = [{"name": entry, "pluginRef": {"name": "soft"}} for entry in entries]
        history = {"history": {"succeeded": 1000, "failed": 1000}}
        return make_project(name, namespace=namespace, plugins=plugins, spec=history | spec)

    return [plugin, project("auto", ("x", "y")), project("hand", ENTRIES, trainOn="Manual")]


async def check(on: OperatorHarness, expected: dict[str, Scenario]) -> None:
    """No duplicate Job, no lost run, no wrong final phase, attempts counted right, nothing said in vain."""
    runs = on.runs
    ends = {name: (run["status"]["phase"], run["status"]["attempts"]) for name, run in runs.items()}
    had = {name: attempts["current"] for name, (_, attempts) in ends.items()}
    assert ends == {name: scenario.expected(had.get(name, 0)) for name, scenario in expected.items()}
    created = on.jobs_created()
    assert {name: count for name, count in created.items() if count > 1} == {}
    attempts = {f"{name}-{n}" for name in expected for n in range(1, had[name] + 1)}
    published = {f"{name}-pub" for name, scenario in expected.items() if scenario.phase == "TRAINED"}
    prepared = {name for name in created if name.startswith(("auto-prepare-", "hand-prepare-"))}
    assert len(prepared) == 2
    assert set(created) == attempts | published | prepared
    again = {f"{name}-1": len(scenario.pods) - had[name] for name, scenario in expected.items()}
    assert on.kubelet.started == Counter(created) + Counter(again), "each pod of the plan once"
    assert on.witness.steps_back() == [] or [w for w in on.witness.steps_back() if w.startswith("TrainingRun")] == []
    assert on.mailbag.lost == []
    for name, attempt, kind in on.mailbag.delivered:
        report = runs[name]["status"]["report"]
        assert report["attempt"] > attempt or REPORTED[kind] in report, f"{kind} of {name}-{attempt} was acknowledged"
    assert on.answered(403) == []
    for name, phase in (("auto", "TRAINED"), ("hand", None)):
        project = await on.api.get("Project", name, namespace=on.namespace)
        newest = {row["name"]: row["phase"] for row in project["status"]["plugins"]}
        of_project = {run: s for run, s in expected.items() if run.startswith("auto") == (name == "auto")}
        assert set(newest.values()) <= {scenario.phase for scenario in of_project.values()}
        assert phase is None or project["status"]["phase"] == phase


async def run_and_check(
    control_plane: ControlPlane, api: Api, *, namespace: str, kills: int, runs: int, seed: int, seconds: float
) -> None:
    began = time.monotonic()
    telling = story(control_plane, api, namespace=namespace, kills=kills, runs=runs, seed=seed, seconds=seconds)
    async with telling as (on, reaper, expected):
        await check(on, expected)
        assert reaper.done
        assert on.operator.starts == kills + 1
        verbs = Counter(victim.split(": ")[-1].split(" ")[0] for victim in reaper.victims)
        print(
            f"\n{kills} kills (seed {seed}), {runs} runs, {sum(on.jobs_created().values())} Jobs, "
            f"{len(on.proxy.requests)} requests, {time.monotonic() - began:.0f} s; "
            f"killed {reaper.at_rest} times at rest, else at: {dict(verbs)}"
        )


@pytest.mark.timeout(180)
async def test_killed_ten_times_the_operator_loses_no_run_and_doubles_no_job(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    await run_and_check(installed, api, namespace=namespace, kills=10, runs=8, seed=1, seconds=150)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [2, 3])
async def test_killed_fifty_times_while_twenty_runs_go_through_the_operator_loses_nothing(
    seed: int, installed: ControlPlane, api: Api, namespace: str
) -> None:
    await run_and_check(installed, api, namespace=namespace, kills=50, runs=20, seed=seed, seconds=1400)
