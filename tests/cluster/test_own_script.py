"""A LoRA plugin's own script in real pods: the example trains, and nothing of another script is executed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
import yaml

from builders import overlay
from cluster_builders import LORA, PIECES, claim_project
from harness.binaries import REPOSITORY
from harness.client import Manifest
from harness.cluster import Cluster, Env
from harness.hands import CLAIM, lay_hands, read, tree

RECIPE = REPOSITORY / "examples" / "plugins" / "recipe"
REFUSED: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "tampered": ({"configMap": {"name": "tampered"}}, "ScriptHashMismatch", "ConfigMap tampered, key train.py"),
    "absent": ({"configMap": None, "path": "own/train.py"}, "ScriptNotFound", "own/train.py"),
}
"""What the Plugin says of its script, the reason that comes of it, and what the message names."""
SECONDS = 420


def recipe(name: str = "own-recipe", *, script: Mapping[str, Any] | None = None) -> Manifest:
    """The Plugin of the example on a model of the claim."""
    plugin = yaml.safe_load((RECIPE / "plugin.yaml").read_text(encoding="utf-8"))
    lora = LORA | {"baseModel": {"uri": f"pvc://{CLAIM}/base-models/t5"}}
    changes = {"lora": lora, "resources": PIECES, "script": dict(script or {})}
    return overlay(plugin, {"metadata": {"name": name}, "spec": changes})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(cluster: Cluster) -> AsyncIterator[Env]:
    """A namespace with the script, one that was changed, and a Project that runs every Plugin side by side."""
    async with Env.make(cluster.api, "own-script") as made:
        await lay_hands(made, image=cluster.operator_image, models=cluster.models)
        code = (RECIPE / "train.py").read_text(encoding="utf-8")
        touched = f"open('/chorus/run/executed', 'w').close()\n{code}"
        for name, content in (("recipe", code), ("tampered", touched)):
            await made.kubectl("create", "configmap", name, f"--from-literal=train.py={content}")
        await made.apply(
            recipe(),
            *(recipe(name, script=script) for name, (script, _, _) in REFUSED.items()),
            claim_project("own", plugins=("own-recipe", *REFUSED)),
        )
        yield made


async def test_the_script_of_the_example_trains_and_its_adapter_is_published(place: Env) -> None:
    run = await place.wait("TrainingRun", "own-own-recipe-1", phase="TRAINED", seconds=SECONDS)
    status = run["status"]
    assert status["report"]["modelName"]["modelName"] == "own-recipe"
    assert status["model"]["samples"] > 0
    assert float(status["model"]["finalLoss"]) > 0
    assert status["progress"]["percent"] == 100
    there = await tree(place, f"models/{status['model']['name']}")
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "training_run.json"} <= there.keys()
    assert there["SHA256SUMS"]["sha256"] == status["model"]["digest"].removeprefix("sha256:")
    sums = await read(place, f"models/{status['model']['name']}/SHA256SUMS")
    assert f"{there['adapter_model.safetensors']['sha256']}  adapter_model.safetensors\n" in sums


@pytest.mark.parametrize("name", REFUSED)
async def test_a_script_that_is_not_the_one_stated_is_refused_before_anything_of_it_is_executed(
    place: Env, name: str
) -> None:
    _, reason, words = REFUSED[name]
    run = await place.wait("TrainingRun", f"own-{name}-1", phase="failed", seconds=SECONDS)
    assert run["status"]["reason"] == reason
    assert words in run["status"]["message"]
    assert run["status"]["attempts"]["current"] == 1
    assert "executed" not in await tree(place, f"runs/{run['metadata']['uid']}")
