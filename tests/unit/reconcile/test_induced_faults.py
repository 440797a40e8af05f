"""Every fault that was induced on real pods: its class and reason, what kubectl shows of it, and whether it is retried.

Pods, Jobs, Events and claims are written as kubelet, scheduler, Job controller and API server wrote them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from chorus_api.run_config import TerminationRecord
from chorus_kube.errors import Unavailable
from chorus_kube.resources import EVENTS, PODS
from fakes import Call
from kubectl_view import describe, get_row
from pod_faults import (
    container_ends,
    event_about,
    init_container_ends,
    is_disrupted,
    is_evicted,
    is_gone,
    is_told_to_end,
    job_is_judged,
    the_pod,
)
from unit_manifests import container_plugin, plugin, project, run
from world import World

RUN = "home-soft-1"
KINDS = ("lora", "container")
PAUSE = 900
"""Longer than any pause before a retry."""
MAX_SHOWN = 120
DIGEST = "sha256:" + "cd" * 32
SCRIPT = {"configMap": {"name": "plug", "key": "plug.py"}, "sha256": "0" * 64}


# Worlds


def of_kind(kind: str, **spec: Any) -> dict[str, Any]:
    return plugin(**spec) if kind == "lora" else container_plugin(describe=False, **spec)


def accepted(kind: str = "lora", **spec: Any) -> World:
    """A run whose Job is there."""
    world = World()
    world.put(of_kind(kind, **spec), project())
    world.frame_ready()
    return world


@cache
def _training(kind: str) -> World:
    world = accepted(kind)
    world.pod_trains(RUN)
    return world


def training(kind: str = "lora") -> World:
    """A run whose pod trains."""
    return copy.deepcopy(_training(kind))


def preparing(**dataset: Any) -> World:
    """A Project whose data is prepared."""
    world = World()
    world.put(plugin(), project(**({"dataset": dataset} if dataset else {})))
    return world


def job_of(world: World) -> str:
    return world.attempt(RUN)


def judged(world: World) -> World:
    """The Job controller judges the attempt, and the operator looks."""
    job_is_judged(world, job_of(world))
    world.settle()
    return world


def last_word(reason: str, message: str, hint: str = "", *, retryable: bool = False) -> str:
    record = TerminationRecord(outcome="failed", reason=reason, message=message, hint=hint, retryable=retryable)
    return record.model_dump_json(by_alias=True, exclude_none=True)


# What users see


def row(world: World, run: str = RUN) -> dict[str, str]:
    """The row of `kubectl get crun -o wide`."""
    return get_row(world.run(run), wide=True)


def project_row(world: World) -> dict[str, str]:
    return get_row(world.project(), wide=True)


def described(world: World, run: str = RUN) -> str:
    return describe(world.run(run), world.kube.all(EVENTS))


def warnings(world: World, name: str = RUN) -> list[str]:
    """What `kubectl describe` warns of."""
    return [
        f"{event['reason']} {event['message']}"
        for event in world.kube.all(EVENTS)
        if event["involvedObject"]["name"] == name and event["type"] == "Warning"
    ]


def shows(world: World, phase: str, reason: str, cause: str, run: str = RUN) -> None:
    """The cause stands in the columns of `kubectl get -o wide`, where a message is cut, and in `kubectl describe`."""
    seen = row(world, run)
    assert (seen["PHASE"], seen["REASON"]) == (phase, reason)
    assert cause in seen["MESSAGE"]
    assert len(seen["MESSAGE"]) <= MAX_SHOWN
    assert cause in described(world, run)


def is_of_class(world: World, klass: str, reason: str, run: str = RUN) -> None:
    failure = world.run(run)["status"]["failure"]
    assert (failure["class"], failure["reason"]) == (klass, reason)
    assert f"Class: {klass}" in described(world, run)


def is_the_end(world: World, reason: str, cause: str, *, klass: str | None = "user", hint: str | None = None) -> None:
    """The run has failed, everything that users look at says why, and nothing is tried again."""
    shows(world, "failed", reason, cause)
    if klass is not None:
        is_of_class(world, klass, reason)
        assert hint is None or hint in world.run(RUN)["status"]["failure"].get("hint", "")
    assert any(warning.startswith(f"{reason} ") and cause in warning for warning in warnings(world))
    assert project_row(world)["PHASE"] == "failed"
    assert project_row(world)["REASON"] == "PluginFailed"
    assert f"soft: {reason}: " in project_row(world)["MESSAGE"]
    assert cause in project_row(world)["MESSAGE"]
    tried = world.run(RUN)["status"]["attempts"]["current"]
    world.later(PAUSE)
    assert world.run(RUN)["status"]["attempts"]["current"] == tried
    assert world.job(world.attempt(RUN, tried + 1)) is None
    assert row(world)["PHASE"] == "failed"


def is_tried_again(world: World, klass: str, reason: str, cause: str) -> None:
    """The run says why its attempt ended, makes the next one, and ends well without a trace of a failure."""
    assert row(world)["PHASE"] in ("TRAINING", "PREPROCESSING", "queued")
    shows(world, row(world)["PHASE"], "Retrying", cause)
    is_of_class(world, klass, reason)
    assert any(warning.startswith("Retrying ") and cause in warning for warning in warnings(world))
    assert world.run(RUN)["status"]["attempts"][klass] == 1
    goes_on(world, attempt=2)


def goes_on(world: World, *, attempt: int = 1) -> None:
    """The attempt of this number trains to the end."""
    if world.job(world.attempt(RUN, attempt)) is None:
        world.later(PAUSE)
    assert world.jobs()[-1] == world.attempt(RUN, attempt)
    world.pod_trains(RUN)
    world.pod_says(RUN, modelName={"modelName": "best"})
    record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=9)
    world.job_ends(world.attempt(RUN, attempt), record=record)
    world.publish(RUN)
    shows(world, "TRAINED", "Trained", "Model ")
    assert "Failure:" not in described(world)
    assert project_row(world)["PHASE"] == "TRAINED"


# The program, and what it runs in


@pytest.mark.parametrize(("kind", "speaks_of_batch_size"), [("container", False), ("lora", True)])
def test_a_container_over_its_memory_limit_is_told_the_field_and_parameters_that_it_has(
    kind: str, speaks_of_batch_size: bool
) -> None:
    world = training(kind)
    container_ends(world, job_of(world), 137, reason="OOMKilled")
    judged(world)
    is_the_end(world, "OutOfMemory", "The container went over its memory limit", hint="resources.limits.memory")
    assert ("batchSize" in described(world)) is speaks_of_batch_size


TRACEBACK = """step 1 of 100
Traceback (most recent call last):
  File "/chorus/script/plug.py", line 12, in <module>
    raise ValueError("row 17 has no outcome")
