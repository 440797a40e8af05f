"""Frozen means frozen: after its acceptance no edit of its Plugin or Project touches a run, nor the Plugin's deletion.

Each case plays the same run twice, once undisturbed. In the other a field is edited, an attempt fails, the Plugin is
deleted and its entry taken out of the Project. Both must make the same objects and come to the same end.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from builders import make_plugin, make_project, make_run, make_service_plugin
from chorus_api import contract
from chorus_api.operator_config import OperatorConfig
from chorus_api.plugin import Plugin, PluginSpec
from chorus_api.project import Project, ProjectPlugin, ProjectSpec
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import CONFIG_MAPS, JOBS
from world import World, frame

RUN, SHA = "mine", "0" * 64
DIGEST = "sha256:" + "cd" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
TYPES = ("lora", "container", "service")
NO_RUN_USES = {"type": "is immutable", "container.describe": "is about the Plugin", "service.inquirySeconds": "as well"}
"""Fields of a Plugin that no run uses, and why."""
SCRIPT = {"configMap": {"name": "scripts", "key": "train.py"}, "sha256": SHA}

COMMON: dict[str, Any] = {
    "requires.columns": ["prompt", "response", "other"],
    "requires.distinct": {"prompt": 2},
    "requires.info": ["language"],
    "requires.minRows": 1000000,
    "resources.requests": {"cpu": "3"},
    "resources.limits": {"memory": "9Gi"},
    "scratch.size": "7Gi",
    "accelerator.resourceName": "example.org/npu",
    "accelerator.count": 1,
    "pod.nodeSelector": {"disk": "fast"},
    "pod.tolerations": [{"key": "gpu", "operator": "Exists"}],
    "pod.priorityClassName": "high",
    "pod.runtimeClassName": "nvidia",
    "pod.imagePullSecrets": [{"name": "mine"}],
    "pod.queueName": "gpus",
    "pod.env": [{"name": "X", "value": "1"}],
    "deadlines.startSeconds": 10,
    "deadlines.dataReportSeconds": 10,
    "deadlines.trainingStartSeconds": 10,
    "deadlines.progressSeconds": 10,
    "deadlines.modelNameSeconds": 10,
    "deadlines.activeSeconds": 10,
    "checkpoint.everySeconds": 7,
    "checkpoint.keep": 9,
    "checkpoint.graceSeconds": 11,
    "retry.disruption": 0,
    "retry.infrastructure": 0,
    "retry.user": 5,
}
LORA: dict[str, Any] = {
    "lora.baseModel.uri": "pvc://models/another",
    "lora.baseModel.revision": "main",
    "lora.baseModel.secretRef.name": "token",
    "lora.epochs": 7,
    "lora.batchSize": 3,
    "lora.gradientAccumulation": 3,
    "lora.learningRate": "3e-5",
    "lora.r": 4,
    "lora.alpha": "4",
    "lora.dropout": "0.2",
    "lora.targetModules": ["k"],
    "lora.maxSourceTokens": 99,
    "lora.maxTargetTokens": 99,
    "lora.maxSamples": 9,
    "lora.seed": 77,
    "lora.precision": "float32",
    "lora.profile": "best",
    "script.configMap.name": "others",
    "script.configMap.key": "other.py",
    "script.path": "train.py",
    "script.sha256": "1" * 64,
}
OWN = {
    "container": {
        "container.image": "registry.test/p:2",
        "container.command": ["other"],
        "container.args": ["--more"],
        "container.messages": "File",
        "container.artefact": "None",
        "container.frameFormat": "csv",
        "container.script.configMap.name": "others",
        "container.script.configMap.key": "other.py",
        "container.script.sha256": "1" * 64,
    },
    "service": {
        "service.url": "https://elsewhere.example.org/",
        "service.serviceRef.name": "near",
        "service.serviceRef.port": 444,
        "service.serviceRef.path": "/other",
        "service.serviceRef.scheme": "http",
        "service.caConfigMap.name": "authorities",
        "service.caConfigMap.key": "ca.crt",
        "service.artefact": "None",
        "service.serviceAccountName": "other",
    },
}
PARAMETERS: dict[str, Any] = {
    "parameters": {"depth": 9},
    "parametersSchema.properties": {"depth": {"type": "integer", "default": 8}},
    "parametersSchema.required": ["depth"],
}
ENTRY: dict[str, Any] = {
    **{path: value for path, value in LORA.items() if path.startswith("lora.")},
    "pluginRef.name": "other",
    "enabled": False,
    "optional": True,
    "parameters": {"depth": 4},
}
PROJECT: dict[str, Any] = {
    "scratch.size": "7Gi",
    "jobResources.requests": {"cpu": "200m"},
    "jobResources.limits": {"cpu": "3"},
    "promotion": "Manual",
    "objective.metric": "train_loss",
    "objective.direction": "maximize",
    "storage.accessMode": "ReadWriteMany",
    "storage.claimName": "elsewhere",
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Name every field of a spec, down to what has no fields of its own."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if _is_model(each)]
        if inner and "dict" not in str(field.annotation) and "list" not in str(field.annotation):
            yield from leaves(inner[0], f"{path}.")
        else:
            yield path


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def edits_of(kind: str) -> dict[str, Any]:
    """A valid edit of each field of a Plugin of a type."""
    return COMMON | (LORA if kind == "lora" else OWN[kind] | PARAMETERS)


def plugin_of(kind: str) -> dict[str, Any]:
    retry = {"retry": {"disruption": 3, "infrastructure": 3}}
    if kind == "lora":
        return make_plugin("p", spec=retry | {"script": SCRIPT})
    if kind == "service":
        return make_service_plugin("p", spec=retry)
    container = {"image": "registry.test/p:1", "describe": False, "script": SCRIPT}
    return make_plugin("p", spec=retry | {"type": "container", "lora": None, "container": container})


def with_edit(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Set a field; of two that exclude each other the other goes."""
    edited = copy.deepcopy(spec)
    *parents, last = path.split(".")
    place = edited
    for name in parents:
        place = (
            place.setdefault(name, {}) if place.get(name) is not None else place.__setitem__(name, {}) or place[name]
        )
    place[last] = value
    if path == "parametersSchema.required":
        place["properties"] = {"depth": {"type": "integer"}}
    if path == "script.path":
        del place["configMap"]
    if path.startswith("lora.baseModel"):
        model = edited["lora"]["baseModel"] if "lora" in edited else edited["baseModel"]
        model.setdefault("uri", "pvc://models/tiny-t5")
    if path.startswith("service.serviceRef"):
        edited["service"].pop("url")
        edited["service"]["serviceRef"].setdefault("name", "near")
    if path.startswith("service.caConfigMap"):
        edited["service"]["caConfigMap"] = {"name": "a", "key": "b"} | edited["service"]["caConfigMap"]
    return edited


