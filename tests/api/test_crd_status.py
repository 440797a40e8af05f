"""The status subresource: who may write what, and what `kubectl get` makes of it."""

from __future__ import annotations

import pytest

from builders import make_condition, make_plugin, make_project, make_run
from chorus_api.base import API_VERSION
from harness.client import Api, ApiError, Manifest

RUN = "shop-t5-1"
TIME = "2026-01-01T00:00:00Z"


def _status_part(namespace: str, **status: object) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {"name": RUN, "namespace": namespace},
        "status": status,
    }


async def test_a_status_given_at_creation_is_not_kept(api: Api, namespace: str) -> None:
    created = await api.create(make_run(namespace=namespace, status={"phase": "TRAINED"}))
    assert "status" not in created


async def test_an_update_of_the_object_leaves_the_status_alone(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    await api.patch("TrainingRun", RUN, {"status": {"phase": "queued"}}, namespace=namespace, subresource="status")
    changed = await api.patch(
        "TrainingRun", RUN, {"spec": {"suspend": True}, "status": {"phase": "TRAINED"}}, namespace=namespace
    )
    assert changed["status"] == {"phase": "queued"}
    assert changed["spec"]["suspend"] is True
    assert changed["metadata"]["generation"] == 2


async def test_an_update_of_the_status_leaves_the_spec_and_generation_alone(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    patch = {"spec": {"cancel": True}, "status": {"phase": "queued"}}
    changed = await api.patch("TrainingRun", RUN, patch, namespace=namespace, subresource="status")
    assert changed["spec"]["cancel"] is False
    assert changed["metadata"]["generation"] == 1


async def test_a_status_gets_no_defaults(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    status = {"attempts": {"current": 1}, "progress": {"attempt": 1, "percent": 3, "time": TIME}}
    changed = await api.patch("TrainingRun", RUN, {"status": status}, namespace=namespace, subresource="status")
    assert changed["status"] == status


async def test_a_status_is_checked_too(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    for status, field in (
        ({"progress": {"attempt": 1, "percent": 101, "time": TIME}}, "status.progress.percent"),
        ({"conditions": [make_condition("Ready"), make_condition("Ready")]}, "status.conditions[1]"),
        ({"conditions": [make_condition("Ready", status="yes")]}, "status.conditions[0].status"),
        ({"progress": {"attempt": 1, "percent": 1, "time": "yesterday"}}, "status.progress.time"),
        ({"message": "x" * 4097}, "status.message"),
    ):
        with pytest.raises(ApiError) as refused:
            await api.patch("TrainingRun", RUN, {"status": status}, namespace=namespace, subresource="status")
        assert field in str(refused.value)


async def test_the_report_of_its_own_manager_disturbs_nothing_else(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    conditions = [make_condition("Accepted"), make_condition("Applicable")]
    await api.patch(
        "TrainingRun",
        RUN,
        {"status": {"phase": "PREPROCESSING", "conditions": conditions}},
        namespace=namespace,
        subresource="status",
    )
    report = {"attempt": 1, "podUid": "u", "sequence": 1, "dataReport": {"applicable": True, "time": TIME}}
    await api.apply(_status_part(namespace, report=report), manager="chorus-report", subresource="status")
    progress = {"attempt": 1, "percent": 40, "loss": "1.25", "time": TIME}
    await api.apply(_status_part(namespace, progress=progress), manager="chorus-progress", subresource="status")
    later = {**report, "sequence": 2, "trainingStart": {"time": TIME}}
    await api.apply(_status_part(namespace, report=later), manager="chorus-report", subresource="status")
    merged = await api.patch(
        "TrainingRun", RUN, {"status": {"phase": "TRAINING"}}, namespace=namespace, subresource="status"
    )
    assert merged["status"] == {
        "phase": "TRAINING",
        "conditions": conditions,
        "report": later,
        "progress": progress,
    }
    again = {"attempt": 2, "podUid": "v"}
    replaced = await api.apply(_status_part(namespace, report=again), manager="chorus-report", subresource="status")
    assert replaced["status"]["report"] == again
    assert replaced["status"]["progress"] == progress


async def test_a_report_for_an_old_resource_version_is_a_conflict(api: Api, namespace: str) -> None:
    old = await api.create(make_run(namespace=namespace))
    await api.patch("TrainingRun", RUN, {"status": {"phase": "queued"}}, namespace=namespace, subresource="status")
    part = _status_part(namespace, report={"attempt": 1, "podUid": "u"})
    part["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    with pytest.raises(ApiError) as refused:
        await api.apply(part, manager="chorus-report", subresource="status")
    assert refused.value.status == 409


async def test_conditions_of_two_managers_are_merged_by_type(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    for manager, kind in (("one", "Accepted"), ("two", "Applicable"), ("one", "Succeeded")):
        part = _status_part(namespace, conditions=[make_condition(kind)])
        run = await api.apply(part, manager=manager, subresource="status")
    assert sorted(entry["type"] for entry in run["status"]["conditions"]) == ["Applicable", "Succeeded"]


async def test_kubectl_get_shows_a_run_as_users_know_it(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    status = {
        "phase": "TRAINING",
        "reason": "Training",
        "attempts": {"current": 2},
        "progress": {"attempt": 2, "percent": 41, "loss": "1.2499", "etaSeconds": 90, "time": TIME},
        "shown": {"percent": 40, "loss": "1.25", "message": "Attempt 2 trains."},
        "model": {"name": "shop-t5-1", "uri": "pvc://shop/models/shop-t5-1", "digest": "sha256:0"},
    }
    await api.patch("TrainingRun", RUN, {"status": status}, namespace=namespace, subresource="status")
    [narrow] = await api.table("TrainingRun", namespace=namespace)
    assert list(narrow) == ["NAME", "PROJECT", "PLUGIN", "PHASE", "PROGRESS", "LOSS", "REASON", "AGE"]
    assert list(narrow.values())[:-1] == [RUN, "shop", "t5", "TRAINING", 40, "1.25", "Training"]
    [wide] = await api.table("TrainingRun", namespace=namespace, wide=True)
    assert {key: wide[key] for key in wide if key not in narrow} == {
        "MESSAGE": "Attempt 2 trains.",
        "ATTEMPT": 2,
        "MODEL": "shop-t5-1",
        "ETA": 90,
    }


async def test_kubectl_get_shows_a_project_as_users_know_it(api: Api, namespace: str) -> None:
    await api.create(make_project(namespace=namespace))
    dataset = {"name": "df-3f9c", "digest": "sha256:3f9c", "rows": 1873}
    status = {"phase": "failed", "reason": "NoRows", "message": "rows.csv has no rows", "dataset": dataset}
    await api.patch("Project", "shop", {"status": status}, namespace=namespace, subresource="status")
    [narrow] = await api.table("Project", namespace=namespace)
    assert list(narrow) == ["NAME", "PHASE", "FRAME", "ROWS", "REASON", "AGE"]
    assert list(narrow.values())[:-1] == ["shop", "failed", "df-3f9c", 1873, "NoRows"]
    [wide] = await api.table("Project", namespace=namespace, wide=True)
    assert wide["MESSAGE"] == "rows.csv has no rows"


async def test_kubectl_get_shows_whether_a_plugin_is_ready(api: Api, namespace: str) -> None:
    await api.create(make_plugin(namespace=namespace))
    conditions = [make_condition("Online", status="Unknown"), make_condition("Ready")]
    await api.patch("Plugin", "t5", {"status": {"conditions": conditions}}, namespace=namespace, subresource="status")
    [row] = await api.table("Plugin", namespace=namespace)
    assert list(row) == ["NAME", "TYPE", "READY", "AGE"]
    assert (row["TYPE"], row["READY"]) == ("lora", "True")


async def test_runs_can_be_selected_by_project_plugin_and_phase(api: Api, namespace: str) -> None:
    for name, project, plugin in (("a", "shop", "t5"), ("b", "shop", "gpt"), ("c", "other", "t5")):
        await api.create(make_run(name, namespace=namespace, project=project, plugin=plugin))
    await api.patch("TrainingRun", "a", {"status": {"phase": "queued"}}, namespace=namespace, subresource="status")
    for selector, names in (
        ("spec.projectRef.name=shop", {"a", "b"}),
        ("spec.projectRef.name=shop,spec.plugin=t5", {"a"}),
        ("status.phase=queued", {"a"}),
        ("status.phase!=queued", {"b", "c"}),
    ):
        found = await api.list("TrainingRun", namespace=namespace, fields=selector)
        assert {run["metadata"]["name"] for run in found} == names


@pytest.mark.parametrize(("plural", "short"), [("projects", "cproj"), ("plugins", "cplug"), ("trainingruns", "crun")])
async def test_short_names_and_the_category_are_accepted(plural: str, short: str, api: Api) -> None:
    names = (await api.get("CustomResourceDefinition", f"{plural}.chorus.dev"))["status"]["acceptedNames"]
    assert names["shortNames"] == [short]
    assert names["categories"] == ["chorus"]