ValueError: row 17 has no outcome
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_ends_with_a_traceback_is_told_by_its_exception(kind: str) -> None:
    world = training(kind)
    container_ends(world, job_of(world), 1, log=TRACEBACK)
    judged(world)
    is_the_end(world, "TrainingFailed", "ValueError: row 17 has no outcome", hint="failure.logTail")
    assert 'raise ValueError("row 17' in described(world)


NO_PROGRAM = 'exec: "/no/such/program": stat /no/such/program: no such file or directory'


def cannot_start(world: World, words: str) -> World:
    world.pod_waits(job_of(world), reason="ContainerCreating")
    container_ends(world, job_of(world), 128, reason="StartError", message=words)
    return world


def test_a_command_that_the_image_does_not_have_is_named() -> None:
    world = judged(cannot_start(accepted("container", command=["/no/such/program"]), NO_PROGRAM))
    is_the_end(world, "ContainerConfigError", 'exec: "/no/such/program"', hint="Correct the command")


def test_a_container_that_never_started_has_taken_no_time() -> None:
    """The kubelet writes 1970 for when it started."""
    world = accepted("container", command=["/no/such/program"], deadlines={"activeSeconds": 60})
    cannot_start(world, NO_PROGRAM)
    world.settle()
    assert row(world)["PHASE"] == "queued"
    judged(world)
    assert row(world)["REASON"] == "ContainerConfigError"
    assert "startTime" not in world.run(RUN)["status"]
    assert "PodStarted" not in described(world)


@pytest.mark.parametrize(
    ("error", "reason", "detail", "hint"),
    [
        ("NonFiniteLoss", "NonFiniteLoss", "the loss became nan at step 1", "Lower learningRate"),
        ("BadData", "BadData", "rows.jsonl is damaged", "prepare the data again"),
    ],
)
def test_the_trainers_own_last_word_is_what_users_read(error: str, reason: str, detail: str, hint: str) -> None:
    world = training()
    container_ends(world, job_of(world), 64, message=last_word(error, detail, hint))
    judged(world)
    is_the_end(world, reason, detail, hint=hint)
    assert "exit code" not in row(world)["MESSAGE"]