class Played:
    """A run of a type of plugin, from its acceptance to its end, with attempts that fail."""

    def __init__(self, kind: str) -> None:
        self.world, self.kind = World(), kind
        project = make_project(plugins=["p"], spec={"trainOn": "Manual"})
        self.world.put(plugin_of(kind), project)
        if kind == "service":
            stored = self.world.plugin("p")
            report = {"generation": 1, "time": self.world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
            self.world.kube.put({**stored, "status": {**stored["status"], "report": report}})
        self.world.settle()
        self.world.frame_ready("shop", result=frame())
        self.world.put(make_run(RUN, plugin="p"))
        self._attempt(1)

    def edit_plugin(self, path: str, value: Any) -> None:
        stored = self.world.plugin("p")
        edited = {**stored, "spec": with_edit(stored["spec"], path, value)}
        Plugin.model_validate(edited)
        self.world.put(edited)

    def edit_project(self, path: str, value: Any, *, entry: bool = False) -> None:
        stored = self.world.project("shop")
        spec = copy.deepcopy(stored["spec"])
        if entry:
            spec["plugins"] = [with_edit(each, path, value) for each in spec["plugins"]]
        else:
            spec = with_edit(spec, path, value)
        edited = {**stored, "spec": spec}
        Project.model_validate(edited)
        self.world.put(edited)

    def delete_plugin(self) -> None:
        """Delete the Plugin, and take its entry out of the Project."""
        self.world.kube.put(make_plugin("other"))
        stored = self.world.project("shop")
        entry = {"name": "other", "pluginRef": {"name": "other"}, "enabled": False}
        self.world.kube.objects.pop(("Plugin", "default", "p"))
        self.world.put({**stored, "spec": {**stored["spec"], "plugins": [entry]}})

    def fail(self, number: int) -> None:
        """The attempt fails, and the next one starts."""
        if self.kind == "service":
            self.world.pod_says(RUN, error={"detail": "no GPU is free", "retryable": True})
            self._exchange_ends(number)
        else:
            self.world.job_ends(self.world.attempt(RUN, number), exit_code=137 if number == 1 else 75)
        self._attempt(number + 1)

    def _exchange_ends(self, number: int) -> None:
        """The exchange's Job was deleted: its pod ends."""
        for pod in self.world.pods_of(self.world.attempt(RUN, number)):
            self.world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]), None)
        self.world.settle()

    def _attempt(self, number: int) -> None:
        self.world.pod_starts(self.world.attempt(RUN, number))
        if self.kind == "service":
            self.world.pod_says(RUN, exchange={"podUid": "exchange", "certificate": CERTIFICATE})
        self.world.pod_says(RUN, dataReport={"applicable": True}, trainingStart={})

    def wait(self) -> None:
        """Nothing is heard of the run for a minute."""
        self.world.now += timedelta(seconds=60)
        self.world.pod_says(RUN, progress={"percent": 50})

    def finish(self, number: int) -> dict[str, Any]:
        """The attempt trains to its end; gives all that was made for the run, and how it ended."""
        name = self.world.attempt(RUN, number)
        if self.kind != "lora":
            self.world.pod_says(RUN, modelName={"modelName": "best", "digest": DIGEST})
        if self.kind == "service":
            self._exchange_ends(number)
        else:
            record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=9)
            self.world.job_ends(name, record=record)
        self.world.publish(RUN, eval_loss=0.5 if self.kind == "lora" else None)
        made = {
            f"{stored['kind']} {stored['metadata']['name']}": _content(stored)
            for kind in (JOBS, CONFIG_MAPS)
            for stored in self.world.kube.all(kind)
            if stored["metadata"].get("labels", {}).get(contract.RUN_LABEL) == RUN
        }
        status = self.world.run(RUN)["status"]
        return {**made, "phase": status["phase"], "resolved": status["resolved"], "model": status["model"]}


