"""Manifests for tests: sensible by default, and a test says only what it is about.

`spec` and `status` overlay the default key by key, objects within objects too; `None` takes a key away:

    make_run("shop-t5-1", project="shop", spec={"lora": {"epochs": 1}})
    make_project(spec={"dataset": {"source": {"inline": None, "volume": {"claimName": "data", "path": "rows.csv"}}}})
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from chorus_api.base import API_VERSION
from chorus_api.contract import MANAGED_BY, MANAGED_BY_LABEL

Manifest = dict[str, Any]

ROWS = "prompt,response\nlights on,switch the lights on\nlights off,switch the lights off\n"
LABELLED = {MANAGED_BY_LABEL: MANAGED_BY}
"""The label of everything that the operator makes; its account may write nothing else."""


def overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Manifest:
    """Merge `changes` into a copy of `base` as a merge patch does: objects key by key, None removes, all else wins."""
    merged = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = overlay(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def make_project(
    name: str = "shop",
    *,
    namespace: str = "default",
    plugins: Sequence[str | Mapping[str, Any]] = ("t5",),
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build a Project over two inline rows. A plugin that is only a name refers to the Plugin of that name."""
    entries = [{"name": entry, "pluginRef": {"name": entry}} if isinstance(entry, str) else entry for entry in plugins]
    default = {
        "dataset": {
            "source": {"inline": {"data": ROWS}},
            "format": "csv",
            "fields": {"prompt": {"column": "prompt"}, "response": {"column": "response"}},
        },
        "plugins": entries,
    }
    return _manifest("Project", name, namespace, default, spec=spec, status=status, metadata=metadata)


def make_plugin(
    name: str = "t5",
    *,
    namespace: str = "default",
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build a LoRA Plugin on the CPU, with a base model on a claim."""
    default = {"type": "lora", "lora": {"baseModel": {"uri": "pvc://models/tiny-t5"}}}
    return _manifest("Plugin", name, namespace, default, spec=spec, status=status, metadata=metadata)


def make_service_plugin(
    name: str = "far", *, service: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, **how: Any
) -> Manifest:
    """Build a Plugin whose service is elsewhere."""
    default = {"type": "service", "lora": None, "service": {"url": "https://far.example.org/chorus"}}
    return make_plugin(name, spec=overlay(overlay(default, {"service": service or {}}), spec or {}), **how)


def make_run(
    name: str = "shop-t5-1",
    *,
    namespace: str = "default",
    project: str = "shop",
    plugin: str = "t5",
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build a TrainingRun of a Project's plugin, as a user makes it."""
    default = {"projectRef": {"name": project}, "plugin": plugin}
    return _manifest("TrainingRun", name, namespace, default, spec=spec, status=status, metadata=metadata)


def make_condition(
    kind: str,
    *,
    status: str = "True",
    reason: str = "Tested",
    message: str = "",
    time: str = "2026-01-01T00:00:00Z",
    generation: int = 1,
) -> Manifest:
    """Build a condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": time,
        "observedGeneration": generation,
    }


def make_config_map(
    name: str, *, namespace: str = "default", data: Mapping[str, str] | None = None, **metadata: Any
) -> Manifest:
    """Build a ConfigMap; further arguments go into its metadata."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": dict(data or {}),
    }


def make_pod(
    name: str, *, namespace: str = "default", service_account: str = "default", spec: Mapping[str, Any] | None = None
) -> Manifest:
    """Build a pod of one container that the `restricted` profile lets in."""
    container = {
        "name": "main",
        "image": "example.invalid/none:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    default = {
        "serviceAccountName": service_account,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": overlay(default, spec or {}),
    }


def _manifest(
    kind: str,
    name: str,
    namespace: str,
    default: Mapping[str, Any],
    *,
    spec: Mapping[str, Any] | None,
    status: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
) -> Manifest:
    manifest: Manifest = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": overlay({"name": name, "namespace": namespace}, metadata or {}),
        "spec": overlay(default, spec or {}),
    }
    if status is not None:
        manifest["status"] = copy.deepcopy(dict(status))
    return manifest
