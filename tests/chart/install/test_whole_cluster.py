"""Helm 4 and a real cluster: install, upgrade and roll back under runs in every state, test, uninstall, install again.

The tests are the chapters of one story, in the order in which they stand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from builders import make_run
from cluster_builders import claim_project, lora_plugin
from harness.client import Api, Manifest, eventually
from harness.cluster import Env
from harness.hands import lay_hands, make_models
from harness.helm import NAMESPACE, RELEASE, Helm
from harness.killer import Killer
from harness.release import CRDS, Release, clear, kubectl, make_namespace

START_SECONDS = 240
ENDLESS = {"epochs": 1000, "batchSize": 1}
HALF_A_CORE = {"resources": {"limits": {"cpu": "500m", "memory": "2Gi"}}}
OTHER_VALUES: Manifest = {
    "operator": {"replicas": 2, "logLevel": "debug", "podDisruptionBudget": {"enabled": True}},
    "networkPolicy": {"enabled": True},
    "commonLabels": {"team": "ml"},
}
PHASES = {
    "done-t5-1": "TRAINED",
    "done-t5-2": "suspended",
    "done-t5-3": "cancelled",
    "done-choosy-1": "notApplicable",
    "long-endless-1": "TRAINING",
    "stuck-greedy-1": "queued",
    "bad-damaged-1": "failed",
    "slow-still-1": "PREPROCESSING",
}
HELD = "slow-still-1"


@dataclass(frozen=True)
class Story:
    """The release, and a namespace with a run in each state."""

    release: Release
    place: Env
    killer: Killer

    async def state(self) -> Manifest:
        """What must not change while the operator is exchanged."""
        runs = await self.place.api.list("TrainingRun", namespace=self.place.namespace)
        jobs = await self.place.api.list("Job", namespace=self.place.namespace)
        pods = await self.place.api.list("Pod", namespace=self.place.namespace)
        return {
            "runs": {
                run["metadata"]["name"]: (run["metadata"]["uid"], run["status"]["phase"], run["status"].get("attempts"))
                for run in runs
            },
            "jobs": {job["metadata"]["name"]: job["metadata"]["uid"] for job in jobs},
            "pods": {pod["metadata"]["name"]: (pod["metadata"]["uid"], restarts(pod)) for pod in pods},
        }

    async def step(self) -> int:
        """The step that the long run has reached, as its status says."""
        run = await self.place.api.get("TrainingRun", "long-endless-1", namespace=self.place.namespace)
        return int(run["status"]["progress"]["step"])

    async def goes_on(self) -> None:
        """Wait until the operator of now has taken a message of the long run."""
        before = await self.step()
        await self.place.wait(
            "TrainingRun",
            "long-endless-1",
            phase="TRAINING",
            where=lambda run: run["status"]["progress"]["step"] > before,
            seconds=90,
        )


def restarts(pod: Manifest) -> int:
    return sum(status["restartCount"] for status in pod.get("status", {}).get("containerStatuses", []))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(api: Api, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    models = tmp_path_factory.mktemp("models")
    await asyncio.gather(make_models(models), clear(api))
    await make_namespace(api, NAMESPACE)
    release = Release(Helm("helm4"), RELEASE, NAMESPACE)
    await release.install()
    async with (
        Env.make(api, "chart") as place,
        Killer.make(api, image=os.environ["CHORUS_OPERATOR_IMAGE"]) as killer,
    ):
        await tell(place, models)
        story = Story(release, place, killer)
        await hold_one(story)
        yield story
    await clear(api)


async def tell(place: Env, models: Path) -> None:
    """Bring a run into each state."""
    greedy = {"accelerator": {"resourceName": "chorus.example/none"}}
    await lay_hands(place, image=os.environ["CHORUS_OPERATOR_IMAGE"], models=models)
    await place.apply(
        lora_plugin("t5"),
        lora_plugin("endless", lora=ENDLESS, spec=HALF_A_CORE),
        lora_plugin("greedy", spec=greedy),
        lora_plugin("damaged", base="damaged"),
        lora_plugin("choosy", spec={"requires": {"minRows": 1000}}),
        claim_project("done", plugins=("t5", {"name": "choosy", "pluginRef": {"name": "choosy"}, "optional": True})),
        claim_project("long", plugins=("endless",)),
        claim_project("stuck", plugins=("greedy",)),
        claim_project("bad", plugins=("damaged",)),
    )
    await place.wait("TrainingRun", "done-t5-1", phase="TRAINED", seconds=START_SECONDS)
    await place.apply(make_run("done-t5-2", project="done", spec={"suspend": True}))
    await place.apply(make_run("done-t5-3", project="done", spec={"cancel": True}))
    await place.apply(make_run("done-choosy-1", project="done", plugin="choosy"))
    for name in PHASES.keys() - {HELD}:
        await place.wait("TrainingRun", name, phase=PHASES[name], seconds=START_SECONDS)
    await place.wait("TrainingRun", "long-endless-1", where=lambda run: "progress" in run["status"], seconds=60)


async def hold_one(story: Story) -> None:
    """Stop the process of a run between its pod's start and its training's, which is short otherwise."""
    busy = await story.place.pod_of("long-endless-1")
    await story.killer.reach(busy)
    node = {"kubernetes.io/hostname": busy["spec"]["nodeName"]}
    await story.place.apply(
        lora_plugin("still", spec={"pod": {"nodeSelector": node}}), claim_project("slow", plugins=("still",))
    )
    pod = await story.place.pod_of(HELD, seconds=START_SECONDS)
    assert await story.killer.signal(pod, "SIGSTOP")
    await story.place.wait("TrainingRun", HELD, phase=PHASES[HELD], seconds=30)


async def operator_pods() -> set[str]:
    words = ("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=chorus-operator", "-o", "name")
    return set((await kubectl(*words)).split())


async def test_helm_waits_until_the_operator_is_ready(story: Story) -> None:
    ready = await kubectl(
        "-n", NAMESPACE, "get", "deployment", "chorus-operator", "-o", "jsonpath={.status.readyReplicas}"
    )
    assert ready == "1"
    assert await story.release.revision() == 1


async def test_an_upgrade_disturbs_no_run(story: Story) -> None:
    before, pods = await story.state(), await operator_pods()
    await story.release.upgrade(OTHER_VALUES)

    async def others() -> bool:
        now = await operator_pods()
        return len(now) == 2 and now.isdisjoint(pods)

    await eventually(others, what="two operators in place of the old one", seconds=60)
    await story.goes_on()
    assert await story.state() == before
    assert {name: phase for name, (_, phase, _) in before["runs"].items()} == PHASES


async def test_a_roll_back_disturbs_no_run(story: Story) -> None:
    before = await story.state()
    await story.release.roll_back(1)
    await kubectl("-n", NAMESPACE, "rollout", "status", "deployment/chorus-operator", "--timeout=120s")
    await story.goes_on()
    assert await story.state() == before
    names = await kubectl("-n", NAMESPACE, "get", "networkpolicies,poddisruptionbudgets", "-o", "name")
    assert names == ""


async def test_a_run_that_had_not_begun_to_train_goes_on_to_its_end(story: Story) -> None:
    await story.killer.signal(await story.place.pod_of(HELD), "SIGCONT")
    run = await story.place.wait("TrainingRun", HELD, phase="TRAINED", seconds=180)
    assert run["status"]["attempts"]["current"] == 1


async def test_a_run_can_be_acted_on_after_all_that(story: Story) -> None:
    await story.place.patch("TrainingRun", "long-endless-1", {"spec": {"suspend": True}})
    run = await story.place.wait("TrainingRun", "long-endless-1", phase="suspended", seconds=120)
    assert run["status"]["checkpoint"]["step"] > 0
    assert run["status"]["attempts"]["current"] == 1


async def test_helm_test_trains_checks_and_leaves_nothing(story: Story) -> None:
    told = await story.release.test()
    assert "files with right digests" in told
    left = "serviceaccounts,roles,rolebindings,configmaps,pods,pvc,cproj,cplug,crun"
    names = (await kubectl("-n", NAMESPACE, "get", left, "-o", "name")).split()
    assert [name for name in names if "test" in name] == []


async def test_helm_test_says_why_it_failed(story: Story) -> None:
    await story.release.upgrade({"test": {"nodeSelector": {"kubernetes.io/os": "linux"}, "deadlineSeconds": 30}})
    await kubectl("-n", NAMESPACE, "scale", "deployment/chorus-operator", "--replicas=0")
    with pytest.raises(Exception, match="failed") as failure:
        await story.release.test()
    assert "has not ended 30 s after the test began" in str(failure.value)
    assert "does the operator run" in str(failure.value)
    names = (await kubectl("-n", NAMESPACE, "get", "pods,pvc,cproj,cplug", "-o", "name")).split()
    assert [name for name in names if "test" in name] == []


async def test_uninstalling_keeps_definitions_objects_and_data(story: Story) -> None:
    before = await kept(story)
    told = await story.release.uninstall()
    assert "CustomResourceDefinition" in told
    assert await kept(story) == before
    assert (await kubectl("get", "deployments,services", "-n", NAMESPACE, "-o", "name")) == ""


async def kept(story: Story) -> dict[str, Any]:
    """Definitions, users' objects and claims, by uid."""
    definitions = await kubectl("get", "crd", *CRDS, "-o", "jsonpath={.items[*].metadata.uid}")
    words = ("get", "cproj,cplug,crun,pvc", "-n", story.place.namespace, "-o", "name")
    return {"definitions": definitions, "objects": await kubectl(*words), "runs": (await story.state())["runs"]}


async def test_an_installation_after_that_goes_on_with_what_is_there(story: Story) -> None:
    before = await story.state()
    await story.release.install()
    await story.place.patch("TrainingRun", "long-endless-1", {"spec": {"cancel": True}})
    await story.place.wait("TrainingRun", "long-endless-1", phase="cancelled", seconds=120)
    after = await story.state()
    del before["runs"]["long-endless-1"], after["runs"]["long-endless-1"]
    assert after["runs"] == before["runs"]
