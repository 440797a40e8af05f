"""Every bad input ends in an error that names the field, file or row and the fix, and disturbs nothing else.

All Projects are applied at once and run side by side: what one test waits for goes on while another one asserts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from builders import make_config_map, make_run
from cluster_builders import claim_project, from_claim, lora_plugin, table
from harness.client import Manifest
from harness.cluster import OPERATOR_NAMESPACE, Cluster, Env, command, conditions
from harness.hands import lay_hands, tree

SECONDS = 420
FIELDS = {"prompt": {"column": "prompt"}, "response": {"column": "response"}}
SELECT = "SELECT prompt, response FROM asks"


@dataclass(frozen=True)
class Case:
    """A dataset that cannot be prepared: the reason, and what the message must name."""

    name: str
    reason: str
    words: tuple[str, ...]
    dataset: Mapping[str, Any] = field(default_factory=dict)


def case(name: str, reason: str, *words: str, **dataset: Any) -> Case:
    return Case(name, reason, words, {"fields": FIELDS, **dataset})


def inline(data: str, **more: Any) -> dict[str, Any]:
    return {"source": {"inline": {"data": data}}, "format": "csv", **more}


CASES = (
    case(
        "no-volume",
        "VolumeNotFound",
        *("spec.dataset.source.volume.claimName", "'nowhere'", "create it"),
        source={"volume": {"claimName": "nowhere", "path": "rows.csv"}},
    ),
    case(
        "no-config-map",
        "ConfigMapNotFound",
        *("spec.dataset.source.configMap.name", "'nowhere'", "create it"),
        source={"configMap": {"name": "nowhere", "key": "rows.csv"}},
    ),
    case(
        "no-key",
        "ConfigMapNotFound",
        *("spec.dataset.source.configMap.key", "has no key 'rows.csv'", "it has other.csv"),
        source={"configMap": {"name": "tables", "key": "rows.csv"}},
    ),
    case(
        "no-file",
        "FileNotFound",
        *("claim data, path rows/missing.csv", "does not exist", "check the path of spec.dataset.source"),
        **from_claim("rows/missing.csv"),
    ),
    case(
        "no-format",
        "FormatUnknown",
        *("rows/table.xyz", "set spec.dataset.format"),
        **from_claim("rows/table.xyz"),
    ),
    case(
        "no-database",
        "FormatInvalid",
        *("claim data, path rows/text.db", "SQLite"),
        **from_claim("rows/text.db", query=SELECT),
    ),
    case(
        "cut-database",
        "FormatInvalid",
        *("claim data, path rows/cut.db", "truncated", "copy the whole file again"),
        **from_claim("rows/cut.db", query=SELECT),
    ),
    case(
        "no-table",
        "TableNotFound",
        *("spec.dataset.query", "no table 'ask'", "asks"),
        **from_claim("rows/good.db", query="SELECT * FROM ask"),
    ),
    case(
        "no-select",
        "QueryInvalid",
        *("spec.dataset.query", "one SELECT"),
        **from_claim("rows/good.db", query="SELECT 1; DELETE FROM asks"),
    ),
    case(
        "no-column",
        "ColumnNotFound",
        *("spec.dataset.fields.prompt.column", "no column 'promt'", "did you mean 'prompt'?"),
        **inline(table(5)) | {"fields": FIELDS | {"prompt": {"column": "promt"}}},
    ),
    case(
        "no-rows",
        "NoRows",
        *("claim data, path rows/good.db", "has no rows", "check the source, and the query"),
        **from_claim("rows/good.db", query=f"{SELECT} WHERE prompt IS NULL"),
    ),
    case(
        "no-good-row",
        "AllRowsRejected",
        *("none of 2 rows", "spec.dataset.source.inline", "response is missing"),
        **inline("prompt,response\nlights on,\nlights off,\n"),
    ),
    case(
        "same-header",
        "FormatInvalid",
        *("header row", "more than one column is called", "prompt", "give every column a name of its own"),
        **inline("prompt,response,prompt\na,b,c\n"),
    ),
    case(
        "utf-16",
        "FormatInvalid",
        *("claim data, path rows/utf16.csv", "not UTF-8 text", "save the file as UTF-8"),
        **from_claim("rows/utf16.csv"),
    ),
)

GOOD_ROWS = (
    b'lights on,"Switch the lights\r\non."\r\n'
    + "licht an \N{ELECTRIC LIGHT BULB},Schalte das Licht an.\r\n".encode()
    + "أضئ المصباح,تم تشغيل المصباح\r\n".encode()
    + b"long,"
    + b"x" * 100_000
    + b"\r\n"
)
BAD_ROWS = b"ragged,one,two\r\nnul\0byte,no\r\ncaf\xe9 latin,no\r\nno answer,\r\n"
MESSY = b"\xef\xbb\xbfprompt,response\r\n" + GOOD_ROWS + BAD_ROWS + table(20).split("\n", 1)[1].encode()
MESSY_GOOD, MESSY_REASONS = 24, {"RaggedRow", "NulByte", "InvalidUtf8", "MissingResponse"}

SUGGESTIONS = (
    '{"asked":"a","found":"[{\\"score\\": 1, \\"say\\": \\"worse\\"}, {\\"score\\": 2, \\"say\\": \\"better\\"}]"}\n'
    '{"asked":"b","found":"[{\\"score\\": 1"}\n'
    '{"asked":"c","found":"[]"}\n'
    '{"asked":"d","found":'
    "\n"
)


def files(directory: Path) -> dict[str, bytes]:
    """The files of the cases, by path on the claim."""
    path = directory / "good.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE asks (prompt TEXT, response TEXT)")
        database.executemany("INSERT INTO asks VALUES (?, ?)", [(f"ask {n}" * 50, "yes" * 50) for n in range(200)])
    good = path.read_bytes()
    return {
        "rows/good.db": good,
        "rows/cut.db": good[: len(good) // 2],
        "rows/text.db": b"prompt,response\nthis is no database,at all\n" * 10,
        "rows/table.xyz": table(5).encode(),
        "rows/utf16.csv": table(5).encode("utf-16-le"),
        "rows/messy.csv": MESSY,
    }


def good_projects() -> list[Manifest]:
    """Projects with data that is not clean, but can be used; and one that nothing is wrong with."""
    best = {"prompt": {"column": "asked"}, "response": {"column": "found", "best": {"by": "score", "take": "say"}}}
    messy = claim_project(
        "messy", dataset={**from_claim("rows/messy.csv"), "fields": FIELDS}, spec={"trainOn": "Manual"}
    )
    broken = {"source": {"inline": {"data": SUGGESTIONS}}, "format": "jsonl", "fields": best}
    return [
        messy,
        claim_project("broken-json", dataset=broken, spec={"trainOn": "Manual"}),
        claim_project("healthy", plugins=("t5", {"name": "picky", "pluginRef": {"name": "picky"}})),
    ]


def faulty_plugins() -> list[Manifest]:
    """A Project each of whose plugins has a fault of its own, and one that no plugin suits."""
    return [
        lora_plugin("picky", spec={"requires": {"columns": ["prompt", "colour"]}}),
        lora_plugin("exploding", base="damaged"),
        lora_plugin("baseless", lora={"baseModel": {"uri": "pvc://data/base-models/missing"}}),
        lora_plugin("claimless", lora={"baseModel": {"uri": "pvc://nowhere/t5"}}),
        claim_project("faults", plugins=("exploding", "baseless", "claimless", "stranger", "picky")),
        claim_project("unsuited", plugins=("picky",)),
    ]


@dataclass(frozen=True)
class Batch:
    """The namespace with all of them, and the operator's pods as they were before."""

    place: Env
    restarts: Mapping[str, int]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batch(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Batch]:
    restarts = await operator_restarts(cluster)
    async with Env.make(cluster.api, "bad") as place:
        made = files(tmp_path_factory.mktemp("files"))
        await lay_hands(place, image=cluster.operator_image, models=cluster.models, files=made)
        await place.apply(
            make_config_map("tables", data={"other.csv": table(5)}),
            lora_plugin("t5"),
            *faulty_plugins(),
            *good_projects(),
            make_run("orphan", project="nowhere"),
            make_run("by-hand", project="messy"),
            *(claim_project(one.name, dataset=one.dataset, spec={"trainOn": "Manual"}) for one in CASES),
        )
        yield Batch(place, restarts)


