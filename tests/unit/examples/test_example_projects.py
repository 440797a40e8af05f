"""The Projects of examples/plugins: they name Plugins that are there, and their data has the outcome that they name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from chorus_api.project import ProjectSpec
from docs_text import REPOSITORY, name_of
from plugin_process import PENGUINS, prepared

PLUGINS = REPOSITORY / "examples" / "plugins"
DATA = {"penguins": PENGUINS, "home-requests": REPOSITORY / "examples" / "demo" / "data" / "home_requests.sqlite"}
"""The file that each ConfigMap is made of."""


def documents(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for file in sorted(PLUGINS.rglob("*.yaml")):
        texts = yaml.safe_load_all(file.read_text(encoding="utf-8"))
        found += [(file, document) for document in texts if document["kind"] == kind]
    return found


PROJECTS = documents("Project")
FILES = [name_of(file) for file, _ in PROJECTS]


def test_there_are_projects() -> None:
    assert len(PROJECTS) >= 3


@pytest.mark.parametrize(("file", "project"), PROJECTS, ids=FILES)
def test_a_project_names_plugins_that_are_there(file: Path, project: dict[str, Any]) -> None:
    there = {plugin["metadata"]["name"] for _, plugin in documents("Plugin")}
    assert {entry["pluginRef"]["name"] for entry in project["spec"]["plugins"]} <= there


def scripts() -> list[tuple[Path, dict[str, Any]]]:
    """The Plugins that have a script of their own, and what they say of it."""
    specs = [(file, plugin["spec"]) for file, plugin in documents("Plugin")]
    said = [(file, spec.get("container", spec).get("script")) for file, spec in specs]
    return [(file, script) for file, script in said if script is not None]


def test_there_are_scripts() -> None:
    assert {file.parent.name for file, _ in scripts()} == {"recipe", "shell"}


@pytest.mark.parametrize(("file", "script"), scripts(), ids=[name_of(file) for file, _ in scripts()])
def test_a_manifest_states_the_digest_that_its_script_has(file: Path, script: dict[str, Any]) -> None:
    content = (file.parent / script["configMap"]["key"]).read_bytes()
    assert script["sha256"] == hashlib.sha256(content).hexdigest(), f"write the new digest into {name_of(file)}"


@pytest.mark.parametrize(("file", "project"), PROJECTS, ids=FILES)
def test_the_data_of_a_project_has_its_outcome(file: Path, project: dict[str, Any], tmp_path: Path) -> None:
    dataset = ProjectSpec.model_validate(project["spec"]).dataset
    assert dataset.source.config_map is not None
    source = DATA[dataset.source.config_map.name]
    frame = prepared(
        tmp_path,
        source,
        eval_fraction=dataset.eval_fraction,
        format=source.suffix.removeprefix("."),
        query=dataset.query,
        fields=dataset.fields,
        info=dataset.info,
    )
    columns = {column.name: column for column in frame.manifest.columns}
    outcome = columns[dataset.info["outcome"]]
    assert outcome.distinct is not None
    assert outcome.distinct >= 2
    assert not frame.manifest.rejected
    assert frame.manifest.eval_rows > 0
