"""What may be changed in an object that is there."""

from __future__ import annotations

from typing import Any

import pytest

from builders import make_plugin, make_project, make_run
from harness.client import Api, ApiError, Manifest

RUN = make_run(spec={"lora": {"epochs": 3}, "resumeFrom": {"run": "shop-t5-0"}, "triggeredBy": "admin"})
BARE_RUN = make_run()
STORED = make_project(spec={"storage": {"size": "10Gi"}})
PROJECT = make_project()

FORBIDDEN: dict[str, tuple[Manifest, dict[str, Any], str]] = {
    "another project": (RUN, {"projectRef": {"name": "other"}}, "projectRef is immutable: create a new TrainingRun"),
    "another plugin": (RUN, {"plugin": "other"}, "plugin is immutable: create a new TrainingRun"),
    "other parameters": (RUN, {"lora": {"epochs": 4}}, "lora is immutable: create a new TrainingRun"),
    "more parameters": (RUN, {"lora": {"r": 8}}, "lora is immutable: create a new TrainingRun"),
    "parameters removed": (RUN, {"lora": None}, "lora is immutable: create a new TrainingRun"),
    "parameters added": (BARE_RUN, {"lora": {"epochs": 4}}, "lora is immutable: create a new TrainingRun"),
    "resumption removed": (RUN, {"resumeFrom": None}, "resumeFrom is immutable: create a new TrainingRun"),
    "resumption added": (BARE_RUN, {"resumeFrom": {"run": "x"}}, "resumeFrom is immutable: create a new TrainingRun"),
    "another trigger": (RUN, {"triggeredBy": "me"}, "triggeredBy is immutable: create a new TrainingRun"),
    "trigger removed": (RUN, {"triggeredBy": None}, "triggeredBy is immutable: create a new TrainingRun"),
    "storage added": (PROJECT, {"storage": {"size": "1Gi"}}, "storage is immutable: make a new Project to move"),
    "storage removed": (STORED, {"storage": None}, "storage is immutable: make a new Project to move the data"),
    "storage changed": (STORED, {"storage": {"size": "20Gi"}}, "storage is immutable: make a new Project to move"),
}


def _in(namespace: str, manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


@pytest.mark.parametrize("case", FORBIDDEN)
async def test_an_immutable_field_keeps_its_value(case: str, api: Api, namespace: str) -> None:
    manifest, change, message = FORBIDDEN[case]
    created = await api.create(_in(namespace, manifest))
    name = manifest["metadata"]["name"]
    with pytest.raises(ApiError) as refused:
        await api.patch(manifest["kind"], name, {"spec": change}, namespace=namespace)
    assert refused.value.status == 422
    assert message in str(refused.value)
    assert (await api.get(manifest["kind"], name, namespace=namespace))["spec"] == created["spec"]


ALLOWED: dict[str, tuple[Manifest, dict[str, Any]]] = {
    "suspend a run": (RUN, {"suspend": True}),
    "cancel a run": (RUN, {"cancel": True}),
    "let a run be deleted": (RUN, {"ttlSecondsAfterFinished": 60}),
    "suspend a project": (PROJECT, {"suspend": True}),
    "other data": (PROJECT, {"dataset": {"source": {"inline": {"data": "prompt,response\na,b\n"}}}}),
    "other plugins": (PROJECT, {"plugins": [{"name": "other", "pluginRef": {"name": "other"}}]}),
    "another base model": (make_plugin(), {"lora": {"baseModel": {"uri": "hf://google/flan-t5-small"}}}),
}


@pytest.mark.parametrize("case", ALLOWED)
async def test_what_is_not_immutable_can_be_changed(case: str, api: Api, namespace: str) -> None:
    manifest, change = ALLOWED[case]
    created = await api.create(_in(namespace, manifest))
    changed = await api.patch(manifest["kind"], manifest["metadata"]["name"], {"spec": change}, namespace=namespace)
    assert changed["spec"] != created["spec"]
    assert changed["metadata"]["generation"] == 2


async def test_cancel_cannot_be_taken_back(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace, spec={"cancel": True}))
    for taken_back in (False, None):
        with pytest.raises(ApiError, match="cancel cannot be taken back: create a new TrainingRun"):
            await api.patch("TrainingRun", "shop-t5-1", {"spec": {"cancel": taken_back}}, namespace=namespace)


async def test_a_suspended_run_can_go_on(api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace, spec={"suspend": True}))
    changed = await api.patch("TrainingRun", "shop-t5-1", {"spec": {"suspend": False}}, namespace=namespace)
    assert changed["spec"]["suspend"] is False


async def test_the_type_of_a_plugin_keeps_its_value(api: Api) -> None:
    # There is one type as yet, so no update can break the rule: it must stand in the definition all the same.
    definition = await api.get("CustomResourceDefinition", "plugins.chorus.dev")
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert "type is immutable: make a new Plugin" in [rule["message"] for rule in spec["x-kubernetes-validations"]]
