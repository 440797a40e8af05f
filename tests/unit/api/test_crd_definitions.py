"""The committed CRDs: as the models say, and fit for users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from chorus_api import crd
from chorus_api.base import WRITERS

CRDS = Path(__file__).resolve().parents[3] / "crds"
KINDS = {kind.name: kind for kind in crd.KINDS}
TIME_WORDS = re.compile(
    "timeout|duration|interval|period|deadline|grace|ttl|every|after|until|seconds|minutes|hours", re.IGNORECASE
)


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk a schema: every part of it with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from parts(schema["additionalProperties"], f"{path}{{}}")


@cache
def committed(kind: crd.Kind) -> dict[str, Any]:
    definition: dict[str, Any] = yaml.load((CRDS / kind.file_name).read_text(encoding="utf-8"), yaml.CSafeLoader)
    return definition


def version(kind: crd.Kind) -> dict[str, Any]:
    [only] = committed(kind)["spec"]["versions"]
    found: dict[str, Any] = only
    return found


def schema(kind: crd.Kind) -> dict[str, Any]:
    whole: dict[str, Any] = version(kind)["schema"]["openAPIV3Schema"]
    return whole


def test_the_committed_files_are_what_the_models_make(tmp_path: Path) -> None:
    crd.main(["--out", str(tmp_path)])
    made = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text(encoding="utf-8") for file in CRDS.iterdir() if file.name in made}
    assert kept == made, "run: python -m chorus_api.crd --out crds"
    assert set(made) | {"kustomization.yaml"} == {file.name for file in CRDS.iterdir()}


def test_the_kustomization_lists_every_definition() -> None:
    listed = yaml.safe_load((CRDS / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(kind.file_name for kind in crd.KINDS)


def test_each_file_says_how_it_is_made() -> None:
    for kind in crd.KINDS:
        first = (CRDS / kind.file_name).read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# Generated")
        assert "python -m chorus_api.crd --out crds" in first


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_every_field_has_a_description(kind: crd.Kind) -> None:
    fields = [
        (f"{path}.{name}", part)
        for path, parent in parts(schema(kind))
        for name, part in parent.get("properties", {}).items()
    ]
    assert len(fields) > 20
    without = [path for path, part in fields if not part.get("description")]
    assert without == [".metadata"]  # the API server lets nothing be said about it


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_every_text_list_and_map_is_bounded(kind: crd.Kind) -> None:
    bound = {"string": ("maxLength", "enum"), "array": ("maxItems",), "object": ("properties", "maxProperties")}
    unbounded = [
        path
        for path, part in parts(schema(kind))
        if part.get("type") in bound and not any(word in part for word in bound[part["type"]])
    ]
    assert unbounded == [".metadata"]


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_there_is_no_floating_point_and_nothing_unknown_is_kept(kind: crd.Kind) -> None:
    for path, part in parts(schema(kind)):
        if not part.get("x-kubernetes-int-or-string"):
            assert part["type"] in {"string", "integer", "boolean", "array", "object"}, path
        assert "x-kubernetes-preserve-unknown-fields" not in part, path
        assert "nullable" not in part, path


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_every_rule_says_what_to_do(kind: crd.Kind) -> None:
    for path, part in parts(schema(kind)):
        for rule in part.get("x-kubernetes-validations", []):
            assert rule["message"], path
            assert rule["rule"], path


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_conditions_can_be_written_by_several_managers(kind: crd.Kind) -> None:
    conditions = schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["items"]["x-kubernetes-map-type"] == "atomic", "each of them by one"


OF_SEVERAL_WRITERS = {
    "Project": {"conditions": ["chorus", "controllers of others"]},
    "Plugin": {"conditions": ["chorus", "controllers of others"]},
    "TrainingRun": {
        "conditions": ["chorus", "controllers of others"],
        "shown": ["chorus", "chorus-progress"],
    },
}
"""The fields of each status that several field managers write, each a part of it."""


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_what_one_manager_writes_whole_is_atomic_and_all_else_is_listed_with_its_writers(kind: crd.Kind) -> None:
    """An entry in managedFields for each field within costs the API server as much again as the write itself."""
    status = schema(kind)["properties"]["status"]
    assert "x-kubernetes-map-type" not in status, "each field of a status has its own writer"
    types = {
        name: part.get("x-kubernetes-list-type" if part["type"] == "array" else "x-kubernetes-map-type")
        for name, part in status["properties"].items()
        if part["type"] in ("array", "object")
    }
    assert {name for name, of in types.items() if of != "atomic"} == OF_SEVERAL_WRITERS[kind.name].keys()


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_the_models_say_who_writes_what_several_write(kind: crd.Kind) -> None:
    marked = {
        str(field.alias): extra[WRITERS]
        for field in kind.status.model_fields.values()
        if isinstance(extra := field.json_schema_extra, dict) and WRITERS in extra
    }
    assert marked == OF_SEVERAL_WRITERS[kind.name]


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_columns_and_selectable_fields_exist_in_the_schema(kind: crd.Kind) -> None:
    paths = {path for path, _ in parts(schema(kind))} | {".metadata.creationTimestamp"}
    for column in version(kind)["additionalPrinterColumns"]:
        place, _, condition = column["jsonPath"].partition("[?")
        assert place in paths, column
        assert bool(condition) == (place == ".status.conditions")
    assert {entry["jsonPath"] for entry in version(kind)["selectableFields"]} <= paths


@pytest.mark.parametrize(
    ("name", "short", "longest"), [("Project", "cproj", 20), ("Plugin", "cplug", 20), ("TrainingRun", "crun", 50)]
)
def test_names_are_as_published(name: str, short: str, longest: int) -> None:
    kind = KINDS[name]
    spec = committed(kind)["spec"]
    assert spec["names"]["shortNames"] == [short]
    assert spec["names"]["categories"] == ["chorus"]
    assert spec["scope"] == "Namespaced"
    assert version(kind)["subresources"] == {"status": {}}
    limit, _ = schema(kind)["x-kubernetes-validations"]
    assert limit["rule"] == f"size(self.metadata.name) <= {longest}"


@pytest.mark.parametrize("kind", crd.KINDS, ids=KINDS)
def test_pc_26_every_length_of_time_is_whole_seconds_and_its_name_says_so(kind: crd.Kind) -> None:
    """A text such as "5m" is minutes to one reader and months to another."""
    fields = {
        f"{path}.{name}": part
        for path, parent in parts(schema(kind)["properties"]["spec"])
        for name, part in parent.get("properties", {}).items()
    }
    timed = {path: part for path, part in fields.items() if TIME_WORDS.search(path.rpartition(".")[2])}
    assert [path for path, part in timed.items() if "Seconds" not in path and part["type"] != "object"] == []
    assert {part["type"] for path, part in fields.items() if "Seconds" in path} <= {"integer"}
