"""A plugin type that Chorus does not have, added by one folder, one line of the registry and its models."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from builders import make_plugin, make_project
from chorus_api import contract
from chorus_api.crd import KINDS, definition
from chorus_kube.resources import JOBS
from harness.apiserver import ControlPlane
from harness.client import Api
from harness.kubelet import Container, Exit, Program
from harness.operator_harness import operator_harness
from harness.pods import Attempt, by_run
from pair_type.models import PairSpec

PAIR = {"type": "pair", "lora": None, "pair": {"teacher": "registry.test/teacher:1", "pupil": "registry.test/pupil:1"}}


@pytest.fixture
async def with_pairs(installed: ControlPlane) -> AsyncIterator[ControlPlane]:
    """The API server with the CRD that the models make."""
    (plugin,) = [kind for kind in KINDS if kind.name == "Plugin"]
    await installed.install([definition(replace(plugin, spec=PairSpec))])
    yield installed
    await installed.install([definition(plugin)])


def taught(program: Program) -> Program:
    """The program of all pods, with a pupil that fails the first time."""
    pupils = Counter[str]()

    async def wrapped(container: Container) -> Exit:
        if container.labels[contract.ROLE_LABEL] != "pupil":
            return await program(container)
        pupils["made"] += 1
        return Exit(75 if pupils["made"] == 1 else 0)

    return wrapped


async def test_a_new_type_with_two_jobs_by_role_goes_from_a_project_to_trained(
    with_pairs: ControlPlane, api: Api, namespace: str
) -> None:
    plan = by_run({"home-soft-1": [Attempt(lingers=True)]})
    program = ("-m", "pair_type.operator")
    async with operator_harness(
        with_pairs, api, namespace=namespace, plan=plan, forked=False, program=program, pods_do=taught
    ) as on:
        await on.create(make_plugin("soft", namespace=namespace, spec=PAIR))
        await on.create(make_project("home", namespace=namespace, plugins=["soft"]))
        await on.reaches("Project", "home", "TRAINED")
        status = on.runs["home-soft-1"]["status"]
        assert (status["phase"], status["attempts"]["current"], status["attempts"]["disruption"]) == ("TRAINED", 2, 1)
        created = on.jobs_created()
        assert set(created.values()) == {1}
        assert len([name for name in created if name.endswith("-pupil")]) == 2, "one for each attempt"
        assert {"home-soft-1-1", "home-soft-1-2"} <= set(created)
        jobs = await api.list(JOBS.kind, namespace=namespace, labels="chorus.dev/run=home-soft-1")
        images = {
            job["metadata"]["labels"][contract.ROLE_LABEL]: job["spec"]["template"]["spec"]["containers"][0]["image"]
            for job in jobs
        }
        assert images.items() >= {"train": "registry.test/teacher:1", "pupil": "registry.test/pupil:1"}.items()
        assert on.answered(403) == []