def test_an_adapter_that_is_worse_than_none_is_said_to_be_so_where_people_look() -> None:
    world = training()
    record = TerminationRecord(
        outcome="succeeded", digest=DIGEST, final_loss=6.364, eval_loss=5.68, eval_loss_without_adapter=4.79, samples=9
    )
    container_ends(world, job_of(world), 0, message=record.model_dump_json(by_alias=True, exclude_none=True))
    judged(world)
    told = json.loads(world.config_map(world.publication(RUN))["job.json"])
    assert told["promote"] is False
    world.pod_starts(world.publication(RUN))
    published = record.model_copy(update={"model_name": told["modelName"], "promoted": False})
    world.job_ends(world.publication(RUN), record=published)
    shows(world, "TRAINED", "Trained", "worse than the base model alone")
    assert any(warning.startswith("WorseThanBaseModel ") for warning in warnings(world))
    assert "Type: Degraded" in described(world)
    assert "Failure:" not in described(world)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_hangs_is_told_with_the_deadline_and_the_end_of_its_log(kind: str) -> None:
    world = accepted(kind, deadlines={"progressSeconds": 20})
    world.pod_trains(RUN)
    world.kube.logs[the_pod(world, job_of(world))["metadata"]["name"]] = "step 12\nwaiting for a lock\n"
    world.later(18)
    assert row(world)["PHASE"] == "TRAINING"
    world.later(3)
    is_the_end(world, "ProgressDeadlineExceeded", "has said nothing for deadlines.progressSeconds (20 s)")
    assert "waiting for a lock" in described(world)
    assert world.jobs() == []


def test_a_run_that_takes_too_long_is_told_with_the_field() -> None:
    world = accepted(deadlines={"activeSeconds": 20})
    world.pod_trains(RUN)
    world.later(21)
    is_the_end(world, "ActiveDeadlineExceeded", "took longer than deadlines.activeSeconds (20 s)")


@pytest.mark.parametrize(
    ("reason", "message", "hint"),
    [
        (
            "ScriptHashMismatch",
            f"ConfigMap plug, key plug.py has the SHA-256 {'99b8' * 16}, not {'0' * 64} as the Plugin says",
            "state its new digest in the Plugin",
        ),
        ("ScriptNotFound", "ConfigMap plug, key nope.py cannot be read: No such file or directory", ""),
    ],
)
def test_a_script_that_is_not_the_one_stated_is_named_with_config_map_and_key(
    reason: str, message: str, hint: str
) -> None:
    world = accepted("container", script=SCRIPT)
    world.pod_waits(job_of(world))
    init_container_ends(world, job_of(world), "script", 64, last_word(reason, message, hint))
    judged(world)
    is_the_end(world, reason, message[:80], hint=hint)
    assert "Container: script" in described(world)


def test_parameters_that_the_plugin_does_not_take_are_named() -> None:
    world = World()
    schema = {"properties": {"epochs": {"type": "integer", "default": 5}}}
    entries = [{"name": "soft", "pluginRef": {"name": "soft"}, "parameters": {"epocs": 3}}]
    world.put(container_plugin(describe=False, parametersSchema=schema), project(plugins=entries))
    world.frame_ready()
    is_the_end(world, "ParametersInvalid", "there is no parameter 'epocs'; did you mean 'epochs'?", klass=None)


def test_parameters_of_another_type_of_plugin_are_named() -> None:
    world = World()
    entries = [{"name": "soft", "pluginRef": {"name": "soft"}, "lora": {"epochs": 1}}]
    world.put(container_plugin(describe=False), project(plugins=entries))
    world.frame_ready()
    is_the_end(world, "ParametersInvalid", "lora is for type lora; use parameters", klass=None)


# Disks and claims

NO_SPACE = "OSError: [Errno 28] No space left on device: '/chorus/run/out/model.bin'"


def test_a_full_claim_under_a_lora_run_is_named_before_each_retry_and_at_the_end() -> None:
    world = training()
    words = "the volume is full: [Errno 28] No space left on device"
    log = "--- Logging error ---\nTraceback (most recent call last):\nOSError: [Errno 28] No space left on device\n"
    for number in range(1, 5):
        if number > 1:
            shows(world, "TRAINING", "Retrying", words)
            is_of_class(world, "infrastructure", "VolumeFull")
            if world.job(world.attempt(RUN, number)) is None:
                world.later(PAUSE)
            world.pod_trains(RUN)
        job = world.attempt(RUN, number)
        container_ends(world, job, 70, message=last_word("VolumeFull", words, "Make room."), log=log)
        job_is_judged(world, job)
        world.settle()
    hint = f"Make room on claim {world.project()['status']['claimName']}, or have it enlarged."
    is_the_end(world, "VolumeFull", words, klass="infrastructure", hint=hint)


