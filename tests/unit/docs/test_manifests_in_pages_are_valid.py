"""Every manifest of examples/ and of the pages is one that the models accept, and the examples' data suits them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from chorus_api.base import API_VERSION
from chorus_api.crd import KINDS
from chorus_api.plugin import Plugin
from chorus_api.project import Dataset, ProjectSpec
from chorus_api.run_config import Messaging, PrepareConfig
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_operator.decisions.applicability import suits
from chorus_operator.decisions.requirements import requirements_of
from chorus_operator.plugin_types.registry import PLUGIN_TYPES
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
TABLE = "examples/demo/data/home_requests.sqlite"
PENGUINS = "examples/data/penguins/penguins.csv"
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


@pytest.mark.parametrize(
    "name",
    [
        "quickstart.yaml",
        "manual-run.yaml",
        "sqlite-from-configmap.yaml",
        "data-elsewhere.yaml",
        "penguins-lora.yaml",
    ],
)
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


@pytest.mark.parametrize(
    ("name", "source"),
    [("quickstart.yaml", ""), ("sqlite-from-configmap.yaml", TABLE), ("penguins-lora.yaml", PENGUINS)],
)
def test_the_data_of_an_example_suits_its_plugin(name: str, source: str, tmp_path: Path) -> None:
    manifests = list(documents((REPOSITORY / "examples" / name).read_text(encoding="utf-8")))
    specs = {manifest["kind"]: manifest["spec"] for manifest in manifests}
    dataset = ProjectSpec.model_validate(specs["Project"]).dataset
    path = REPOSITORY / source if source else tmp_path / "inline"
    if dataset.source.inline is not None:
        path.write_text(dataset.source.inline.data, encoding="utf-8")
    frame = prepare_frame(prepare_config(dataset, path), tmp_path / "volume")
    plugin = Plugin.model_validate({"metadata": {"name": "a", "namespace": "a", "uid": "a"}, "spec": specs["Plugin"]})
    verdict = suits(requirements_of(plugin, columns=PLUGIN_TYPES[plugin.spec.type].columns), frame, dataset.info)
    assert verdict.applicable, f"{name}: {verdict.message}"
    assert frame.eval_rows > 0
    assert not frame.rejected


def prepare_config(dataset: Dataset, path: Path) -> PrepareConfig:
    nowhere = Messaging(url="https://nowhere.invalid", token_file="", ca_file="", subject_uid="a", source="/a")
    return PrepareConfig(
        project="a",
        project_id=1,
        project_uid="a",
        prepare_key="a",
        source_path=str(path),
        source_name=dataset.source.config_map.key if dataset.source.config_map else "inline",
        format=dataset.format,
        query=dataset.query,
        max_rows=dataset.max_rows,
        missing_values=dataset.missing_values,
        fields=dataset.fields,
        eval_fraction=dataset.eval_fraction,
        messaging=nowhere,
    )


@pytest.mark.parametrize("fence", fences("yaml"), ids=str)
def test_a_manifest_in_a_page_is_valid(fence: Fence) -> None:
    """A part of a manifest starts with a comment that names its kind, and is laid over the least valid spec.

    Values of the chart (`# values…`) are rendered in tests/chart.
    """
    if fence.text.startswith("# values"):
        return
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
    spec = LEAST["Project"] | {"refreshMinutes": 60}
    with pytest.raises(pytest.fail.Exception, match="refreshMinutes"):
        check({"apiVersion": API_VERSION, "kind": "Project", "metadata": {"name": "a"}, "spec": spec}, "here")