async def operator_restarts(cluster: Cluster) -> dict[str, int]:
    pods = await cluster.api.list("Pod", namespace=OPERATOR_NAMESPACE)
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


async def assert_told(place: Env, kind: str, name: str, *, phase: str, reason: str, words: tuple[str, ...]) -> None:
    """`kubectl get` shows phase and reason, `kubectl describe` the message, as does an Event."""
    row = await place.row(kind, name)
    assert (row["PHASE"], row["REASON"]) == (phase, reason)
    described = await place.describe(kind, name)
    assert [word for word in words if word not in described] == [], described
    warned = [event for event in await place.told(name, reason) if event["reason"] == reason]
    assert [event["type"] for event in warned] == ["Warning"]
    assert [word for word in words if word not in " ".join(warned[0]["message"].split())] == []


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_data_that_cannot_be_used_is_named_with_the_fix(batch: Batch, one: Case) -> None:
    place = batch.place
    project = await place.wait("Project", one.name, phase="failed", seconds=SECONDS)
    assert conditions(project)["DatasetReady"]["reason"] == one.reason
    await assert_told(place, "Project", one.name, phase="failed", reason=one.reason, words=one.words)


async def test_messy_rows_are_counted_by_reason_and_the_rest_is_used(batch: Batch) -> None:
    project = await batch.place.wait("Project", "messy", where=frame_ready, seconds=SECONDS)
    dataset = project["status"]["dataset"]
    assert dataset["rows"] + dataset["evalRows"] == MESSY_GOOD
    assert dataset["rejectedRows"] == len(MESSY_REASONS)
    frame = await frame_of(batch.place, project)
    assert {rejected["reason"]: rejected["count"] for rejected in frame["rejected"]} == dict.fromkeys(MESSY_REASONS, 1)
    assert all(rejected["examples"][0].startswith("row ") for rejected in frame["rejected"])