def test_a_full_claim_under_a_container_is_told_by_its_exception_and_tried_again() -> None:
    world = training("container")
    log = f"Traceback (most recent call last):\n  File 'plug.py', line 3, in <module>\n{NO_SPACE}\n"
    container_ends(world, job_of(world), 1, log=log)
    judged(world)
    shows(world, "TRAINING", "Retrying", "OSError: [Errno 28] No space left on device")
    is_of_class(world, "infrastructure", "VolumeFull")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_over_its_limit_of_ephemeral_storage_is_not_tried_again_and_names_the_field(kind: str) -> None:
    world = training(kind)
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. "
    is_evicted(world, job_of(world), words)
    judged(world)
    is_the_end(world, "ScratchFull", "Pod ephemeral local storage usage exceeds")
    assert "Raise spec.scratch.size of the Plugin" in described(world)
    assert "resources.limits.ephemeral-storage" in described(world)


def test_a_claim_whose_storage_class_is_missing_is_told_in_its_own_words() -> None:
    world = preparing()
    (prepare,) = world.jobs("prepare")
    unbound = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    world.pod_waits(prepare, unschedulable=unbound)
    claim = world.project()["status"]["claimName"]
    about = {"kind": "PersistentVolumeClaim", "metadata": {"name": claim}}
    cause = 'storageclass.storage.k8s.io "no-such-class" not found'
    event_about(world, about, "ProvisioningFailed", cause)
    world.later(1)
    assert project_row(world)["PHASE"] == "PREPROCESSING"
    assert f"PersistentVolumeClaim {claim}: {cause}" in project_row(world)["MESSAGE"]
    world.later(301)
    project_is_failed(world, "VolumeNotBound", f"PersistentVolumeClaim {claim}: {cause}")


def test_a_claim_that_cannot_be_written_to_is_told_while_it_is_tried_again_and_at_the_end() -> None:
    world = preparing()
    (prepare,) = world.jobs("prepare")
    world.pod_starts(prepare)
    words = "PermissionError: [Errno 13] Permission denied: '/chorus/volume/frames'"
    container_ends(world, prepare, 70, message=last_word("InternalError", words, retryable=True))
    world.settle()
    words = f"Permission denied: 'claim {world.project()['status']['claimName']}: frames'"
    assert project_row(world)["PHASE"] == "PREPROCESSING"
    assert words in project_row(world)["MESSAGE"]
    job_is_judged(world, prepare)
    world.settle()
    project_is_failed(world, "InternalError", words)


# The data


def project_is_failed(world: World, reason: str, cause: str) -> None:
    """The Project says why its data is not there, makes no run, and heals by itself alone."""
    seen = project_row(world)
    assert (seen["PHASE"], seen["REASON"]) == ("failed", reason)
    assert cause in seen["MESSAGE"]
    assert cause in describe(world.project(), world.kube.all(EVENTS))
    assert world.runs() == []


@dataclass(frozen=True)
class Unusable:
    reason: str
    detail: str


