"""The files of the chart agree with what they are made from, and with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs_text import REPOSITORY

CHART = REPOSITORY / "charts" / "chorus"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
TEMPLATES = [path for path in sorted((CHART / "templates").rglob("*")) if path.is_file()]
LOCAL = {"operator": "operator", "test": "test"}


def generate(chart: Path) -> subprocess.CompletedProcess[str]:
    roots = f"{REPOSITORY / 'operator'}:{REPOSITORY / 'charts'}"
    command = [sys.executable, str(REPOSITORY / "hack" / "chart.py"), str(chart)]
    env = {"PYTHONPATH": roots, "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def files(chart: Path) -> dict[str, str]:
    return {
        str(path.relative_to(chart)): path.read_text(encoding="utf-8") for path in chart.rglob("*") if path.is_file()
    }


def test_generated_files_are_what_they_are_made_from(tmp_path: Path) -> None:
    copy = tmp_path / "chorus"
    shutil.copytree(CHART, copy)
    done = generate(copy)
    assert done.returncode == 0, done.stderr
    made, committed = files(copy), files(CHART)
    assert [path for path in made if made[path] != committed.get(path)] == [], "run make generate"


def test_a_readme_without_the_marks_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "chorus"
    shutil.copytree(CHART, copy)
    (copy / "README.md").write_text("# Chart\n", encoding="utf-8")
    assert "charts/chorus/README.md: put" in generate(copy).stderr


def test_the_versions_are_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version


def paths(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Each value that templates read: leaves, and maps that users fill."""
    found = set()
    for key, value in values.items():
        path = f"{prefix}{key}"
        found |= paths(value, f"{path}.") if isinstance(value, dict) and value else {path}
    return found


def test_every_value_is_read_by_a_template() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in TEMPLATES)
    for path in paths(VALUES):
        last = path.rpartition(".")[2]
        assert re.search(rf"\.{last}\b|\$\w+\.{last}\b", text) or _parent_is_read(path, text), f"nothing reads {path}"


def _parent_is_read(path: str, text: str) -> bool:
    """Whether a template takes the map above as a whole, as it does with resources and affinities."""
    parts = path.split(".")
    return any(re.search(rf"toYaml \$?[\w.]*\.{part}\b|with \$?[\w.]*\.{part}\b", text) for part in parts[:-1])


def test_templates_read_only_values_that_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    for template in TEMPLATES:
        for path in re.findall(r"\.Values\.([\w.]+)", template.read_text(encoding="utf-8")):
            node = schema
            for part in path.split("."):
                node = resolved(node, schema)
                assert part in node.get("properties", {}), f"{template.name} reads .Values.{path}"
                node = node["properties"][part]


def resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: dict[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return found


def test_every_object_of_the_schema_is_closed_but_global() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_ones = {name for name, node in schema["$defs"].items() if node.get("additionalProperties") is not False}
    assert schema["additionalProperties"] is False
    assert open_ones == {"Global"}


def test_what_helm_packs_is_named_by_artifact_hub_as_it_is() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["annotations"]
    told = {(one["name"], one["kind"], one["version"]) for one in yaml.safe_load(annotations["artifacthub.io/crds"])}
    crds = [
        yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) for path in (REPOSITORY / "crds").glob("*s.yaml")
    ]
    assert told == {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], version["name"])
        for crd in crds
        for version in crd["spec"]["versions"]
    }
    kinds = {one["kind"] for one in yaml.safe_load(annotations["artifacthub.io/crdsExamples"])}
    assert kinds == {"Plugin", "Project"}


@pytest.mark.parametrize("name", ["values.yaml", "README.md"])
def test_every_value_is_explained(name: str) -> None:
    text = (CHART / name).read_text(encoding="utf-8")
    for path in paths(VALUES):
        assert path.rpartition(".")[2] in text
