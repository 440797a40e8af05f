"""Manifests for tests of the reconciles: the least that works, and overrides."""

from __future__ import annotations

from typing import Any

LORA = {"baseModel": {"uri": "pvc://models/tiny"}}


def plugin(name: str = "soft", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "Plugin",
        "metadata": {"name": name},
        "spec": {"type": "lora", "lora": LORA} | spec,
    }


_CONTAINER = ("image", "command", "args", "messages", "artefact", "frameFormat", "describe", "script")


def container_plugin(name: str = "soft", **spec: Any) -> dict[str, Any]:
    """A Plugin of type container; what belongs to the container is put there."""
    container = {"image": "registry.test/classifier:1"} | {key: spec.pop(key) for key in _CONTAINER if key in spec}
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "Plugin",
        "metadata": {"name": name},
        "spec": {"type": "container", "container": container} | spec,
    }


def project(name: str = "home", *, plugins: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    entries = plugins or [{"name": "soft", "pluginRef": {"name": "soft"}}]
    dataset = {"source": {"inline": {"data": "a"}}, "format": "csv"}
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": name},
        "spec": {"dataset": dataset, "plugins": entries} | spec,
    }


def run(name: str, *, plugin: str = "soft", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {"projectRef": {"name": "home"}, "plugin": plugin} | spec,
    }