DATA = {
    "a file that is not there": Unusable(
        "FileNotFound",
        "the file claim home, path home_request.sqlite does not exist; check the path of spec.dataset.source",
    ),
    "a file that may not be read": Unusable(
        "FileNotFound", "the file claim home, path root-only.csv cannot be read: Permission denied"
    ),
    "a database that was cut off": Unusable(
        "FormatInvalid",
        "claim home, path corrupt.sqlite is truncated: it has 40,000 of 610,304 bytes; copy the whole file again",
    ),
    "a database with damaged pages": Unusable(
        "FormatInvalid",
        "claim home, path bad.sqlite is damaged or truncated: database disk image is malformed; copy the whole file "
        "again; sqlite3 FILE 'PRAGMA integrity_check' says more",
    ),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_used_is_told_with_the_file_and_the_fix(case: str) -> None:
    world = preparing()
    unusable = DATA[case]
    world.frame_failed(reason=unusable.reason, detail=unusable.detail)
    project_is_failed(world, unusable.reason, unusable.detail)


def test_the_secret_of_a_source_that_is_missing_is_named_with_its_field() -> None:
    world = preparing(source={"uri": {"url": "https://data.example/a.csv", "secretRef": {"name": "creds"}}})
    (prepare,) = world.jobs("prepare")
    world.pod_starts(prepare)
    cause = "spec.dataset.source.uri.secretRef: Secret 'creds' is not in this namespace, or is empty"
    fix = "create it with the key token, then have the data prepared again"
    container_ends(world, prepare, 64, message=last_word("SecretNotFound", cause, fix))
    world.settle()
    assert cause in project_row(world)["MESSAGE"]
    job_is_judged(world, prepare)
    world.settle()
    project_is_failed(world, "SecretNotFound", f"{cause}; {fix}")


def test_a_claim_of_the_source_that_is_missing_is_named_at_once() -> None:
    world = preparing(source={"volume": {"claimName": "hom", "path": "a.csv"}}, format="csv")
    project_is_failed(
        world,
        "VolumeNotFound",
        "spec.dataset.source.volume.claimName: there is no PersistentVolumeClaim 'hom' in this namespace; create it.",
    )
    assert world.jobs("prepare") == []


# Nodes and pods that go


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_that_somebody_deletes_saves_its_state_and_the_run_goes_on(kind: str) -> None:
    world = training(kind)
    is_told_to_end(world, job_of(world))
    container_ends(world, job_of(world), 75)
    judged(world)
    is_tried_again(world, "disruption", "Disrupted", "The pod was told to stop, saved its state and can go on.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_that_is_deleted_by_force_is_gone_and_its_job_says_how_it_ended(kind: str) -> None:
    world = training(kind)
    container_ends(world, job_of(world), 75)
    job_is_judged(world, job_of(world))
    is_gone(world, job_of(world))
    world.settle()
    is_tried_again(world, "disruption", "Disrupted", "The pod was told to stop, saved its state and can go on.")


@pytest.mark.parametrize("exit_code", [75, 143, 137, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_an_eviction_is_told_as_such_with_pod_and_node(kind: str, exit_code: int) -> None:
    world = training(kind)
    is_disrupted(world, job_of(world))
    container_ends(world, job_of(world), exit_code)
    judged(world)
    pod = the_pod(world, job_of(world))["metadata"]["name"]
    failure = world.run(RUN)["status"]["failure"]
    assert (failure["pod"], failure["node"], failure["exitCode"]) == (pod, "node-1", exit_code)
    assert all(word in row(world)["MESSAGE"] for word in (pod, "node-1"))
    is_tried_again(world, "disruption", "Disrupted", "Eviction API: evicting")


def test_a_drain_that_takes_the_operator_along_is_told_from_what_the_job_kept() -> None:
    world = training()
    is_disrupted(world, job_of(world))
    container_ends(world, job_of(world), 75)
    job_is_judged(world, job_of(world))
    is_gone(world, job_of(world))
    is_back(world, after=16)
    is_tried_again(world, "disruption", "Disrupted", "was disrupted")
    assert "has condition DisruptionTarget" in str(world.kube.events)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_is_stopped_and_started_again_costs_no_try_of_the_user(kind: str) -> None:
    world = training(kind)
    world.pod_says(RUN, progress={"percent": 50, "checkpointStep": 214})
    world.now += timedelta(seconds=65)
    container_ends(world, job_of(world), 255, reason="Unknown")
    judged(world)
    assert world.run(RUN)["status"]["attempts"]["user"] == 0
    assert world.run(RUN)["status"]["checkpoint"]["step"] == 214
    is_tried_again(world, "disruption", "Disrupted", "Node node-1 was stopped or restarted")


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_and_blames_nobody() -> None:
    """Which checkpoint it goes on from is the trainer's to say."""
    world = training()
    world.pod_says(RUN, progress={"percent": 50, "checkpointStep": 68})
    is_told_to_end(world, job_of(world))
    container_ends(world, job_of(world), 75)
    judged(world)
    assert world.run(RUN)["status"]["checkpoint"]["step"] == 68
    is_tried_again(world, "disruption", "Disrupted", "can go on")


# Pods that do not start


IMAGE = (
    'Back-off pulling image "localhost:5000/none:1": ErrImagePull: rpc error: code = NotFound desc = failed to pull '
    'and unpack image "localhost:5000/none:1": failed to resolve reference "localhost:5000/none:1": '
    "localhost:5000/none:1: not found"
)


def test_an_image_that_does_not_exist_is_named_while_it_is_waited_for_and_at_the_end() -> None:
    world = accepted("container", image="localhost:5000/none:1")
    world.pod_waits(job_of(world), reason="ImagePullBackOff", message=IMAGE)
    shows(world, "queued", "ImagePull", 'Back-off pulling image "localhost:5000/none:1"')
    world.later(301)
    is_the_end(world, "ImagePullFailed", 'Back-off pulling image "localhost:5000/none:1"')


def test_a_pull_secret_that_is_missing_is_named_before_the_registrys_words() -> None:
    world = accepted("container", image="localhost:5000/none:1", pod={"imagePullSecrets": [{"name": "regcred"}]})
    world.pod_waits(job_of(world), reason="ImagePullBackOff", message=IMAGE)
    words = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    event_about(world, the_pod(world, job_of(world)), "FailedToRetrieveImagePullSecret", words)
    world.later(1)
    cause = "spec.pod.imagePullSecrets: there is no Secret regcred in this namespace; create it."
    shows(world, "queued", "ImagePull", cause)
    world.later(301)
    is_the_end(world, "ImagePullFailed", cause)
    assert 'Back-off pulling image "localhost:5000/none:1"' in described(world)


def test_the_secret_of_a_base_model_that_is_missing_is_named_with_its_field() -> None:
    model = {"uri": "hf://google/flan-t5-small", "secretRef": {"name": "hf-token"}}
    world = accepted(lora={"baseModel": model})
    (fetch,) = world.jobs("fetch")
    world.pod_waits(fetch, reason="ContainerCreating")
    assert row(world)["REASON"] == "AwaitingBaseModel"
    event_about(
        world, the_pod(world, fetch), "FailedMount", 'MountVolume.SetUp failed for "hub": secret "hf-token" not found'
    )
    world.later(11)
    cause = "lora.baseModel.secretRef.name: Secret 'hf-token' is not in this namespace; create it."
    shows(world, "queued", "AwaitingBaseModel", cause)
    world.later(61)
    is_the_end(world, "SecretNotFound", cause)


REFUSED = {
    "a quota": ("exceeded quota: q", ", requested: pods=1, used: pods=0, limited: pods=0"),
    "a limit range": ("maximum memory usage per Container is 64Mi", ", but limit is 2Gi"),
}


@pytest.mark.parametrize("who", REFUSED)
def test_whoever_refuses_the_pod_is_told_in_the_api_servers_words(who: str) -> None:
    world = accepted()
    cause, numbers = REFUSED[who]
    job = world.job(job_of(world))
    assert job is not None
    name = f"{job['metadata']['name']}-x7k2p"
    event_about(world, job, "FailedCreate", f'Error creating: pods "{name}" is forbidden: {cause}{numbers}')
    world.later(11)
    shows(world, "queued", "Pending", cause)
    assert numbers in described(world)
    world.later(121)
    is_the_end(world, "JobRejected", cause)
    assert numbers in described(world)
    assert "kubectl describe job" not in described(world)


NO_NODE = {
    "a GPU": "0/2 nodes are available: 1 Insufficient amd.com/gpu, 1 node(s) had untolerated taint(s).",
    "a node selector": "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    "many CPUs": "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).",
}


@pytest.mark.parametrize("what", NO_NODE)
def test_what_no_node_has_is_named_while_it_is_waited_for_and_at_the_end(what: str) -> None:
    world = accepted(deadlines={"startSeconds": 40})
    words = NO_NODE[what]
    world.pod_waits(job_of(world), unschedulable=words)
    shows(world, "queued", "Unschedulable", words)
    world.later(41)
    is_the_end(world, "StartDeadlineExceeded", words.split(",")[0][:60])
    assert f"deadlines.startSeconds (40 s): {words}" in described(world)


# The operator and the API server away


def is_back(world: World, *, after: float) -> None:
    """The operator was away for so long: what happened meanwhile it sees only now."""
    world.now += timedelta(seconds=after)
    world.operator_since = world.now
    world.settle()


def speaks_by_file(world: World) -> None:
    """A container's last message could not be delivered: its sidecar leaves it in the pod's status."""
    record = TerminationRecord(outcome="succeeded", model_name="classifier", digest=DIGEST)
    pod = the_pod(world, job_of(world))
    ended = {
        "exitCode": 0,
        "reason": "Completed",
        "message": record.model_dump_json(by_alias=True, exclude_none=True),
    }
    pod["status"]["initContainerStatuses"] = [{"name": "messages", "state": {"terminated": ended}}]
    world.kube.put(pod)


def test_an_operator_that_is_deleted_while_a_pod_trains_leaves_no_trace() -> None:
    world = training()
    before = row(world)
    is_back(world, after=30)
    assert {**row(world), "AGE": ""} == {**before, "AGE": ""}
    finish(world)


def finish(world: World) -> None:
    """The attempt that trains ends well."""
    record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=9)
    world.job_ends(job_of(world), record=record)
    world.publish(RUN)
    shows(world, "TRAINED", "Trained", "Model ")
    assert row(world)["PROGRESS"] == "100"
    assert warnings(world) == []
    assert "Failure:" not in described(world)


def test_a_run_that_ends_while_the_operator_is_away_ends_well_with_all_its_numbers() -> None:
    world = training()
    record = TerminationRecord(
        outcome="succeeded", digest=DIGEST, final_loss=3.773, eval_loss=0.5, eval_loss_without_adapter=0.9, samples=9
    )
    container_ends(world, job_of(world), 0, message=record.model_dump_json(by_alias=True, exclude_none=True))
    job_is_judged(world, job_of(world))
    is_back(world, after=120)
    told = json.loads(world.config_map(world.publication(RUN))["job.json"])
    world.pod_starts(world.publication(RUN))
    published = record.model_copy(update={"model_name": told["modelName"], "promoted": True, "bytes": 1000})
    world.job_ends(world.publication(RUN), record=published)
    shows(world, "TRAINED", "Trained", "final loss 3.773")
    assert row(world)["LOSS"] == "3.773"
    assert "eval_loss_without_adapter: 0.9" in described(world)


@pytest.mark.parametrize("who", ["the operator", "the API server"])
def test_a_container_that_ends_while_nobody_can_be_told_has_named_its_model(who: str) -> None:
    world = accepted("container", messages="File")
    world.pod_trains(RUN)
    if who == "the API server":
        away_for(world, 60)
    speaks_by_file(world)
    container_ends(world, job_of(world), 0)
    job_is_judged(world, job_of(world))
    is_back(world, after=120) if who == "the operator" else world.settle()
    world.publish(RUN, eval_loss=None)
    shows(world, "TRAINED", "Trained", "Model ")
    assert "ModelNameMissing" not in described(world)
    assert warnings(world) == []


def away_for(world: World, seconds: float) -> None:
    """The API server answers nobody for so long; the operator tries all the while."""

    def no_answer(call: Call) -> None:
        raise Unavailable("the API server did not answer", reason="NoAnswer")

    before = world.kube.before
    world.kube.before = no_answer
    with pytest.raises(AssertionError, match="rest"):
        world.later(seconds)
    world.kube.before = before


def test_a_control_plane_that_stands_still_for_a_minute_changes_nothing_of_a_run() -> None:
    world = training()
    before = row(world)
    away_for(world, 60)
    world.settle()
    assert row(world)["PHASE"] == before["PHASE"] == "TRAINING"
    assert row(world)["MESSAGE"] == before["MESSAGE"]
    finish(world)


def test_a_pod_that_finds_nobody_for_want_of_names_is_waited_for() -> None:
    world = accepted()
    world.pod_starts(job_of(world))
    world.later(47)
    shows(world, "PREPROCESSING", "Started", "has started on node-1")
    world.pod_says(RUN, dataReport={"applicable": True}, trainingStart={})
    finish(world)


def test_an_artefact_that_was_changed_after_the_training_is_not_published() -> None:
    world = training()
    record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, samples=9)
    world.job_ends(job_of(world), record=record)
    publication = world.publication(RUN)
    world.pod_starts(publication)
    cause = "runs/u/out/adapter_model.safetensors is not what SHA256SUMS says"
    fix = "train again: the artefact was changed after the training"
    container_ends(world, publication, 65, message=last_word("DigestMismatch", cause, fix))
    job_is_judged(world, publication)
    world.settle()
    is_the_end(world, "DigestMismatch", cause, hint="train again")
    assert row(world)["MODEL"] == ""


# What users do


def test_a_run_goes_on_when_its_plugin_is_deleted() -> None:
    world = training()
    del world.kube.objects["Plugin", "default", "soft"]
    world.settle()
    assert row(world)["PHASE"] == "TRAINING"
    record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=9)
    world.job_ends(job_of(world), record=record)
    world.publish(RUN)
    shows(world, "TRAINED", "Trained", "Model ")


