"""Every manifest of examples/ and of the pages is one that the models accept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from chorus_api.base import API_VERSION
from chorus_api.crd import KINDS
from docs_text import REPOSITORY, Fence, fences, name_of

SPECS = {kind.name: kind for kind in KINDS}
LEAST: dict[str, dict[str, Any]] = {
    "Project": {
        "dataset": {"source": {"inline": {"data": "a"}}, "format": "csv"},
        "plugins": [{"name": "a", "pluginRef": {"name": "a"}}],
    },
    "Plugin": {"type": "lora", "lora": {}},
    "TrainingRun": {"projectRef": {"name": "a"}, "plugin": "a"},
}
EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.yaml"))
Manifest = dict[str, Any]


def check(manifest: Manifest, where: str) -> None:
    """Check a manifest of one of the three kinds as the API server would: its version, its name, its spec."""
    kind = SPECS[manifest["kind"]]
    assert manifest["apiVersion"] == API_VERSION, where
    assert len(manifest["metadata"]["name"]) <= kind.max_name, f"{where}: the name is too long"
    assert "." not in manifest["metadata"]["name"], where
    try:
        kind.spec.model_validate(manifest["spec"])
    except ValidationError as error:
        pytest.fail(f"{where}: {error}")


def documents(text: str) -> Iterator[Any]:
    return (document for document in yaml.safe_load_all(text) if document is not None)


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_an_example_is_valid(file: Path) -> None:
    manifests = list(documents(file.read_text(encoding="utf-8")))
    assert manifests, f"{name_of(file)} is empty"
    for manifest in manifests:
        assert {"apiVersion", "kind", "metadata"} <= manifest.keys(), name_of(file)
        if manifest["kind"] in SPECS:
            check(manifest, name_of(file))


@pytest.mark.parametrize("name", ["quickstart.yaml", "manual-run.yaml", "sqlite-from-configmap.yaml"])
def test_the_names_in_an_example_fit_together(name: str) -> None:
    """Entries name Plugins that are there, and runs name entries that are there."""
    files = [REPOSITORY / "examples" / each for each in ("quickstart.yaml", name)]
    manifests = [manifest for file in files for manifest in documents(file.read_text(encoding="utf-8"))]
    plugins = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Plugin"}
    projects = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "Project"}
    for project in projects.values():
        assert {entry["pluginRef"]["name"] for entry in project["spec"]["plugins"]} <= plugins
    for run in (manifest for manifest in manifests if manifest["kind"] == "TrainingRun"):
        project = projects[run["spec"]["projectRef"]["name"]]
        assert run["spec"]["plugin"] in {entry["name"] for entry in project["spec"]["plugins"]}


@pytest.mark.parametrize("fence", fences("yaml"), ids=str)
def test_a_manifest_in_a_page_is_valid(fence: Fence) -> None:
    """A part of a manifest starts with a comment that names its kind, and is laid over the least valid spec."""
    for document in documents(fence.text):
        if document.get("kind") in SPECS:
            check(document, str(fence))
        elif "kind" not in document:
            kind = fence.text.splitlines()[0].removeprefix("# ")
            assert kind in SPECS, f"{fence}: start a part of a manifest with '# Project', '# Plugin' or '# TrainingRun'"
            spec = LEAST[kind] | document["spec"]
            check({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec}, str(fence))


def test_the_pages_show_every_kind() -> None:
    shown = {document.get("kind") for fence in fences("yaml") for document in documents(fence.text)}
    assert SPECS.keys() <= shown


def test_a_wrong_field_is_found() -> None:
    spec = LEAST["Project"] | {"refreshSeconds": 60}
    with pytest.raises(pytest.fail.Exception, match="refreshSeconds"):
        check({"apiVersion": API_VERSION, "kind": "Project", "metadata": {"name": "a"}, "spec": spec}, "here")
