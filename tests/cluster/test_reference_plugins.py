"""The example plugins in real pods: images that are asked what they are, a script of a ConfigMap, a service, LoRA."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from builders import make_run, overlay
from child_names import plain
from cluster_builders import lora_plugin
from harness.binaries import REPOSITORY
from harness.client import Manifest
from harness.cluster import Cluster, Env, conditions
from harness.hands import CLAIM, lay_hands, read, tree

PLUGINS = REPOSITORY / "examples" / "plugins"
PENGUINS = REPOSITORY / "examples" / "data" / "penguins" / "penguins.csv"
REQUESTS = REPOSITORY / "examples" / "demo" / "data" / "home_requests.sqlite"
SCRIPT = PLUGINS / "shell" / "naive_bayes.sh"
SECONDS = 420
ON_CLAIM = {"spec": {"storage": {"claimName": CLAIM, "size": None}}}

pytestmark = pytest.mark.plugins


def example(name: str, kind: str, **changes: Any) -> Manifest:
    """The manifest of a kind in a file of examples/plugins, with changes laid over it."""
    documents = yaml.safe_load_all((PLUGINS / name).read_text(encoding="utf-8"))
    [found] = [document for document in documents if document["kind"] == kind]
    return overlay(found, changes)


def container(folder: str, image: str) -> Manifest:
    """A container Plugin of the examples with this image."""
    return example(f"{folder}/plugin.yaml", "Plugin", spec={"container": {"image": image}})


def image(name: str) -> str:
    """The image that `kind/cluster images` made of an example."""
    return os.environ[f"CHORUS_PLUGIN_{name.upper()}_IMAGE"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(cluster: Cluster) -> AsyncIterator[Env]:
    """A namespace with the claim, the data, every example Plugin and the Projects that use them."""
    async with Env.make(cluster.api, "plugins") as made:
        await lay_hands(made, image=cluster.operator_image, models=cluster.models)
        for name, file in (
            ("penguins", f"penguins.csv={PENGUINS}"),
            ("naive-bayes", f"naive_bayes.sh={SCRIPT}"),
            ("home-requests", f"rows.sqlite={REQUESTS}"),
        ):
            await made.kubectl("create", "configmap", name, f"--from-file={file}")
        tampered = SCRIPT.read_text(encoding="utf-8").replace("set -eu", "set -eu; touch $CHORUS_RUN_DIR/executed", 1)
        await made.kubectl("create", "configmap", "tampered", f"--from-literal=naive_bayes.sh={tampered}")
        script = {"configMap": {"name": "tampered", "key": SCRIPT.name}}
        bayes = container("shell", cluster.operator_image)
        await made.apply(
            container("sklearn", image("sklearn")),
            container("first", image("first")),
            bayes,
            overlay(
                bayes,
                {"metadata": {"name": "tampered"}, "spec": {"container": {"script": script, "describe": False}}},
            ),
            lora_plugin("side-lora"),
            example("penguins.yaml", "Project", **ON_CLAIM),
            example("first/project.yaml", "Project", **ON_CLAIM),
            overlay(
                example("penguins.yaml", "Project", **ON_CLAIM),
                {
                    "metadata": {"name": "mistrust"},
                    "spec": {"plugins": [{"name": "tampered", "pluginRef": {"name": "tampered"}}]},
                },
            ),
        )
        service = [
            example("service/plugin.yaml", "Deployment"),
            example("service/plugin.yaml", "Service"),
            example("service/plugin.yaml", "Plugin"),
        ]
        service[0]["spec"]["template"]["spec"]["containers"][0]["image"] = image("service")
        await made.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(service).encode())
        few = {"spec": {"dataset": {"maxRows": 200}}}
        await made.apply(overlay(example("project.yaml", "Project", **ON_CLAIM), few))
        yield made


@pytest.mark.parametrize(
    ("name", "needed"), [("sklearn", "outcome"), ("naive-bayes", "outcome"), ("nearest-mean", "outcome")]
)
async def test_an_image_is_asked_once_what_it_is(place: Env, name: str, needed: str) -> None:
    plugin = await place.wait("Plugin", name, where=has_report, seconds=SECONDS)
    report = plugin["status"]["report"]
    assert report["neededInfo"] == [needed]
    assert report["parameters"].keys() == report["parametersSchema"]["properties"].keys()
    asked = place.record.uids("Job")
    assert len([job for job in asked if plain(job).startswith(f"{name}-describe-")]) == 1


def has_report(plugin: Manifest) -> bool:
    return "report" in plugin.get("status", {})


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("penguins-sklearn-1", {"README.md", "metrics.json", "model.skops"}),
        ("penguins-bayes-1", {"README.md", "model.json"}),
        ("my-penguins-mean-1", {"model.json"}),
    ],
)
async def test_a_plugin_learns_and_its_artefact_is_published(place: Env, run: str, files: set[str]) -> None:
    trained = await place.wait("TrainingRun", run, phase="TRAINED", seconds=SECONDS)
    model = trained["status"]["model"]
    assert float(model["metrics"]["accuracy"]) > 0.9
    there = await tree(place, f"models/{model['name']}")
    assert files <= there.keys()
    sums = await read(place, f"models/{model['name']}/SHA256SUMS")
    assert f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}" == model["digest"]
    told = dict(reversed(line.split("  ", 1)) for line in sums.splitlines())
    assert {name: there[name]["sha256"] for name in told} == told
    assert trained["status"]["attempts"]["current"] == 1


async def test_the_project_of_both_is_trained_and_ranks_them(place: Env) -> None:
    project = await place.wait("Project", "penguins", phase="TRAINED", seconds=SECONDS)
    board = project["status"]["leaderboard"]
    assert {row["plugin"] for row in board} == {"sklearn", "bayes"}
    assert all(float(row["value"]) > 0.9 for row in board)


async def test_nothing_of_a_script_with_another_digest_is_executed(place: Env) -> None:
    run = await place.wait("TrainingRun", "mistrust-tampered-1", phase="failed", seconds=SECONDS)
    assert run["status"]["reason"] == "ScriptHashMismatch"
    assert not [path for path in await tree(place, f"runs/{run['metadata']['uid']}") if "executed" in path]


async def test_a_misspelt_parameter_is_refused_with_the_name_that_was_meant(place: Env) -> None:
    await place.wait("TrainingRun", "penguins-bayes-1", phase="TRAINED", seconds=SECONDS)
    by_hand = make_run("misspelt", project="penguins", plugin="bayes", spec={"parameters": {"smoothin": 2}})
    await place.apply(by_hand)
    run = await place.wait("TrainingRun", "misspelt", phase="failed", seconds=SECONDS)
    assert run["status"]["reason"] == "ParametersInvalid"
    assert "smoothin" in run["status"]["message"]
    assert "'smoothing'" in run["status"]["message"]
    assert conditions(run)["ParametersValid"]["status"] == "False"


async def test_lora_a_container_and_a_service_train_on_one_frame(place: Env) -> None:
    project = await place.wait("Project", "side-by-side", phase="TRAINED", seconds=SECONDS)
    runs = {row["name"]: row["run"] for row in project["status"]["plugins"]}
    assert runs.keys() == {"t5", "sklearn", "service"}
    trained = {
        name: await place.wait("TrainingRun", run, phase="TRAINED", seconds=SECONDS) for name, run in runs.items()
    }
    frames = {json.dumps(run["status"]["resolved"]["frame"]) for run in trained.values()}
    assert len(frames) == 1
    service = trained["service"]["status"]["model"]
    assert float(service["metrics"]["word_f1"]) > float(service["metrics"]["majority_word_f1"])
    assert {"answers.jsonl", "model.json", "README.md"} <= (await tree(place, f"models/{service['name']}")).keys()
    sklearn = trained["sklearn"]["status"]["model"]["metrics"]
    assert float(sklearn["accuracy"]) > float(sklearn["majority_accuracy"])


async def test_a_service_is_online(place: Env) -> None:
    plugin = await place.wait("Plugin", "nearest-answer", where=is_online, seconds=SECONDS)
    assert plugin["status"]["report"]["neededColumns"] == ["prompt", "response"]


def is_online(plugin: Manifest) -> bool:
    return conditions(plugin).get("Online", {}).get("status") == "True"