def test_a_run_whose_project_is_deleted_says_so_and_stops_its_pod() -> None:
    world = by_hand("mine")
    world.pod_trains("mine")
    del world.kube.objects["Project", "default", "home"]
    world.settle()
    cause = "Project 'home', which spec.projectRef.name names, was deleted at"
    shows(world, "failed", "ProjectNotFound", cause, "mine")
    assert any(warning.startswith("ProjectNotFound ") and cause in warning for warning in warnings(world, "mine"))
    assert world.jobs() == []


def by_hand(*names: str, **spec: Any) -> World:
    """A Project whose runs are made by hand, one a second."""
    world = World()
    world.put(plugin(), project(trainOn="Manual", **spec))
    world.frame_ready()
    for name in names:
        world.put(run(name))
        world.later(1)
    return world


def set_run(world: World, **spec: Any) -> None:
    stored = world.run(RUN)
    world.put({**stored, "spec": {**stored["spec"], **spec}})


def test_a_run_that_its_user_suspends_and_resumes_warns_of_nothing() -> None:
    world = training()
    set_run(world, suspend=True)
    container_ends(world, job_of(world), 75)
    judged(world)
    shows(world, "suspended", "Suspended", "spec.suspend of the run is true.")
    set_run(world, suspend=False)
    assert "Failure:" not in described(world)
    assert warnings(world) == []
    goes_on(world, attempt=2)
    assert world.run(RUN)["status"]["attempts"]["disruption"] == 0


