"""What the API server itself says to good and bad objects."""

from __future__ import annotations

from typing import Any

import pytest

from builders import make_plugin, make_project, make_run
from harness.apiserver import is_established
from harness.client import Api, ApiError, Manifest

SQL = {"urlSecretKeyRef": {"name": "warehouse", "key": "url"}}
URL = (
    "must be https://host/path, s3://bucket/key, gs://bucket/object or hf://datasets/owner/name/path, without user and"
)
VOLUME = {"claimName": "homeiq", "path": "ai_automation.db"}


def source(**changes: Any) -> Manifest:
    return make_project(spec={"dataset": {"source": {"inline": None, **changes}}})


def dataset(**changes: Any) -> Manifest:
    return make_project(spec={"dataset": changes})


def elsewhere(*, query: str | None = None, **changes: Any) -> Manifest:
    """A Project whose data is fetched: `uri` or `sql`; further changes are of the dataset."""
    parts = {name: changes.pop(name) for name in ("uri", "sql") if name in changes}
    spec = {"source": {"inline": None, **parts}, "format": None, "query": query, **changes}
    return make_project(spec={"dataset": spec})


def on_volume(**changes: Any) -> Manifest:
    return make_project(spec={"dataset": {"source": {"inline": None, "volume": VOLUME}, "format": None, **changes}})


def project_lora(**parameters: Any) -> Manifest:
    return make_project(plugins=[{"name": "t5", "pluginRef": {"name": "t5"}, "lora": parameters}])


def run_lora(**parameters: Any) -> Manifest:
    return make_run(spec={"lora": parameters})


def plugin_lora(**parameters: Any) -> Manifest:
    return make_plugin(spec={"lora": parameters})


RATE = 'must be a decimal above 0 and at most 1, as a string such as "5e-5"'
FRACTION = 'must be a decimal from 0 up to, but not including, 1, as a string such as "0.05"'
OF_TYPE_STRING = 'must be of type string: "integer"'
"""The API server's words for a number without quotes; docs/reference.md says what to do."""
ONE_SOURCE = "source needs exactly one of volume, configMap, inline, uri, sql"
PATH = "must be relative to the root of the volume, without a '/' at the start and without '..' parts"
EITHER_STORAGE = "storage needs either claimName (an existing claim) or size and storageClassName, not both"
LABEL = "must be of lower-case letters, digits and '-', with a letter or digit at both ends"
MODEL = "must be hf://owner/name, pvc://claim/path or file:///path, without '..' parts"