async def test_broken_json_in_some_rows_does_not_fail_the_project(batch: Batch) -> None:
    project = await batch.place.wait("Project", "broken-json", phase="queued", seconds=SECONDS)
    assert project["status"]["reason"] == "AwaitingTrigger"
    assert project["status"]["dataset"]["rows"] == 1
    frame = await frame_of(batch.place, project)
    assert {one["reason"]: one["count"] for one in frame["rejected"]} == {"BrokenJson": 2, "EmptyList": 1}
    assert "3 rows rejected" in conditions(project)["DatasetReady"]["message"]


async def test_a_manual_project_trains_when_a_run_is_made_by_hand(batch: Batch) -> None:
    run = await batch.place.wait("TrainingRun", "by-hand", phase="TRAINED", seconds=SECONDS)
    project = await batch.place.wait("Project", "messy", phase="TRAINED", seconds=30)
    assert [row["run"] for row in project["status"]["plugins"]] == ["by-hand"]
    assert run["status"]["model"]["samples"] == project["status"]["dataset"]["rows"]


async def test_a_run_of_an_unknown_project_says_so(batch: Batch) -> None:
    await batch.place.wait("TrainingRun", "orphan", phase="failed", seconds=SECONDS)
    words = ("spec.projectRef.name", "no Project 'nowhere'", "create it")
    await assert_told(batch.place, "TrainingRun", "orphan", phase="failed", reason="ProjectNotFound", words=words)


async def test_a_base_model_that_is_not_on_its_claim_is_named(batch: Batch) -> None:
    run = await batch.place.wait("TrainingRun", "faults-baseless-1", phase="failed", seconds=SECONDS)
    words = ("lora.baseModel.uri pvc://data/base-models/missing", "no config.json")
    await assert_told(
        batch.place, "TrainingRun", "faults-baseless-1", phase="failed", reason="BaseModelNotFound", words=words
    )
    assert run["status"]["attempts"]["current"] == 1
    assert run["status"]["failure"]["hint"]


