"""A container plugin with everything real but the pods: asked what it needs, admitted, trained, published."""

from __future__ import annotations

import pytest

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest
from harness.operator_harness import operator_harness
from harness.pods import Attempt, by_run

SCHEMA = {"properties": {"epochs": {"type": "integer", "minimum": 1}, "solver": {"type": "string"}}}


def classifier(namespace: str = "default", **container: object) -> Manifest:
    """A Plugin in five lines: what it needs it says itself."""
    image = {"image": "registry.test/classifier:1", **container}
    return make_plugin("t5", namespace=namespace, spec={"type": "container", "lora": None, "container": image})


async def test_five_lines_are_enough_for_a_trained_container(installed: ControlPlane, api: Api, namespace: str) -> None:
    plan = by_run({"stopped": [Attempt(lingers=True)]})
    async with operator_harness(installed, api, namespace=namespace, plan=plan) as on:
        await on.create(classifier(namespace), make_project("home", namespace=namespace))
        await on.reaches("Project", "home", "TRAINED")
        run = on.runs["home-t5-1"]["status"]
        assert run["model"]["metrics"] == {"eval_loss": "0.5", "final_loss": "0.4"}
        assert run["report"]["modelName"]["modelName"] == run["model"]["name"]
        plugin = await api.get("Plugin", "t5", namespace=namespace)
        assert plugin["status"]["report"]["neededColumns"] == ["prompt"]
        assert {c["type"]: c["status"] for c in plugin["status"]["conditions"]} == {"Ready": "True", "Online": "True"}
        wrong = make_run("wrong", namespace=namespace, project="home", spec={"parameters": {"epoch": 3}})
        await on.create(wrong)
        await on.reaches("TrainingRun", "wrong", "failed")
        assert "did you mean 'epochs'?" in on.runs["wrong"]["status"]["message"]
        await on.create(make_run("stopped", namespace=namespace, project="home", spec={"parameters": {"epochs": 3}}))
        await on.reaches("TrainingRun", "stopped", "TRAINING")
        await on.set_run("stopped", cancel=True)
        await on.reaches("TrainingRun", "stopped", "cancelled")
        assert on.answered(403) == []
        assert [wrong for wrong in on.witness.steps_back() if wrong.startswith("TrainingRun")] == []


BAD = {
    "no container": ({"container": None}, "container is required when type is container, and for no other type"),
    "a lora block": ({"lora": {"epochs": 1}}, "lora is for type lora: remove it"),
    "a schema with a pattern": (
        {"parametersSchema": {"properties": {"a": {"type": "string", "pattern": ".*"}}}},
        'unknown field "spec.parametersSchema.properties.a.pattern"',
    ),
    "bounds of another type": (
        {"parametersSchema": {"properties": {"a": {"type": "string", "minimum": 1}}}},
        "minimum and maximum are for type integer: remove them or set type: integer",
    ),
    "bounds without room": (
        {"parametersSchema": {"properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}}},
        "minimum is above maximum: no value could be right",
    ),
    "a parameter that is no number or text": ({"parameters": {"a": True}}, "spec.parameters.a"),
    "a parameter that is too long": (
        {"parameters": {"a": "x" * 1025}},
        "spec.parameters.a: Too long: may not be more than 1024 bytes",
    ),
    "a digest that is none": (
        {"container": {"image": "x", "script": {"configMap": {"name": "code", "key": "a.py"}, "sha256": "AB" * 32}}},
        "must be the SHA-256 as 64 lower-case hex digits, such as sha256sum prints it",
    ),
}

SCRIPT = {"sha256": "ab" * 32}
BAD_SCRIPTS = {
    "no place": (SCRIPT, "script needs exactly one of configMap and path"),
    "two places": (
        {**SCRIPT, "path": "a.py", "configMap": {"name": "code", "key": "a.py"}},
        "script needs exactly one of configMap and path",
    ),
    "a path that leads out": ({**SCRIPT, "path": "../a.py"}, "without '..' parts"),
    "no digest": ({"path": "a.py"}, "spec.script.sha256: Required value"),
}


@pytest.mark.parametrize("case", BAD_SCRIPTS)
async def test_a_bad_script_of_a_lora_plugin_is_refused(case: str, api: Api, namespace: str) -> None:
    script, message = BAD_SCRIPTS[case]
    with pytest.raises(ApiError) as caught:
        await api.create(make_plugin("bad", namespace=namespace, spec={"script": script}))
    assert message in str(caught.value)


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_container_plugin_is_refused_with_the_field_and_the_fix(
    case: str, api: Api, namespace: str
) -> None:
    change, message = BAD[case]
    manifest = make_plugin("bad", namespace=namespace, spec={**classifier()["spec"], "lora": None})
    manifest["spec"] = make_plugin(spec={**manifest["spec"], **change})["spec"]
    if "lora" not in change:
        manifest["spec"].pop("lora", None)
    with pytest.raises(ApiError) as caught:
        await api.create(manifest)
    assert message in str(caught.value)


async def test_parameters_are_stored_as_they_were_written(api: Api, namespace: str) -> None:
    manifest = classifier(namespace)
    manifest["spec"] |= {"parameters": {"epochs": 5, "rate": "5e-5"}, "parametersSchema": SCHEMA}
    stored = await api.create(manifest)
    assert stored["spec"]["parameters"] == {"epochs": 5, "rate": "5e-5"}


async def test_parameters_of_a_run_are_immutable(api: Api, namespace: str) -> None:
    await api.create(make_run("r", namespace=namespace, spec={"parameters": {"epochs": 5}}))
    with pytest.raises(ApiError, match="parameters is immutable: create a new TrainingRun"):
        await api.patch("TrainingRun", "r", {"spec": {"parameters": {"epochs": 6}}}, namespace=namespace)