def _content(stored: dict[str, Any]) -> Any:
    if stored["kind"] == "Job":
        return stored["spec"]
    data = dict(stored["data"])
    if "job.json" in data:
        data["job.json"] = {k: v for k, v in json.loads(data["job.json"]).items() if k != "listedRuns"}
    return data


UNDISTURBED: dict[str, dict[str, Any]] = {}
BEGUN: dict[str, Played] = {}


def begun(kind: str) -> Played:
    """A run of the type whose first attempt trains."""
    if kind not in BEGUN:
        BEGUN[kind] = Played(kind)
    return copy.deepcopy(BEGUN[kind])


def undisturbed(kind: str) -> dict[str, Any]:
    """What a run of the type makes when nobody edits anything."""
    if kind not in UNDISTURBED:
        played = begun(kind)
        played.wait()
        played.fail(1)
        UNDISTURBED[kind] = played.finish(2)
    return UNDISTURBED[kind]


def after(played: Played) -> dict[str, Any]:
    """Play on after an edit, with the Plugin deleted during the second attempt."""
    played.wait()
    played.fail(1)
    played.delete_plugin()
    return played.finish(2)


CASES = [(kind, path) for kind in TYPES for path in sorted(edits_of(kind)) if kind == "lora" or path not in COMMON]


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_an_edit_of_the_plugin_and_its_deletion_change_nothing_of_an_accepted_run(kind: str, path: str) -> None:
    played = begun(kind)
    played.edit_plugin(path, edits_of(kind)[path])
    assert after(played) == undisturbed(kind)


ENTRIES = [(kind, path) for kind in TYPES for path in sorted(ENTRY) if (kind == "lora") or not path.startswith("lora.")]


@pytest.mark.parametrize("kind", ["container", "service"])
def test_edits_of_all_fields_that_every_type_has_change_nothing_of_an_accepted_run(kind: str) -> None:
    played = begun(kind)
    for path, value in COMMON.items():
        played.edit_plugin(path, value)
    assert after(played) == undisturbed(kind)


@pytest.mark.parametrize(("kind", "path"), ENTRIES)
def test_an_edit_of_the_projects_entry_changes_nothing_of_an_accepted_run(kind: str, path: str) -> None:
    played = begun(kind)
    played.edit_project(path, ENTRY[path], entry=True)
    assert after(played) == undisturbed(kind)


@pytest.mark.parametrize("path", sorted(PROJECT))
def test_an_edit_of_the_project_changes_nothing_of_an_accepted_run(path: str) -> None:
    played = begun("lora")
    played.edit_project(path, PROJECT[path])
    assert after(played) == undisturbed("lora")


@pytest.mark.parametrize("kind", TYPES)
def test_a_run_whose_plugin_is_deleted_is_tried_again_as_often_as_before(kind: str) -> None:
    played = begun(kind)
    played.delete_plugin()
    played.fail(1)
    played.fail(2)
    assert played.finish(3)["phase"] == "TRAINED"


def test_an_operator_with_another_trainer_image_goes_on_with_that_of_the_run() -> None:
    played = begun("lora")
    played.world.images = (played.world.images[0], "trainer:2")
    assert after(played) == undisturbed("lora")


@pytest.mark.parametrize("kind", TYPES)
def test_every_field_of_a_plugin_is_edited_here_or_used_by_no_run(kind: str) -> None:
    others = {each for each in TYPES if each != kind}
    own = {path for path in leaves(PluginSpec) if path.partition(".")[0] not in others}
    if kind == "lora":
        own -= set(PARAMETERS)
    else:
        own = {path for path in own if not path.startswith("script.")}
    assert own - set(NO_RUN_USES) == set(edits_of(kind))


def test_every_field_that_the_operator_freezes_is_one_that_is_edited_here() -> None:
    of_plugin = {"pod", "resources", "accelerator", "scratch", "deadlines", "checkpoint", "retry"}
    of_project = {"claim", "oneNode", "jobScratch", "jobResources", "promotion", "objective"}
    assert {field.alias or name for name, field in OperatorConfig.model_fields.items()} == (
        of_plugin | of_project | {"version"}
    )


def test_every_field_of_a_projects_entry_is_edited_here() -> None:
    used = {path for path in leaves(ProjectPlugin) if path != "name"}
    assert used == set(ENTRY)
    assert set(PROJECT) <= set(leaves(ProjectSpec))
