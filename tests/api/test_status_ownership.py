"""Who owns what of a status, and what becomes of objects whose ownership was written down field by field before."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from builders import make_condition, make_project, make_run
from crd_builders import Definition, definition_of, granular
from harness.apiserver import is_established
from harness.client import APPLY_PATCH, MERGE_PATCH, Api, ApiError, Manifest, eventually

TIME = "2026-01-01T00:00:00Z"
REPORT = {"attempt": 1, "podUid": "u", "sequence": 1, "dataReport": {"applicable": True, "time": TIME}}
PROGRESS = {"attempt": 1, "percent": 40, "loss": "1.25", "time": TIME}
RESOLVED = {"configMap": "frozen", "hash": "ec71b709a7", "frame": "df-3f9c"}
CONDITIONS = [make_condition("Accepted"), make_condition("Applicable")]
ROW = {"name": "t5", "run": "shop-t5-1", "phase": "TRAINING", "sequence": 1}


class Twin:
    """One object of a kind in a group of its own, whose definition can change without disturbing anything else."""

    def __init__(self, api: Api, definition: Definition, manifest: Manifest) -> None:
        self._api = api
        self._numbers = itertools.count()
        metadata, plural = manifest["metadata"], definition["spec"]["names"]["plural"]
        self._manifest = {**manifest, "apiVersion": f"{definition['spec']['group']}/v1alpha1"}
        self._kind = f"/apis/{self._manifest['apiVersion']}/namespaces/{metadata['namespace']}/{plural}"
        self._path = f"{self._kind}/{metadata['name']}/status"

    async def create(self) -> None:
        """Make it; right after its definition is established, the store of its kind may not be open yet."""

        async def made() -> bool:
            try:
                await self._api.request("POST", self._kind, body=self._manifest)
            except ApiError as error:
                if error.status not in (404, 429):
                    raise
                return False
            return True

        await eventually(made, what=f"{self._kind} takes objects")

    async def merge(self, status: Manifest, *, manager: str = "chorus") -> Manifest:
        """Merge into its status, as the operator does."""
        return await self._write({"status": status}, MERGE_PATCH, fieldManager=manager)

    async def apply(self, status: Manifest, *, manager: str) -> Manifest:
        """Apply a manager's part of its status, as the receiver does."""
        named = {key: self._manifest[key] for key in ("apiVersion", "kind")}
        metadata = {key: self._manifest["metadata"][key] for key in ("name", "namespace")}
        body = {**named, "metadata": metadata, "status": status}
        return await self._write(body, APPLY_PATCH, fieldManager=manager, force="true")

    async def _write(self, body: Manifest, content_type: str, **query: str) -> Manifest:
        return await self._api.request(
            "PATCH", self._path, body=body, query={**query, "fieldValidation": "Strict"}, content_type=content_type
        )

    async def until_owned_whole(self, field: str, *, manager: str) -> None:
        """Write until the API server goes by the new definition."""

        async def is_so() -> bool:
            written = await self.merge({"message": f"look {next(self._numbers)}"})
            return owned(written, manager).get(field) == {}

        await eventually(is_so, what=f"{manager} owns {field} whole")


def owned(stored: Manifest, manager: str) -> dict[str, Any]:
    """Give what a manager owns of a status: its fields, each with what is listed within it."""
    fields: dict[str, Any] = {}
    for entry in stored["metadata"]["managedFields"]:
        if entry["manager"] == manager:
            fields |= entry["fieldsV1"].get("f:status", {})
    return {name.removeprefix("f:"): within for name, within in fields.items()}


async def defined(api: Api, definition: Definition) -> None:
    await api.apply(definition)
    await api.wait_for("CustomResourceDefinition", definition["metadata"]["name"], is_established)


@pytest.fixture
async def run(api: Api, namespace: str) -> AsyncIterator[Twin]:
    """A run that was written when every field of its status had an owner, and whose definition is then of today."""
    definition = definition_of("TrainingRun", group=f"{namespace}.chorus.test")
    await defined(api, granular(definition))
    twin = Twin(api, definition, make_run(namespace=namespace))
    await twin.create()
    await twin.merge(
        {
            "phase": "TRAINING",
            "conditions": CONDITIONS,
            "attempts": {"current": 1, "user": 1},
            "resolved": RESOLVED,
            "shown": {"message": "It trains."},
        }
    )
    await twin.apply({"report": REPORT}, manager="chorus-report")
    await twin.apply({"progress": PROGRESS, "shown": {"percent": 40, "loss": "1.25"}}, manager="chorus-progress")
    before = await twin.merge({"message": "before"})
    assert owned(before, "chorus-report")["report"].keys() >= {"f:attempt", "f:dataReport"}
    await defined(api, definition)
    await twin.until_owned_whole("report", manager="chorus-report")
    yield twin
    await api.delete("CustomResourceDefinition", definition["metadata"]["name"])


