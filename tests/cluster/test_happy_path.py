"""Apply a Project, get trained adapters: the whole way, in real pods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from child_names import plain
from chorus_api.reasons import Reason
from chorus_api.run_config import RunRecord
from cluster_builders import claim_project, lora_plugin, table
from harness.binaries import REPOSITORY
from harness.client import Manifest
from harness.cluster import Cluster, Env, conditions, mounts
from harness.hands import CLAIM, lay_hands, read, tree

PROJECT = "home"
EXAMPLES = [path for path in sorted((REPOSITORY / "examples").rglob("*.yaml")) if path.parent.name != "gitops"]
RUNS = {"t5": f"{PROJECT}-t5-1", "decoder": f"{PROJECT}-decoder-1"}
ORDER = ["queued", "PREPROCESSING", "TRAINING", "TRAINED"]
WHOLE_SECONDS = 420
"""Pulling the trainer's image onto a node is part of it."""


@dataclass(frozen=True)
class Trained:
    """What is there after the Project is TRAINED."""

    place: Env
    project: Manifest
    runs: Mapping[str, Manifest]
    files: Mapping[str, Mapping[str, Any]]

    def model(self, plugin: str) -> Manifest:
        """status.model of a plugin's run."""
        model: Manifest = self.runs[plugin]["status"]["model"]
        return model

    def pods(self, role: str) -> list[Manifest]:
        """The pods of a role."""
        found = self.place.record.all("Pod", labels={"chorus.dev/role": role})
        assert found, role
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trained(cluster: Cluster) -> AsyncIterator[Trained]:
    accelerated = {"accelerator": {"resourceName": "nvidia.com/gpu", "count": 1}} if cluster.gpus else {}
    async with Env.make(cluster.api, "happy") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models, files={"t.csv": table().encode()})
        await place.apply(
            lora_plugin("t5", lora={"epochs": 3}, spec=accelerated),
            lora_plugin("decoder", base="decoder", lora={"epochs": 3}),
            claim_project(PROJECT, plugins=("t5", "decoder")),
        )
        project = await place.wait("Project", PROJECT, phase="TRAINED", seconds=WHOLE_SECONDS)
        runs = {
            plugin: await place.wait("TrainingRun", run, phase="TRAINED", seconds=5) for plugin, run in RUNS.items()
        }
        yield Trained(place, project, runs, await tree(place))


async def test_a_project_goes_through_its_phases_in_order_and_never_back(trained: Trained) -> None:
    assert trained.place.record.phases("Project", PROJECT) == ["PREPROCESSING", "TRAINING", "TRAINED"]


@pytest.mark.parametrize("plugin", RUNS)
async def test_a_run_goes_through_its_phases_in_order_and_never_back(trained: Trained, plugin: str) -> None:
    assert trained.place.record.phases("TrainingRun", RUNS[plugin]) == ORDER


async def test_each_plugin_is_tried_once(trained: Trained) -> None:
    jobs = trained.place.record.uids("Job")
    wanted = {f"{run}-{part}" for run in RUNS.values() for part in ("1", "pub")}
    assert sorted(plain(name) for name in jobs if "-prepare-" not in name) == sorted(wanted)
    assert all(len(uids) == 1 for uids in jobs.values())


@pytest.mark.parametrize("plugin", RUNS)
async def test_the_model_on_the_claim_is_the_one_that_status_names(trained: Trained, plugin: str) -> None:
    model = trained.model(plugin)
    folder = f"models/{model['name']}"
    sums = await read(trained.place, f"{folder}/SHA256SUMS")
    named = {name: digest for digest, name in (line.split(maxsplit=1) for line in sums.splitlines())}
    assert "adapter_model.safetensors" in named
    assert "adapter_config.json" in named
    for name, digest in named.items():
        assert trained.files[f"{folder}/{name}"]["sha256"] == digest, name
    assert model["digest"] == "sha256:" + hashlib.sha256(sums.encode()).hexdigest()
    assert model["uri"] == f"pvc://{CLAIM}/{folder}"
    assert model["bytes"] == sum(file["size"] for name, file in trained.files.items() if name.startswith(f"{folder}/"))


@pytest.mark.parametrize("plugin", RUNS)
async def test_the_run_record_lies_beside_the_model_and_agrees_with_status(trained: Trained, plugin: str) -> None:
    run, model = trained.runs[plugin], trained.model(plugin)
    record = RunRecord.model_validate_json(await read(trained.place, f"models/{model['name']}/training_run.json"))
    assert record.run_id == run["status"]["id"]
    assert record.epochs == 3
    assert record.samples_used == model["samples"] == trained.project["status"]["dataset"]["rows"]
    assert float(model["finalLoss"]) == pytest.approx(record.final_loss, rel=1e-4)
    assert record.family == {"t5": "encoderDecoder", "decoder": "decoder"}[plugin]
    assert record.frame_digest == trained.project["status"]["dataset"]["digest"]


