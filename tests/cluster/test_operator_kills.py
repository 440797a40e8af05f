"""The operator is killed (SIGKILL) at random moments while runs go through: nothing is lost, doubled or told wrong."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pytest

from builders import Manifest
from child_names import plain
from cluster_builders import claim_project, lora_plugin
from harness.client import Api
from harness.cluster import OPERATOR_NAMESPACE, Cluster, Env
from harness.hands import lay_hands, tree
from harness.killer import Killer
from harness.record import Record

SEED = int(os.environ.get("CHORUS_SEED", "3"))
ORDER = ("queued", "PREPROCESSING", "TRAINING", "TRAINED")
LEAD_SECONDS = 120
LONGEST_LIFE = 4.0
"""Seconds that an operator lives at most after it has become the leader."""


@dataclass(frozen=True)
class Size:
    """How many kills, and how many Projects with how many plugins each."""

    kills: int
    projects: int
    plugins: int
    seconds: float

    @property
    def runs(self) -> list[str]:
        """The runs that there have to be, no more and no fewer."""
        return [f"p{project}-e{plugin}-1" for project in range(self.projects) for plugin in range(self.plugins)]


SHORT = Size(kills=5, projects=2, plugins=2, seconds=420)
LONG = Size(kills=50, projects=5, plugins=4, seconds=1800)


async def test_an_operator_killed_at_any_moment_loses_nothing(cluster: Cluster, killer: Killer) -> None:
    await runs_go_through_kills(cluster, killer, SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(5400)
async def test_an_operator_killed_fifty_times_loses_nothing(cluster: Cluster, killer: Killer) -> None:
    await runs_go_through_kills(cluster, killer, LONG)


async def runs_go_through_kills(cluster: Cluster, killer: Killer, size: Size) -> None:
    """Apply Projects while the operator is killed again and again; then look at everything that was ever there."""
    print(f"seed {SEED}: CHORUS_SEED={SEED} repeats it")
    entries = [{"name": f"e{number}", "pluginRef": {"name": "t5"}} for number in range(size.plugins)]
    projects = [claim_project(f"p{number}", plugins=entries) for number in range(size.projects)]
    async with Env.make(cluster.api, "kills") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        await place.apply(lora_plugin("t5", lora={"maxSamples": 8}))
        await kill_and_apply(place, killer, projects=projects, kills=size.kills)
        for project in projects:
            await place.wait("Project", project["metadata"]["name"], phase="TRAINED", seconds=size.seconds)
        await everything_is_there_once(place, size)


async def kill_and_apply(place: Env, killer: Killer, *, projects: Sequence[Manifest], kills: int) -> None:
    """Kill every leader a while after it leads; the Projects are applied one by one, spread over the kills."""
    chance = random.Random(SEED)
    waiting = list(projects)
    dead: set[str] = set()
    async with Record(place.api, OPERATOR_NAMESPACE, kinds=("Pod", "Lease")) as operators:
        for number in range(kills):
            if waiting and number * len(projects) >= (len(projects) - len(waiting)) * kills:
                await place.apply(waiting.pop(0))
            leader = await leading_operator(operators, dead=dead)
            await killer.reach(leader)
            await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE))  # the random moment, no wait for anything
            assert any("chorus_operator" in killed for killed in await killer.kill(leader))
            dead.add(container_of(leader)["containerID"])
            if number % 2:
                # Another pod, which must wait until the dead one's Lease has run out. Otherwise it is the same pod,
                # whose container the kubelet starts again; it would wait longer each time.
                await delete_now(place.api, leader["metadata"]["name"])
        await leading_operator(operators, dead=dead)


async def leading_operator(operators: Record, *, dead: set[str]) -> Manifest:
    """Wait for an operator that has taken the Lease since it was started, and is none of the dead; its pod."""

    def check() -> Manifest | None:
        lease = operators.find("Lease", "chorus-operator")
        pod = operators.find("Pod", lease["spec"].get("holderIdentity") or "nobody") if lease else None
        if lease is None or pod is None or pod["metadata"].get("deletionTimestamp"):
            return None
        container = container_of(pod)
        running = container["state"].get("running")
        if not running or container["containerID"] in dead:
            return None
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        return pod if renewed > datetime.fromisoformat(running["startedAt"]) else None

    try:
        return await operators.wait(check, seconds=LEAD_SECONDS)
    except TimeoutError:
        raise AssertionError(f"no operator leads after {LEAD_SECONDS} s: {operators.all('Lease')}") from None


def container_of(pod: Manifest) -> Manifest:
    """The state of a pod's only container."""
    found: list[Manifest] = pod.get("status", {}).get("containerStatuses") or [{"state": {}, "containerID": ""}]
    return found[0]


async def delete_now(api: Api, pod: str) -> None:
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}"
    await api.request("DELETE", path, query={"gracePeriodSeconds": "0"})


async def everything_is_there_once(place: Env, size: Size) -> None:
    """No duplicate Job, no lost run, no wrong phase: by everything that was ever seen of the namespace."""
    record = place.record
    prepares = {name for name in record.uids("Job") if "-prepare-" in name}
    wanted = {f"{run}-{part}" for run in size.runs for part in ("1", "pub")}
    assert sorted(plain(name) for name in set(record.uids("Job")) - prepares) == sorted(wanted)
    assert len(prepares) == size.projects
    assert {name: uids for name, uids in record.uids("Job").items() if len(uids) > 1} == {}
    assert {name: len(uids) for name, uids in record.uids("TrainingRun").items()} == dict.fromkeys(size.runs, 1)
    for run in size.runs:
        status = (await place.api.get("TrainingRun", run, namespace=place.namespace))["status"]
        assert status["phase"] == "TRAINED"
        assert status["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
        phases = record.phases("TrainingRun", run)
        assert phases == [phase for phase in ORDER if phase in phases], phases
        labels = {"chorus.dev/run": run, "chorus.dev/attempt": "1"}
        metadata = [pod["metadata"] for pod in record.versions("Pod")]
        pods = [each for each in metadata if labels.items() <= each.get("labels", {}).items()]
        assert len({pod["uid"] for pod in pods}) == 1
    files = await tree(place, "models")
    published = {path.split("/")[0].rsplit("-", 1)[0] for path in files if path.endswith("SHA256SUMS")}
    assert published == set(size.runs)