async def test_runs_that_were_written_with_an_owner_for_each_field_are_written_on(run: Twin) -> None:
    written = await run.merge({"attempts": {"current": 2}, "phase": "PREPROCESSING"})
    assert written["status"]["attempts"] == {"current": 2, "user": 1}, "a merge patch is merged as before"
    said = {"attempt": 2, "podUid": "v", "sequence": 1}
    written = await run.apply({"report": said}, manager="chorus-report")
    assert written["status"]["report"] == said, "what was said in the attempt before is gone"
    assert written["status"]["resolved"] == RESOLVED
    assert written["status"]["progress"] == PROGRESS
    assert written["status"]["conditions"] == CONDITIONS


async def test_every_block_that_one_writes_is_one_entry_of_ownership(run: Twin) -> None:
    written = await run.merge({"attempts": {"current": 2}})
    assert (owned(written, "chorus-report"), owned(written, "chorus-progress")["progress"]) == ({"report": {}}, {})
    blocks = owned(written, "chorus")
    assert (blocks["attempts"], blocks["resolved"]) == ({}, {})


async def test_short_forms_keep_their_two_writers(run: Twin) -> None:
    shown = {"percent": 50}
    written = await run.apply({"progress": {**PROGRESS, "percent": 50}, "shown": shown}, manager="chorus-progress")
    assert written["status"]["shown"] == {"percent": 50, "message": "It trains."}
    written = await run.merge({"shown": {"message": "It has trained."}})
    assert written["status"]["shown"] == {"percent": 50, "message": "It has trained."}


async def test_a_controller_of_others_sets_a_condition_of_its_own(run: Twin) -> None:
    written = await run.apply({"conditions": [make_condition("Audited")]}, manager="auditor")
    assert [each["type"] for each in written["status"]["conditions"]] == ["Accepted", "Applicable", "Audited"]
    written = await run.apply({"conditions": [make_condition("Audited", status="False")]}, manager="auditor")
    assert written["status"]["conditions"] == [*CONDITIONS, make_condition("Audited", status="False")]
    assert owned(written, "auditor") == {"conditions": {'k:{"type":"Audited"}': {}}}
    written = await run.apply({"conditions": []}, manager="auditor")
    assert written["status"]["conditions"] == CONDITIONS


async def test_conditions_of_before_keep_their_owner_one_by_one(run: Twin) -> None:
    changed = [make_condition("Accepted"), make_condition("Applicable", status="False")]
    written = await run.merge({"conditions": changed})
    assert written["status"]["conditions"] == changed
    of_operator = owned(written, "chorus")["conditions"]
    assert {name for name in of_operator if name != "."} == {f'k:{{"type":"{each["type"]}"}}' for each in changed}
    assert all(within == {} for within in of_operator.values())


async def test_a_block_is_taken_away_and_applied_again(run: Twin) -> None:
    written = await run.merge({"report": None, "progress": None})
    assert not {"report", "progress"} & written["status"].keys()
    written = await run.apply({"report": REPORT}, manager="chorus-report")
    assert written["status"]["report"] == REPORT


async def test_rows_of_projects_that_had_an_owner_each_are_replaced_as_a_whole(api: Api, namespace: str) -> None:
    definition = definition_of("Project", group=f"{namespace}.chorus.test")
    await defined(api, granular(definition))
    project = Twin(api, definition, make_project(namespace=namespace))
    await project.create()
    before = await project.merge({"plugins": [ROW], "dataset": {"name": "df", "digest": "sha256:0", "rows": 3}})
    assert owned(before, "chorus")["plugins"].keys() >= {'k:{"name":"t5"}'}
    await defined(api, definition)
    await project.until_owned_whole("plugins", manager="chorus")
    rows = [{**ROW, "phase": "TRAINED"}, {**ROW, "name": "gpt"}]
    written = await project.merge({"plugins": rows, "dataset": {"rows": 4}})
    assert written["status"]["plugins"] == rows
    assert written["status"]["dataset"] == {"name": "df", "digest": "sha256:0", "rows": 4}
    await api.delete("CustomResourceDefinition", definition["metadata"]["name"])
