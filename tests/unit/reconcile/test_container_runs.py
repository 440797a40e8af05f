"""A container plugin, from the question what it needs to the model that it leaves, told by what users see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chorus_api.run_config import TerminationRecord
from chorus_protocol.messages import ColumnProfile, FrameManifest
from unit_manifests import container_plugin, plugin, project, run
from world import World, frame, iso, made_once

PENGUINS = frame(columns=("species", "island", "body_mass_g"))
NAMED = TerminationRecord(outcome="succeeded", model_name="classifier")


def penguins(**distinct: int) -> FrameManifest:
    columns = [ColumnProfile(name=name, type="string", distinct=count) for name, count in distinct.items()]
    return PENGUINS.model_copy(update={"columns": columns})


def applied(world: World, **container: Any) -> World:
    world.put(container_plugin(**container), project())
    world.frame_ready(result=PENGUINS)
    return world


@pytest.fixture
@made_once
def world() -> World:
    """A Project whose plugin is a container that needs not be asked: its first run has its Job."""
    return applied(World(), describe=False)


def status(world: World, name: str = "home-soft-1") -> dict[str, Any]:
    return dict(world.run(name)["status"])


def plugin_status(world: World, name: str = "soft") -> dict[str, Any]:
    return dict(world.plugin(name)["status"])


def condition(stored: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in stored["conditions"] if each["type"] == kind)


def container(world: World, job: str = "") -> dict[str, Any]:
    """The main container of a Job, which is that of the first attempt when not named."""
    stored = world.job(job or world.attempt("home-soft-1"))
    assert stored is not None
    return dict(stored["spec"]["template"]["spec"]["containers"][0])


# What becomes of a run


def test_a_container_that_names_its_model_and_leaves_files_is_trained(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.pod_says("home-soft-1", modelName={"modelName": "classifier", "metrics": {"accuracy": "0.97"}})
    world.job_ends(world.attempt("home-soft-1"))
    assert world.jobs("publish") == [world.publication("home-soft-1")]
    world.publish("home-soft-1", eval_loss=None)
    assert world.phase("home-soft-1") == "TRAINED"
    assert status(world)["model"]["metrics"] == {"accuracy": "0.97"}


def test_a_model_named_in_the_last_word_alone_is_named(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), record=NAMED)
    assert world.jobs("publish") == [world.publication("home-soft-1")]


def test_a_container_without_an_artefact_is_trained_without_a_publication() -> None:
    world = applied(World(), describe=False, artefact="None")
    world.pod_trains("home-soft-1")
    world.pod_says("home-soft-1", modelName={"modelName": "registry://42"})
    world.job_ends(world.attempt("home-soft-1"))
    assert world.jobs("publish") == []
    assert world.phase("home-soft-1") == "TRAINED"
    assert status(world)["model"]["name"] == "registry://42"


def test_exit_code_0_without_a_model_name_is_no_success(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"))
    assert (world.phase("home-soft-1"), status(world)["reason"]) == ("failed", "ModelNameMissing")


def test_a_sidecar_that_still_forwards_is_waited_for(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.sidecar_runs(world.attempt("home-soft-1"))
    world.job_ends(world.attempt("home-soft-1"))
    assert world.phase("home-soft-1") == "TRAINING"
    world.pod_says("home-soft-1", modelName={"modelName": "classifier"})
    assert world.jobs("publish") == [world.publication("home-soft-1")]


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_the_sidecar_could_not_deliver_counts_when_the_operator_is_back(world: World, exit_code: int) -> None:
    world.pod_trains("home-soft-1")
    job = world.attempt("home-soft-1")
    said = (
        TerminationRecord(outcome="failed", reason="BadData", message="row 17 has no answer")
        if exit_code
        else TerminationRecord(
            outcome="succeeded", model_name="classifier", digest="sha256:" + "ab" * 32, eval_loss=0.5
        )
    )
    message = said.model_dump_json(by_alias=True, exclude_none=True)
    for pod in world.pods_of(job):
        ended = {"exitCode": 0, "reason": "Completed", "message": message}
        pod["status"]["initContainerStatuses"] = [{"name": "messages", "state": {"terminated": ended}}]
        world.kube.put(pod)
    world.job_ends(job, exit_code=exit_code)
    if exit_code:
        assert (status(world)["reason"], status(world)["message"]) == ("BadData", "row 17 has no answer")
        return
    told = json.loads(world.config_map(world.publication("home-soft-1"))["job.json"])
    assert told["expectedDigest"] == "sha256:" + "ab" * 32
    world.publish("home-soft-1", eval_loss=None)
    assert world.phase("home-soft-1") == "TRAINED"


def test_whoever_reports_progress_alone_trains(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    world.pod_says("home-soft-1", progress={"percent": 5})
    assert world.phase("home-soft-1") == "TRAINING"
    assert condition(status(world), "Applicable")["status"] == "True"


def test_a_container_that_says_no_is_stopped_and_not_applicable(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    world.pod_says("home-soft-1", dataReport={"applicable": False, "reason": "no outcome column"})
    assert world.phase("home-soft-1") == "notApplicable"
    assert status(world)["message"] == "no outcome column"
    assert world.job(world.attempt("home-soft-1")) is None
    assert world.project()["status"]["reason"] == "NoApplicablePlugin"


def test_the_plugins_own_error_is_told_in_place_of_the_exit_code(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.pod_says(
        "home-soft-1", error={"reason": "SolverDiverged", "detail": "the solver diverged", "retryable": False}
    )
    world.job_ends(world.attempt("home-soft-1"), exit_code=1)
    assert (world.phase("home-soft-1"), status(world)["reason"]) == ("failed", "TrainingFailed")
    assert status(world)["message"] == "SolverDiverged: the solver diverged"


def test_an_error_that_may_pass_is_tried_again(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.pod_says("home-soft-1", error={"detail": "the licence server is away", "retryable": True})
    world.job_ends(world.attempt("home-soft-1"), exit_code=1)
    assert world.jobs() == [world.attempt("home-soft-1"), world.attempt("home-soft-1", 2)]
    assert status(world)["attempts"]["infrastructure"] == 1


def test_a_plugin_that_goes_silent_after_its_data_report_ends_with_a_reason(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    world.pod_says("home-soft-1", dataReport={"applicable": True})
    world.later(3601)
    assert (world.phase("home-soft-1"), status(world)["reason"]) == ("failed", "TrainingStartDeadlineExceeded")


def test_a_script_of_another_content_ends_the_run_before_it_is_executed() -> None:
    script = {"configMap": {"name": "code", "key": "train.py"}, "sha256": "ab" * 32}
    world = applied(World(), describe=False, script=script)
    mismatch = TerminationRecord(outcome="failed", reason="ScriptHashMismatch", message="ConfigMap code has another")
    world.init_container_fails(world.attempt("home-soft-1"), "script", exit_code=64, record=mismatch)
    assert (world.phase("home-soft-1"), status(world)["reason"]) == ("failed", "ScriptHashMismatch")
    assert status(world)["failure"]["container"] == "script"
    assert world.jobs() == [world.attempt("home-soft-1")]


# What it needs


def test_distinct_values_are_looked_at_after_columns_and_before_information() -> None:
    world = World()
    needs = {"columns": ["species"], "distinct": {"species": 2}, "info": ["outcome"], "minRows": 1000}
    world.put(container_plugin(describe=False, requires=needs), project())
    for result, reason in (
        (penguins(island=3), "MissingColumns"),
        (penguins(species=1), "TooFewDistinctValues"),
        (penguins(species=3), "MissingInfo"),
    ):
        world.frame_ready(result=result)
        assert world.project()["status"]["plugins"][0]["reason"] == reason
    assert world.runs() == []


def test_an_image_is_asked_once_what_it_needs_and_runs_wait_for_the_answer() -> None:
    world = applied(World())
    [asking] = world.jobs("describe")
    assert container(world, asking)["env"][0] == {"name": "CHORUS_ROLE", "value": "describe"}
    assert world.project()["status"]["plugins"][0]["reason"] == "AwaitingPlugin"
    assert world.runs() == []
    world.plugin_says(needed_columns=["species"], parameters={"epochs": 5})
    assert condition(plugin_status(world), "Ready")["status"] == "True"
    assert world.runs() == ["home-soft-1"]
    assert world.jobs("describe") == [asking]


def test_needs_that_an_image_reported_count_like_those_of_a_manifest() -> None:
    world = applied(World())
    world.plugin_says(needed_columns=["sepal_length"])
    row = world.project()["status"]["plugins"][0]
    assert (row["phase"], row["reason"]) == ("notApplicable", "MissingColumns")


def test_an_image_that_does_not_answer_is_told_with_its_last_words_and_asked_again_after_an_edit() -> None:
    world = applied(World())
    [asking] = world.jobs("describe")
    world.pod_starts(asking)
    world.job_ends(asking, exit_code=2)
    ready = condition(plugin_status(world), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DescribeFailed")
    assert "describe: false" in ready["message"]
    assert world.project()["status"]["plugins"][0]["reason"] == "DescribeFailed"
    world.put(container_plugin(image="registry.test/other:2"))
    assert len(world.jobs("describe")) == 2
    assert world.project()["status"]["plugins"][0]["reason"] == "AwaitingPlugin"


def test_an_image_that_ends_well_without_an_answer_has_not_answered() -> None:
    world = applied(World())
    [asking] = world.jobs("describe")
    world.pod_starts(asking)
    world.job_ends(asking)
    assert "never sent ONLINE_REPORT" in condition(plugin_status(world), "Ready")["message"]


def test_an_image_that_runs_on_when_it_is_asked_is_not_waited_for() -> None:
    world = applied(World())
    [asking] = world.jobs("describe")
    world.pod_starts(asking)
    world.later(121)
    assert condition(plugin_status(world), "Ready")["reason"] == "DescribeFailed"


# Parameters


def test_parameters_are_laid_over_one_another_and_told() -> None:
    world = World()
    schema = {"properties": {name: {"type": "integer", "default": 1} for name in "abcd"}}
    entries = [{"name": "soft", "pluginRef": {"name": "soft"}, "parameters": {"c": 3, "d": 3}}]
    world.put(
        container_plugin(describe=False, parameters={"b": 2, "c": 2}, parametersSchema=schema),
        project(plugins=entries, trainOn="Manual"),
        run("by-hand", parameters={"d": 4}),
    )
    world.frame_ready(result=PENGUINS)
    told = world.config_map(world.frozen("by-hand"))["training_data.json"]
    assert '"parameters":{"a":1,"b":2,"c":3,"d":4}' in told.replace(" ", "").replace("\n", "")
    assert condition(status(world, "by-hand"), "ParametersValid")["status"] == "True"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epocs": 3}, "there is no parameter 'epocs'; did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs is 0: input should be greater than or equal to 1"),
        ({"epochs": "3"}, "epochs is '3': must be an integer, not a string: write it without quotes (3)."),
        ({"epochs": "many"}, "epochs is 'many': input should be a valid integer."),
        ({"solver": "sgd"}, "solver is 'sgd': input should be 'lbfgs' or 'saga'."),
        ({"solver": "sag"}, "solver is 'sag': input should be 'lbfgs' or 'saga'; did you mean 'saga'?"),
        ({"depth": 5}, 'depth is 5: must be a string, not a number: write it in quotes ("5").'),
        ({"target": 2026}, 'target is 2026: must be a string, not a number: write it in quotes ("2026").'),
        ({"folds": "5"}, "folds is '5': must be an integer, not a string: write it without quotes (5)."),
        ({"folds": "7"}, "folds is '7': input should be 5 or 10."),
    ],
)
def test_parameters_that_the_plugin_does_not_take_end_the_run(parameters: dict[str, Any], message: str) -> None:
    schema = {
        "properties": {
            "epochs": {"type": "integer", "minimum": 1, "default": 5},
            "solver": {"type": "string", "enum": ["lbfgs", "saga"], "default": "lbfgs"},
            "depth": {"type": "string", "enum": ["5", "full"], "default": "full"},
            "target": {"type": "string"},
            "folds": {"type": "integer", "enum": [5, 10]},
        }
    }
    world = World()
    world.put(
        container_plugin(describe=False, parametersSchema=schema),
        project(trainOn="Manual"),
        run("by-hand", parameters=parameters),
    )
    world.frame_ready(result=PENGUINS)
    assert (world.phase("by-hand"), status(world, "by-hand")["reason"]) == ("failed", "ParametersInvalid")
    assert message in status(world, "by-hand")["message"]
    assert "TrainingRun 'by-hand', spec.parameters" in status(world, "by-hand")["message"]


def test_a_required_parameter_that_nobody_sets_is_named() -> None:
    schema = {"properties": {"target": {"type": "string"}}, "required": ["target"]}
    world = World()
    world.put(container_plugin(describe=False, parametersSchema=schema), project())
    world.frame_ready(result=PENGUINS)
    assert status(world)["message"] == "spec.parameters: target is required and nobody sets it."


def test_parameters_of_another_type_of_plugin_are_not_ignored() -> None:
    world = World()
    entries = [{"name": "soft", "pluginRef": {"name": "soft"}, "lora": {"epochs": 1}}]
    world.put(container_plugin(describe=False), project(plugins=entries))
    world.frame_ready(result=PENGUINS)
    assert "lora is for type lora" in status(world)["message"]
    world = World()
    entries = [{"name": "soft", "pluginRef": {"name": "soft"}, "parameters": {"epochs": 1}}]
    world.put(plugin(), project(plugins=entries))
    world.frame_ready()
    assert "parameters is for containers" in status(world)["message"]


def test_another_parameter_of_the_project_makes_another_run(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.pod_says("home-soft-1", modelName={"modelName": "classifier"})
    world.job_ends(world.attempt("home-soft-1"))
    world.publish("home-soft-1", eval_loss=None)
    world.put(project(plugins=[{"name": "soft", "pluginRef": {"name": "soft"}, "parameters": {"epochs": 9}}]))
    assert world.runs() == ["home-soft-1", "home-soft-2"]


# Its pod


def test_the_pod_is_told_everything_by_its_environment(world: World) -> None:
    told = {each["name"]: each["value"] for each in container(world)["env"]}
    assert told["CHORUS_ROLE"] == "train"
    assert told["CHORUS_MESSAGES_URL"] == "https://chorus.test:8443/v1/messages"
    assert told["KUBEFLOW_TRAINER_SERVER_URL"] == "https://chorus.test:8443/v1/progress"
    assert told["CHORUS_SUBJECT_UID"] == world.run("home-soft-1")["metadata"]["uid"]
    assert told["CHORUS_OUT_DIR"] == "/chorus/run/out"
    assert "CHORUS_MESSAGES_FILE" not in told


def test_messages_by_file_bring_a_sidecar_that_does_not_keep_the_job() -> None:
    world = applied(World(), describe=False, messages="File")
    stored = world.job(world.attempt("home-soft-1"))
    assert stored is not None
    [sidecar] = stored["spec"]["template"]["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"], sidecar["image"]) == ("messages", "Always", "operator:1")
    assert sidecar["startupProbe"]["exec"]["command"] == ["test", "-e", "/chorus/messages/messages.jsonl.sent"]
    assert "forward.json" in world.config_map(world.frozen("home-soft-1"))


def test_a_frame_in_another_format_is_written_by_an_init_container() -> None:
    world = applied(World(), describe=False, frameFormat="csv")
    stored = world.job(world.attempt("home-soft-1"))
    assert stored is not None
    spec = stored["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["frame"]
    [data] = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["mountPath"] == "/chorus/data"]
    assert (data["name"], data["readOnly"]) == ("frame", True)


def test_every_container_of_the_pod_passes_the_restricted_profile() -> None:
    script = {"configMap": {"name": "code", "key": "train.py"}, "sha256": "ab" * 32}
    world = applied(World(), describe=False, frameFormat="csv", messages="File", script=script)
    stored = world.job(world.attempt("home-soft-1"))
    assert stored is not None
    spec = stored["spec"]["template"]["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    assert [each["name"] for each in containers] == ["frame", "script", "messages", "plugin"]
    for each in containers:
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("options", [{}, {"messages": "File"}, {"frameFormat": "csv"}])
def test_of_the_claim_a_containers_pod_sees_parts_and_can_write_to_its_runs_directory_alone(
    options: dict[str, str],
) -> None:
    """Marks of who owns what, models and other runs' directories are out of its reach."""
    world = applied(World(), describe=False, **options)
    world.frame_ready()
    spec = world.job(world.attempt("home-soft-1"))["spec"]["template"]["spec"]  # type: ignore[index]
    mounts = [
        mount
        for each in [*spec["containers"], *spec.get("initContainers", ())]
        for mount in each["volumeMounts"]
        if mount["name"] == "data"
    ]
    assert all(mount.get("subPath") for mount in mounts)
    assert {mount["subPath"] for mount in mounts if not mount["readOnly"]} == {
        f"runs/{world.run('home-soft-1')['metadata']['uid']}"
    }