@pytest.mark.parametrize("plugin", RUNS)
async def test_latest_points_to_the_promoted_model(trained: Trained, plugin: str) -> None:
    model = trained.model(plugin)
    assert trained.files[f"latest/{plugin}"]["link"] == f"../models/{model['name']}"
    shown = {row["plugin"]: row for row in trained.project["status"]["latestModel"]}
    assert shown[plugin]["name"] == model["name"]
    assert shown[plugin]["digest"] == model["digest"]


async def test_the_frame_on_the_claim_is_the_one_that_status_names(trained: Trained) -> None:
    dataset = trained.project["status"]["dataset"]
    manifest = json.loads(await read(trained.place, f"frames/{dataset['name']}/frame.json"))
    assert manifest["digest"] == dataset["digest"]
    assert (manifest["rows"], manifest["eval_rows"]) == (dataset["rows"], dataset["evalRows"])
    assert dataset["rows"] + dataset["evalRows"] == 40


@pytest.mark.parametrize("plugin", RUNS)
async def test_progress_was_reported_to_the_end(trained: Trained, plugin: str) -> None:
    seen = trained.place.record.versions("TrainingRun", name=RUNS[plugin])
    percents = [run["status"]["progress"]["percent"] for run in seen if "progress" in run.get("status", {})]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert float(trained.runs[plugin]["status"]["progress"]["loss"]) > 0


async def test_kubectl_get_shows_how_a_run_ended(trained: Trained) -> None:
    row = await trained.place.row("TrainingRun", RUNS["t5"])
    assert (row["PROJECT"], row["PLUGIN"], row["PHASE"], row["REASON"]) == (PROJECT, "t5", "TRAINED", "Trained")


async def test_events_tell_the_story_in_words_of_the_vocabulary(trained: Trained) -> None:
    told = [event["reason"] for event in await trained.place.told(RUNS["t5"], "Trained")]
    assert told == ["Started", "Trained"]
    assert [event["reason"] for event in await trained.place.told(PROJECT, "Trained")] == ["FrameReady", "Trained"]
    everything = {event["reason"] for event in await trained.place.events()}
    assert everything <= {reason.value for reason in Reason}


async def test_pods_of_a_run_hold_no_token_for_the_api_server(trained: Trained) -> None:
    for role in ("prepare", "train", "publish"):
        for pod in trained.pods(role):
            assert pod["spec"]["automountServiceAccountToken"] is False
            sources = [
                source for mount in mounts(pod) for source in mount["volume"].get("projected", {}).get("sources", [])
            ]
            audiences = {
                source["serviceAccountToken"]["audience"] for source in sources if "serviceAccountToken" in source
            }
            assert audiences == ({"chorus"} if role != "publish" else set()), "a publish pod sends nothing"


async def test_the_identity_of_run_pods_has_no_rights(trained: Trained) -> None:
    account = f"system:serviceaccount:{trained.place.namespace}:chorus-run"
    told = await trained.place.kubectl("auth", "can-i", "--list", f"--as={account}", "--no-headers")
    # What every authenticated user may do: ask about itself, and read the server's version.
    allowed = [line for line in told.splitlines() if not line.startswith(("self", " "))]
    assert allowed == []


async def test_a_training_pod_can_write_to_its_own_directory_alone(trained: Trained) -> None:
    for pod in trained.pods("train"):
        run = next(
            run
            for run in trained.runs.values()
            if run["metadata"]["name"] == pod["metadata"]["labels"]["chorus.dev/run"]
        )
        on_claim = {m.get("subPath"): m for m in mounts(pod) if "persistentVolumeClaim" in m["volume"]}
        writable = [path for path, mount in on_claim.items() if not mount.get("readOnly")]
        assert writable == [f"runs/{run['metadata']['uid']}"]
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


async def test_preparing_and_publishing_ask_for_no_gpu(trained: Trained) -> None:
    for pod in [*trained.pods("prepare"), *trained.pods("publish")]:
        assert "gpu" not in json.dumps(pod["spec"]["containers"][0]["resources"])


@pytest.mark.gpus
async def test_the_training_pod_holds_the_gpu_that_its_plugin_asks_for(trained: Trained) -> None:
    limits = {
        pod["metadata"]["labels"]["chorus.dev/plugin"]: pod["spec"]["containers"][0]["resources"].get("limits", {})
        for pod in trained.pods("train")
    }
    assert limits["t5"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits["decoder"]


async def test_every_condition_is_about_the_newest_spec(trained: Trained) -> None:
    for seen in (trained.project, *trained.runs.values()):
        for condition in conditions(seen).values():
            assert condition["observedGeneration"] == seen["metadata"]["generation"], condition


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_is_taken_by_the_api_server(trained: Trained, path: Any) -> None:
    text = path.read_text(encoding="utf-8").replace("PLUGIN", "t5").replace("BASE", "t5")
    await trained.place.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text.encode())