BAD: dict[str, tuple[Manifest, str, str]] = {
    "two sources": (make_project(spec={"dataset": {"source": {"volume": VOLUME}}}), "spec.dataset.source", ONE_SOURCE),
    "no source": (source(), "spec.dataset.source", ONE_SOURCE),
    "no dataset": (make_project(spec={"dataset": None}), "spec.dataset", "Required value"),
    "unknown format": (dataset(format="xml"), "spec.dataset.format", 'supported values: "csv", "jsonl", "parquet"'),
    "inline without format": (
        dataset(format=None),
        "spec.dataset",
        "format must be csv or jsonl when source is inline",
    ),
    "inline as parquet": (
        dataset(format="parquet"),
        "spec.dataset",
        "format must be csv or jsonl when source is inline",
    ),
    "query on csv": (
        dataset(query="SELECT 1"),
        "spec.dataset",
        "query is for sqlite files and sql sources only: remove it or set format: sqlite",
    ),
    "sqlite without a query": (on_volume(format="sqlite"), "spec.dataset", "query is required when format is sqlite"),
    "a source and a uri": (source(volume=VOLUME, uri={"url": "s3://rooms/a.csv"}), "spec.dataset.source", ONE_SOURCE),
    "a scheme that is not known": (elsewhere(uri={"url": "ftp://host/a.csv"}), "spec.dataset.source.uri.url", URL),
    "without encryption": (elsewhere(uri={"url": "http://host/a.csv"}), "spec.dataset.source.uri.url", URL),
    "a password in a url": (elsewhere(uri={"url": "https://me:pw@host/a.csv"}), "spec.dataset.source.uri.url", URL),
    "a percent sign in a host": (elsewhere(uri={"url": "https://a.b%25.c/a.csv"}), "spec.dataset.source.uri.url", URL),
    "a bucket without a key": (elsewhere(uri={"url": "s3://rooms"}), "spec.dataset.source.uri.url", URL),
    "a hub's model as data": (elsewhere(uri={"url": "hf://google/t5/a.csv"}), "spec.dataset.source.uri.url", URL),
    "a short digest": (
        elsewhere(uri={"url": "s3://rooms/a.csv", "sha256": "abc"}),
        "spec.dataset.source.uri.sha256",
        "must be a SHA-256 digest: 64 digits of 0-9 and a-f",
    ),
    "an ending that says nothing": (
        elsewhere(uri={"url": "https://host/export?as=rows"}),
        "spec.dataset",
        "format is required when the ending of source.uri.url does not tell it: csv, jsonl, parquet or sqlite",
    ),
    "a database without a query": (
        elsewhere(sql=SQL),
        "spec.dataset",
        "query is required when source is sql: one SELECT that names the table",
    ),
    "a database with a format": (
        elsewhere(sql=SQL, query="SELECT 1", format="csv"),
        "spec.dataset",
        "format is for files: remove it when source is sql",
    ),
    "an authority without a key": (
        elsewhere(sql={**SQL, "caSecretKeyRef": {"name": "rooms-ca"}}, query="SELECT 1"),
        "spec.dataset.source.sql.caSecretKeyRef.key",
        "Required value",
    ),
    "certificates in a path": (
        elsewhere(sql={**SQL, "caSecretKeyRef": {"name": "rooms-ca", "key": "tls/ca.crt"}}, query="SELECT 1"),
        "spec.dataset.source.sql.caSecretKeyRef.key",
        "must be a key of a Secret: letters, digits, '-', '_' and '.'",
    ),
    "missing values of a database": (
        elsewhere(sql=SQL, query="SELECT 1", missingValues=["NA"]),
        "spec.dataset",
        "missingValues is for csv and jsonl files only: remove it",
    ),
    "missing values of parquet": (
        on_volume(format="parquet", missingValues=["NA"]),
        "spec.dataset",
        "missingValues is for csv and jsonl files only: remove it",
    ),
    "21 missing values": (
        dataset(missingValues=[str(number) for number in range(21)]),
        "spec.dataset.missingValues",
        "must have at most 20 items",
    ),
    "refresh without rest": (dataset(refreshSeconds=59), "spec.dataset.refreshSeconds", "greater than or equal to 60"),
    "path upwards": (
        source(volume={"claimName": "a", "path": "x/../../etc/passwd"}),
        "spec.dataset.source.volume.path",
        PATH,
    ),
    "path is parent": (source(volume={"claimName": "a", "path": ".."}), "spec.dataset.source.volume.path", PATH),
    "absolute path": (source(volume={"claimName": "a", "path": "/etc"}), "spec.dataset.source.volume.path", PATH),
    "empty inline data": (source(inline={"data": ""}), "spec.dataset.source.inline.data", "at least 1 chars long"),
    "64 KiB and one": (source(inline={"data": "x" * 65537}), "spec.dataset.source.inline.data", "more than 65536"),
    "evalFraction 2": (dataset(evalFraction="2"), "spec.dataset.evalFraction", FRACTION),
    "evalFraction 1": (dataset(evalFraction="1"), "spec.dataset.evalFraction", FRACTION),
    "evalFraction below 0": (dataset(evalFraction="-0.1"), "spec.dataset.evalFraction", FRACTION),
    "evalFraction a number": (dataset(evalFraction=0.1), "spec.dataset.evalFraction", "must be of type string"),
    "info a number": (dataset(info={"year": 2026}), "spec.dataset.info.year", OF_TYPE_STRING),
    "info a boolean": (dataset(info={"indoor": True}), "spec.dataset.info.indoor", 'must be of type string: "boolean"'),
    "missing value a number": (dataset(missingValues=[-1]), "spec.dataset.missingValues[0]", OF_TYPE_STRING),
    "storage size a number": (make_project(spec={"storage": {"size": 10}}), "spec.storage.size", OF_TYPE_STRING),
    "learning rate a number": (project_lora(learningRate=0.0003), "lora.learningRate", 'type string: "number"'),
    "a variable a number": (
        make_plugin(spec={"pod": {"env": [{"name": "WORKERS", "value": 4}]}}),
        "spec.pod.env[0].value",
        OF_TYPE_STRING,
    ),
    "a label of a node a boolean": (
        make_plugin(spec={"pod": {"nodeSelector": {"gpu": True}}}),
        "spec.pod.nodeSelector.gpu",
        'must be of type string: "boolean"',
    ),
    "cores a number": (make_plugin(spec={"resources": {"limits": {"cpu": 2}}}), "resources.limits.cpu", OF_TYPE_STRING),
    "a parameter a boolean": (make_run(spec={"parameters": {"fast": True}}), "spec.parameters.fast", "must be of type"),
    "a parameter a decimal": (make_run(spec={"parameters": {"rate": 0.5}}), "spec.parameters.rate", "must be of type"),
    "maxRows 0": (on_volume(maxRows=0), "spec.dataset.maxRows", "greater than or equal to 1"),
    "long info key": (dataset(info={"k" * 64: "v"}), "spec.dataset.info", "a key has at most 63 characters"),
    "no plugins": (make_project(plugins=[]), "spec.plugins", "at least 1 items"),
    "plugins left out": (make_project(spec={"plugins": None}), "spec.plugins", "Required value"),
    "one plugin twice": (make_project(plugins=["t5", "t5"]), "spec.plugins[1]", "Duplicate value"),
    "21 plugins": (make_project(plugins=[f"p{n}" for n in range(21)]), "spec.plugins", "must have at most 20 items"),
    "entry name": (
        make_project(plugins=[{"name": "T5", "pluginRef": {"name": "t5"}}]),
        "spec.plugins[0].name",
        LABEL,
    ),
    "storage both": (
        make_project(spec={"storage": {"claimName": "mine", "size": "10Gi"}}),
        "spec.storage",
        EITHER_STORAGE,
    ),
    "storage both by class": (
        make_project(spec={"storage": {"claimName": "mine", "storageClassName": "fast"}}),
        "spec.storage",
        EITHER_STORAGE,
    ),
    "storage size": (make_project(spec={"storage": {"size": "ten"}}), "spec.storage.size", "must be a quantity"),
    "rate fast (run)": (run_lora(learningRate="fast"), "spec.lora.learningRate", RATE),
    "rate fast (project)": (project_lora(learningRate="fast"), "spec.plugins[0].lora.learningRate", RATE),
    "rate fast (plugin)": (plugin_lora(learningRate="fast"), "spec.lora.learningRate", RATE),
    "rate 0": (run_lora(learningRate="0e-3"), "spec.lora.learningRate", RATE),
    "rate 2": (run_lora(learningRate="2"), "spec.lora.learningRate", RATE),
    "rate endless": (run_lora(learningRate="1e999"), "spec.lora.learningRate", RATE),
    "rate a number": (run_lora(learningRate=5e-5), "spec.lora.learningRate", "must be of type string"),
    "dropout 1": (run_lora(dropout="1.0"), "spec.lora.dropout", FRACTION),
    "alpha 0": (run_lora(alpha="0"), "spec.lora.alpha", "must be a decimal above 0 and at most 4096"),
    "r 0": (run_lora(r=0), "spec.lora.r", "greater than or equal to 1"),
    "r 2000": (run_lora(r=2000), "spec.lora.r", "less than or equal to 1024"),
    "no targets": (run_lora(targetModules=[]), "spec.lora.targetModules", "at least 1 items"),
    "unknown profile": (run_lora(profile="quick"), "spec.lora.profile", 'supported values: "compat", "fast", "best"'),
    "base model elsewhere": (
        plugin_lora(baseModel={"uri": "ftp://models/t5"}),
        "spec.lora.baseModel.uri",
        MODEL,
    ),
    "base model upwards": (plugin_lora(baseModel={"uri": "pvc://models/../x"}), "spec.lora.baseModel.uri", MODEL),
    "unknown type": (make_plugin(spec={"type": "gan"}), "spec.type", 'supported values: "lora"'),
    "lora without its block": (make_plugin(spec={"lora": None}), "spec", "lora is required when type is lora"),
    "two accelerators": (
        make_plugin(spec={"accelerator": {"count": 2}}),
        "spec.accelerator.count",
        "less than or equal to 1",
    ),
    "a GPU as a request": (
        make_plugin(spec={"resources": {"requests": {"nvidia.com/gpu": "1"}}}),
        "spec.resources.requests",
        "keys must be among cpu, memory, ephemeral-storage",
    ),
    "no memory": (
        make_plugin(spec={"resources": {"limits": {"memory": "much"}}}),
        "spec.resources.limits[memory]",
        "must be a quantity",
    ),
    "a plugin's request above its limit": (
        make_plugin(spec={"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}}),
        "spec.resources",
        "requests must not be above limits of the same name: lower the request or raise the limit",
    ),
    "a GPU for a project's jobs": (
        make_project(spec={"jobResources": {"limits": {"nvidia.com/gpu": "1"}}}),
        "spec.jobResources.limits",
        "keys must be among cpu, memory, ephemeral-storage",
    ),
    "a project's jobs with no cpu": (
        make_project(spec={"jobResources": {"limits": {"cpu": "much"}}}),
        "spec.jobResources.limits[cpu]",
        'must be a quantity, such as "500m"',
    ),
    "a request of a project's jobs above its limit": (
        make_project(spec={"jobResources": {"requests": {"cpu": "1001m"}, "limits": {"cpu": "1"}}}),
        "spec.jobResources",
        "requests must not be above limits of the same name: lower the request or raise the limit",
    ),
    "another kind of resources": (
        make_project(spec={"jobResources": {"limit": {"cpu": "1"}}}),
        "spec.jobResources.limit",
        "unknown field",
    ),
    "scratch that is no quantity": (
        make_plugin(spec={"scratch": {"size": "much"}}),
        "spec.scratch.size",
        "must be a quantity",
    ),
    "a plugin's scratch that holds nothing": (
        make_plugin(spec={"scratch": {"size": "0"}}),
        "spec.scratch",
        "scratch.size must be from 16Mi to 16Ti",
    ),
    "a project's scratch that no node has": (
        make_project(spec={"scratch": {"size": "17Ti"}}),
        "spec.scratch",
        "scratch.size must be from 16Mi to 16Ti",
    ),
    "long project name": (
        make_project("p" * 21),
        "metadata.name",
        "metadata.name of a Project has at most 20 characters: choose a shorter name",
    ),
    "long plugin name": (
        make_plugin("p" * 21),
        "metadata.name",
        "metadata.name of a Plugin has at most 20 characters: choose a shorter name",
    ),
    "long run name": (
        make_run("r" * 51),
        "metadata.name",
        "metadata.name of a TrainingRun has at most 50 characters: choose a shorter name",
    ),
    "run name with a dot": (
        make_run("shop.t5.1"),
        "metadata.name",
        "metadata.name of a TrainingRun must be a DNS label: replace each '.' by '-'",
    ),
    "run of no project": (make_run(spec={"projectRef": None}), "spec.projectRef", "Required value"),
    "run of no plugin": (make_run(spec={"plugin": None}), "spec.plugin", "Required value"),
    "run of a long project": (make_run(project="p" * 21), "spec.projectRef.name", "20"),
    "unknown field of a project": (make_project(spec={"trainOnn": "Change"}), "spec.trainOnn", "unknown field"),
    "unknown field of a plugin": (plugin_lora(epoch=3), "spec.lora.epoch", "unknown field"),
    "unknown field of a run": (make_run(spec={"cancle": True}), "spec.cancle", "unknown field"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_object_is_refused_with_the_field_and_the_fix(case: str, api: Api, namespace: str) -> None:
    manifest, field, fix = BAD[case]
    manifest = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    with pytest.raises(ApiError) as refused:
        await api.create(manifest)
    assert refused.value.status in {400, 422}
    assert field in str(refused.value)
    assert fix in str(refused.value)
    assert "evaluating rule" not in str(refused.value)
    assert await api.list(manifest["kind"], namespace=namespace) == []


GOOD: dict[str, Manifest] = {
    "the smallest project": make_project(),
    "a sqlite file on a claim": on_volume(format="sqlite", query="SELECT a FROM b", maxRows=2000, evalFraction="0.05"),
    "told from the file's name": on_volume(query="SELECT a FROM b"),
    "an object store": elsewhere(uri={"url": "s3://rooms/a b/c.CSV", "secretRef": {"name": "reader"}}),
    "a file that is told by its digest": elsewhere(uri={"url": "https://host/a.parquet?v=1", "sha256": "0a" * 32}),
    "an export": elsewhere(uri={"url": "https://host:8443/export?as=rows"}, format="csv"),
    "a hub's data set": elsewhere(uri={"url": "hf://datasets/me/rooms/data/a.jsonl@v1"}),
    "a database": elsewhere(sql=SQL, query="SELECT a FROM b", refreshSeconds=60),
    "a database of an authority of its own": elsewhere(
        sql={**SQL, "caSecretKeyRef": {"name": "rooms-ca", "key": "ca.crt"}}, query="SELECT a FROM b"
    ),
    "missing values": dataset(missingValues=["NA", ""]),
    "no evaluation": dataset(evalFraction="0"),
    "64 KiB of emoji": source(inline={"data": "😀" * 65536}),
    "a hidden file": source(volume={"claimName": "a", "path": "a/..b/.hidden.csv"}),
    "own claim": make_project(spec={"storage": {"claimName": "mine"}}),
    "new claim": make_project(spec={"storage": {"size": "1.5Gi", "storageClassName": "fast"}}),
    "room for a large query": make_project(spec={"scratch": {"size": "16Ti"}}),
    "20 plugins": make_project(plugins=[f"p{n}" for n in range(20)]),
    "name of 20": make_project("p" * 20),
    "the smallest plugin": make_plugin(spec={"lora": {"baseModel": None}}),
    "hub model": plugin_lora(baseModel={"uri": "hf://google/flan-t5-small", "revision": "main"}),
    "every resource": make_plugin(
        spec={
            "resources": {"requests": {"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1G"}},
            "scratch": {"size": "1.5Gi"},
            "accelerator": {},
            "pod": {
                "nodeSelector": {"example.com/pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
            },
        }
    ),
    "the smallest run": make_run(),
    "name of 50": make_run("r" * 50),
    "every parameter": run_lora(
        baseModel={"uri": "file:///models/t5"},
        epochs=3,
        batchSize=2,
        gradientAccumulation=4,
        learningRate="5e-5",
        r=16,
        alpha="16",
        dropout="0.05",
        targetModules=["q", "v"],
        maxSourceTokens=384,
        maxTargetTokens=384,
        maxSamples=2000,
        seed=42,
        precision="auto",
        profile="compat",
    ),
}


@pytest.mark.parametrize("case", GOOD)
async def test_a_good_object_is_admitted_as_written(case: str, api: Api, namespace: str) -> None:
    manifest = {**GOOD[case], "metadata": {**GOOD[case]["metadata"], "namespace": namespace}}
    created = await api.create(manifest)
    assert _covers(created["spec"], manifest["spec"])


def _covers(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _covers(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(_covers, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("plural", ["projects", "plugins", "trainingruns"])
async def test_the_definition_is_served_without_complaint(plural: str, api: Api) -> None:
    definition = await api.get("CustomResourceDefinition", f"{plural}.chorus.dev")
    assert is_established(definition)
    conditions = {entry["type"]: entry["status"] for entry in definition["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema") is None
    assert conditions["NamesAccepted"] == "True"


async def test_unset_fields_of_a_project_get_the_defaults_of_the_models(api: Api, namespace: str) -> None:
    spec = (await api.create(make_project(namespace=namespace)))["spec"]
    assert spec["dataset"]["evalFraction"] == "0.05"
    assert spec["plugins"][0]["enabled"] is True
    assert spec["plugins"][0]["optional"] is False
    assert (spec["trainOn"], spec["concurrencyPolicy"], spec["promotion"]) == ("Change", "Queue", "IfBetter")
    assert spec["objective"] == {"metric": "eval_loss", "direction": "minimize"}
    assert spec["history"] == {"succeeded": 10, "failed": 10}
    assert spec["suspend"] is False
    assert "storage" not in spec
    assert "lora" not in spec["plugins"][0]


async def test_parts_that_are_given_in_part_get_the_rest_of_their_defaults(api: Api, namespace: str) -> None:
    manifest = make_project(namespace=namespace, spec={"history": {"failed": 3}, "storage": {"claimName": "mine"}})
    spec = (await api.create(manifest))["spec"]
    assert spec["history"] == {"succeeded": 10, "failed": 3}
    assert spec["storage"] == {"claimName": "mine", "accessMode": "ReadWriteOnce", "onDelete": "Retain"}


async def test_unset_fields_of_a_plugin_get_the_defaults_of_the_models(api: Api, namespace: str) -> None:
    spec = (await api.create(make_plugin(namespace=namespace, spec={"accelerator": {}})))["spec"]
    assert "requires" not in spec, "what the kind or the plugin's own report says"
    assert spec["accelerator"] == {"resourceName": "nvidia.com/gpu", "count": 1}
    assert spec["deadlines"] == {
        "startSeconds": 86400,
        "dataReportSeconds": 600,
        "trainingStartSeconds": 3600,
        "progressSeconds": 1800,
        "modelNameSeconds": 600,
    }
    assert spec["checkpoint"] == {"everySeconds": 300, "keep": 2, "graceSeconds": 120}
    assert spec["retry"] == {"disruption": 10, "infrastructure": 3, "user": 0}
    assert set(spec["lora"]) == {"baseModel"}


async def test_unset_fields_of_a_run_stay_unset_but_for_its_switches(api: Api, namespace: str) -> None:
    manifest = make_run(namespace=namespace)
    assert (await api.create(manifest))["spec"] == {**manifest["spec"], "suspend": False, "cancel": False}


async def test_without_strict_decoding_unknown_fields_are_dropped(api: Api, namespace: str) -> None:
    created = await api.create(make_run(namespace=namespace, spec={"cancle": True}), strict=False)
    assert "cancle" not in created["spec"]