def test_the_image_is_frozen_with_the_run(world: World) -> None:
    world.put(container_plugin(describe=False, image="registry.test/other:2"))
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), exit_code=137)
    assert container(world, world.attempt("home-soft-1", 2))["image"] == "registry.test/classifier:1"


def test_an_accelerator_and_threads_are_those_of_the_plugin() -> None:
    world = World()
    gpu = {"resourceName": "nvidia.com/gpu", "count": 1}
    world.put(container_plugin(describe=False, accelerator=gpu, resources={"limits": {"cpu": "3"}}), project())
    world.frame_ready(result=PENGUINS)
    assert container(world)["resources"]["limits"] == {"cpu": "3", "nvidia.com/gpu": "1", "ephemeral-storage": "2Gi"}
    assert {"name": "OMP_NUM_THREADS", "value": "3"} in container(world)["env"]


def test_last_seen_is_the_time_of_the_report() -> None:
    world = applied(World())
    world.plugin_says()
    assert plugin_status(world)["lastSeenTime"] == iso(world.now)


# A LoRA plugin's own script


def lora_with(script: dict[str, Any]) -> World:
    world = World()
    world.put(plugin(script=script | {"sha256": "ab" * 32}), project())
    world.frame_ready()
    return world


def test_a_script_from_a_config_map_is_checked_before_the_trainers_image_starts() -> None:
    world = lora_with({"configMap": {"name": "code", "key": "train.py"}})
    stored = world.job(world.attempt("home-soft-1"))
    assert stored is not None
    spec = stored["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["script"]
    assert spec["containers"][0]["image"] == "trainer:1"
    assert {"name": "CHORUS_OUT_DIR", "value": "/chorus/run/out"} in spec["containers"][0]["env"]
    told = json.loads(world.config_map(world.frozen("home-soft-1"))["run.json"])["script"]
    assert (told["root"], told["path"], told["sha256"]) == ("/chorus/script", "train.py", "ab" * 32)


def test_a_script_in_the_image_is_left_to_the_trainer_to_check() -> None:
    world = lora_with({"path": "own/train.py"})
    stored = world.job(world.attempt("home-soft-1"))
    assert stored is not None
    assert "initContainers" not in stored["spec"]["template"]["spec"]
    told = json.loads(world.config_map(world.frozen("home-soft-1"))["run.json"])["script"]
    assert (told["root"], told["path"]) == ("/opt/chorus/scripts", "own/train.py")


def test_another_script_marks_the_row_outdated() -> None:
    world = lora_with({"path": "own/train.py"})
    world.train_to_the_end("home-soft-1")
    world.put(plugin(script={"path": "own/train.py", "sha256": "cd" * 32}))
    world.later(1)
    assert world.project()["status"]["plugins"][0]["outdated"] is True