def test_a_run_that_its_user_cancels_says_so() -> None:
    world = training()
    set_run(world, cancel=True)
    shows(world, "cancelled", "CancelledByUser", "spec.cancel was set.")
    assert "Failure:" not in described(world)
    assert warnings(world) == []
    world.later(PAUSE)
    assert world.jobs() == []


def test_a_run_that_its_user_deletes_is_gone_with_its_pod() -> None:
    world = by_hand("mine")
    world.pod_trains("mine")
    world.kube._delete(("TrainingRun", "default", "mine"))
    world.settle()
    assert (world.runs(), world.jobs(), world.kube.all(PODS)) == ([], [], [])
    assert warnings(world, "mine") == []


def test_two_runs_of_a_plugin_train_one_after_the_other() -> None:
    world = by_hand("one", "two")
    shows(world, "queued", "Queued", "Waiting for its turn among the runs of plugin 'soft'.", "two")
    world.train_to_the_end("one")
    world.train_to_the_end("two")
    shows(world, "TRAINED", "Trained", "Model ", "two")


def test_a_second_run_of_a_plugin_is_cancelled_where_it_is_forbidden() -> None:
    world = by_hand("one", "two", concurrencyPolicy="Forbid")
    cause = "Run 'one' of this plugin is active and concurrencyPolicy is Forbid."
    shows(world, "cancelled", "ConcurrencyForbidden", cause, "two")
    assert row(world, "one")["PHASE"] == "queued"
    assert "Failure:" not in described(world, "two")


