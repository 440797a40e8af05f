"""Plugins, Projects and tables for tests with real pods: as small as they can be and still be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from builders import Manifest, make_plugin, make_project, overlay
from harness.hands import CLAIM

ROOMS = ("kitchen", "bedroom", "garage", "hall", "office", "attic", "cellar", "garden")
LORA = {
    "epochs": 1,
    "batchSize": 4,
    "gradientAccumulation": 1,
    "learningRate": "1e-3",
    "r": 4,
    "maxSourceTokens": 48,
    "maxTargetTokens": 48,
}
PIECES = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}


def table(count: int = 40) -> str:
    """A CSV of requests and answers, each different."""
    rows = [f"lights {number} on in the {ROOMS[number % 8]},Switch {number} on." for number in range(count)]
    return "\n".join(["prompt,response", *rows, ""])


def lora_plugin(
    name: str = "t5",
    *,
    base: Literal["t5", "decoder", "damaged"] = "t5",
    lora: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Manifest:
    """A LoRA Plugin on a model of the claim."""
    parameters = LORA | {"baseModel": {"uri": f"pvc://{CLAIM}/base-models/{base}"}} | dict(lora or {})
    default = {"lora": parameters, "resources": PIECES, "checkpoint": {"everySeconds": 5, "graceSeconds": 60}}
    return make_plugin(name, spec=overlay(default, spec or {}))


def claim_project(
    name: str,
    *,
    plugins: Sequence[str | Mapping[str, Any]] = ("t5",),
    data: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Manifest:
    """A Project on the shared claim, over `data` inline; `dataset` takes the place of the whole dataset."""
    storage = {"storage": {"claimName": CLAIM}, "dataset": {"source": {"inline": {"data": data or table()}}}}
    project = make_project(name, plugins=plugins, spec=overlay(storage, spec or {}))
    if dataset is not None:
        project["spec"]["dataset"] = dict(dataset)
    return project


def from_claim(path: str, **dataset: Any) -> Manifest:
    """The part of a dataset that reads a file of the claim."""
    return {"source": {"volume": {"claimName": CLAIM, "path": path}}, **dataset}