async def test_a_base_model_on_a_claim_that_is_not_there_is_named(batch: Batch) -> None:
    await batch.place.wait("TrainingRun", "faults-claimless-1", phase="failed", seconds=SECONDS)
    words = ("lora.baseModel.uri", "'nowhere'", "create it")
    await assert_told(
        batch.place, "TrainingRun", "faults-claimless-1", phase="failed", reason="BaseModelNotFound", words=words
    )


async def test_a_loss_that_is_no_number_ends_the_run_with_a_hint(batch: Batch) -> None:
    run = await batch.place.wait("TrainingRun", "faults-exploding-1", phase="failed", seconds=SECONDS)
    await assert_told(
        batch.place, "TrainingRun", "faults-exploding-1", phase="failed", reason="NonFiniteLoss", words=("at step",)
    )
    failure = run["status"]["failure"]
    assert (failure["class"], failure["exitCode"]) == ("user", 64)
    assert "weights of the base model" in failure["hint"]  # nothing has been learned yet
    assert "learningRate" not in failure["hint"]
    assert not [path for path in await tree(batch.place, "models") if path.startswith("faults-exploding")]


async def test_an_unknown_plugin_is_named_in_the_project(batch: Batch) -> None:
    project = await batch.place.wait("Project", "faults", phase="failed", seconds=SECONDS)
    row = row_of(project, "stranger")
    assert (row["phase"], row["reason"]) == ("failed", "PluginNotFound")
    assert "spec.plugins[3].pluginRef.name" in row["message"]
    assert "'stranger'" in row["message"]
    words = ("stranger: PluginNotFound",)
    await assert_told(batch.place, "Project", "faults", phase="failed", reason="PluginFailed", words=words)


async def test_a_project_that_no_plugin_suits_says_what_is_missing(batch: Batch) -> None:
    await batch.place.wait("Project", "unsuited", phase="failed", seconds=SECONDS)
    words = ("picky", "MissingColumns", "lacks colour", "prompt, response")
    await assert_told(batch.place, "Project", "unsuited", phase="failed", reason="NoApplicablePlugin", words=words)
    assert batch.place.record.versions("TrainingRun", name="unsuited-picky-1") == []


async def test_a_plugin_that_does_not_suit_takes_no_part_in_the_rest(batch: Batch) -> None:
    project = await batch.place.wait("Project", "healthy", phase="TRAINED", seconds=SECONDS)
    row = row_of(project, "picky")
    assert (row["phase"], row["reason"], row["applicable"]) == ("notApplicable", "MissingColumns", False)


async def test_nothing_else_is_disturbed(batch: Batch, cluster: Cluster) -> None:
    run = await batch.place.wait("TrainingRun", "healthy-t5-1", phase="TRAINED", seconds=SECONDS)
    assert run["status"]["attempts"] == {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}
    assert all(len(uids) == 1 for uids in batch.place.record.uids("Job").values())
    for uid, count in (await operator_restarts(cluster)).items():
        if count > batch.restarts.get(uid, count):
            # Losing the Lease on a starved machine ends the process, and is not the input's doing.
            last = await command(
                "kubectl", "-n", OPERATOR_NAMESPACE, "logs", "deployment/chorus-operator", "--previous"
            )
            assert '"part": "the Lease"' in last


def frame_ready(project: Manifest) -> bool:
    return bool(conditions(project).get("DatasetReady", {}).get("status") == "True")


def row_of(project: Manifest, plugin: str) -> Manifest:
    row: Manifest = next(row for row in project["status"]["plugins"] if row["name"] == plugin)
    return row


async def frame_of(place: Env, project: Manifest) -> Manifest:
    """The full profile of a Project's frame, from its ConfigMap."""
    name = project["status"]["dataset"]["configMap"]
    stored = await place.api.get("ConfigMap", name, namespace=place.namespace)
    frame: Manifest = json.loads(stored["data"]["result.json"])["ready"]
    return frame