# What was first


Step = Callable[[World, str], None]
FIRST: dict[str, tuple[Sequence[Step], str, str]] = {
    "out of memory, then its pod is deleted": (
        (lambda world, job: container_ends(world, job, 137, reason="OOMKilled"), is_told_to_end),
        "OutOfMemory",
        "The container went over its memory limit",
    ),
    "an error of its own, then its pod is deleted": (
        (lambda world, job: container_ends(world, job, 1, log=TRACEBACK), is_told_to_end),
        "TrainingFailed",
        "ValueError: row 17 has no outcome",
    ),
    "its pod is evicted, then it ends with 143": (
        (is_disrupted, lambda world, job: container_ends(world, job, 143)),
        "Disrupted",
        "Eviction API: evicting",
    ),
    "its pod is deleted, then it ends with 143": (
        (is_told_to_end, lambda world, job: container_ends(world, job, 143)),
        "Disrupted",
        "Somebody deleted pod",
    ),
}


@pytest.mark.parametrize("looks", [True, False], ids=["the operator looks in between", "the operator looks at the end"])
@pytest.mark.parametrize("case", FIRST)
def test_what_was_first_is_what_is_said(case: str, looks: bool) -> None:
    steps, reason, cause = FIRST[case]
    world = training("container")
    for step in (*steps, job_is_judged):
        step(world, job_of(world))
        if looks:
            world.later(1)
    world.settle()
    failure = world.run(RUN)["status"]["failure"]
    assert failure["reason"] == reason
    assert cause in row(world)["MESSAGE"]
