"""A run from its creation to its end, and every way it can go wrong, told by what users see."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chorus_api import contract
from chorus_api.run_config import TerminationRecord
from chorus_kube.errors import Conflict, Unavailable
from chorus_kube.resources import CONFIG_MAPS
from chorus_kube.work_queue import Key
from fakes import Call
from unit_manifests import LORA, plugin, project, run
from world import World, frame, iso, made_once


@pytest.fixture
@made_once
def world() -> World:
    """A Project with one plugin whose frame is ready: its first run has its Job."""
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    return world


def status(world: World, name: str = "home-soft-1") -> dict[str, Any]:
    return dict(world.run(name)["status"])


def test_an_applied_project_ends_with_a_trained_run_and_a_promoted_model(world: World) -> None:
    assert world.jobs() == [world.attempt("home-soft-1")]
    assert world.phase("home-soft-1") == "queued"
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"
    assert world.project()["status"]["phase"] == "TRAINED"
    latest = world.project()["status"]["latestModel"][0]
    assert latest["run"] == "home-soft-1"
    assert latest["value"] == "0.5"
    assert [row["value"] for row in world.project()["status"]["leaderboard"]] == ["0.5"]


def test_the_phases_follow_what_is_observed(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    assert world.phase("home-soft-1") == "PREPROCESSING"
    world.pod_says("home-soft-1", dataReport={"applicable": True})
    assert world.phase("home-soft-1") == "PREPROCESSING"
    world.pod_says("home-soft-1", trainingStart={})
    assert world.phase("home-soft-1") == "TRAINING"
    assert world.project()["status"]["phase"] == "TRAINING"
    world.job_ends(world.attempt("home-soft-1"), record=TerminationRecord(outcome="succeeded", final_loss=0.4))
    assert world.phase("home-soft-1") == "TRAINING"
    assert status(world)["reason"] == "Publishing"
    world.publish("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_trained_run_is_never_touched_again(world: World) -> None:
    world.train_to_the_end("home-soft-1")
    before = world.run("home-soft-1")
    world.later(100_000)
    assert world.run("home-soft-1") == before
    assert world.jobs() == [world.attempt("home-soft-1")]


def test_the_workings_of_a_run_are_frozen_when_it_is_accepted(world: World) -> None:
    resolved = status(world)["resolved"]
    world.put(plugin(lora=LORA | {"epochs": 9}))
    assert status(world)["resolved"] == resolved
    assert world.runs() == ["home-soft-1"], "editing a Plugin starts nothing"
    assert world.project()["status"]["plugins"][0]["outdated"] is True


def test_a_new_frame_or_new_parameters_of_the_project_make_a_new_run(world: World) -> None:
    world.train_to_the_end("home-soft-1")
    changed = project(plugins=[{"name": "soft", "pluginRef": {"name": "soft"}, "lora": {"epochs": 5}}])
    world.put(changed)
    assert world.runs() == ["home-soft-1", "home-soft-2"]
    assert world.jobs() == [world.attempt("home-soft-1"), world.attempt("home-soft-2")]


def test_pc_23_a_run_made_by_hand_gets_the_same_info_as_one_that_chorus_makes() -> None:
    world = World()
    dataset = {"source": {"inline": {"data": "a"}}, "format": "csv", "info": {"outcome": "species"}}
    world.put(plugin(), project(dataset=dataset))
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    world.put(run("by-hand"))
    for name in ("home-soft-1", "by-hand"):
        frozen = world.kube.find(CONFIG_MAPS, world.frozen(name))
        assert frozen is not None
        for file in ("training_data.json", "run.json"):
            assert json.loads(frozen["data"][file])["info"] == {"outcome": "species"}, f"{name}: {file}"


@pytest.mark.parametrize(
    ("exit_code", "terminated", "attempts"),
    [(1, "", 1), (64, "", 1), (65, "", 1), (137, "OOMKilled", 1), (137, "", 4), (70, "", 4), (75, "", 11)],
)
def test_a_failed_attempt_is_tried_again_as_often_as_its_class_allows(
    world: World, exit_code: int, terminated: str, attempts: int
) -> None:
    for attempt in range(1, attempts + 1):
        assert world.phase("home-soft-1") != "failed"
        world.pod_trains("home-soft-1")
        world.job_ends(world.attempt("home-soft-1", attempt), exit_code=exit_code, terminated=terminated)
    assert world.phase("home-soft-1") == "failed"
    assert len(world.jobs()) == attempts
    assert status(world)["failure"]["exitCode"] == exit_code
    assert world.project()["status"]["phase"] == "failed"


def test_a_retry_stays_in_training_and_says_so(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), exit_code=75)
    assert world.phase("home-soft-1") == "TRAINING"
    assert status(world)["reason"] == "Retrying"
    assert status(world)["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 1}
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"
    assert "failure" not in status(world)


@pytest.mark.parametrize(
    ("what", "rule", "klass"),
    [
        ("Pod default/x has condition DisruptionTarget", 0, "disruption"),
        ("Container trainer for pod default/x failed with exit code 75", 1, "disruption"),
        ("Container trainer for pod default/x failed with exit code 70", 5, "infrastructure"),
    ],
)
def test_the_cause_is_known_from_the_job_when_the_pod_is_gone(world: World, what: str, rule: int, klass: str) -> None:
    world.pod_trains("home-soft-1")
    message = f"{what} matching FailJob rule at index {rule}"
    world.job_ends(
        world.attempt("home-soft-1"), exit_code=9, keep_pod=False, job_reason="PodFailurePolicy", job_message=message
    )
    assert status(world)["attempts"][klass] == 1
    assert status(world)["failure"]["class"] == klass


def test_the_pods_own_last_word_is_shown_with_the_fix(world: World) -> None:
    record = TerminationRecord(
        outcome="failed", reason="NonFiniteLoss", message="The loss became NaN at step 7.", hint="Lower learningRate."
    )
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), exit_code=64, record=record)
    assert status(world)["reason"] == "NonFiniteLoss"
    assert status(world)["message"] == "The loss became NaN at step 7."
    assert status(world)["failure"]["hint"] == "Lower learningRate."


def test_a_plugin_that_says_not_applicable_takes_no_part(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    world.pod_says("home-soft-1", dataReport={"applicable": False, "reason": "texts too short"})
    world.job_ends(world.attempt("home-soft-1"), exit_code=69)
    assert world.phase("home-soft-1") == "notApplicable"
    assert world.project()["status"]["phase"] == "failed"
    assert world.project()["status"]["reason"] == "NoApplicablePlugin"


def test_a_job_that_somebody_deletes_is_tried_again_under_a_new_number(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.kube.objects.pop(("Job", "default", world.attempt("home-soft-1")))
    world.settle()
    assert world.jobs() == [], "not while the pod of the deleted Job still writes"
    for pod in [key for key in world.kube.objects if key[0] == "Pod" and world.attempt("home-soft-1") in key[2]]:
        world.kube.objects.pop(pod)
    world.settle()
    assert world.jobs() == [world.attempt("home-soft-1", 2)]
    assert status(world)["attempts"]["infrastructure"] == 1


def test_exit_0_without_a_published_model_is_not_success(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"))
    world.pod_starts(world.publication("home-soft-1"))
    record = TerminationRecord(outcome="failed", reason="DigestMismatch", message="out/a differs from SHA256SUMS.")
    world.job_ends(world.publication("home-soft-1"), exit_code=65, record=record)
    assert world.phase("home-soft-1") == "failed"
    assert status(world)["reason"] == "DigestMismatch"


def test_a_publish_job_whose_last_word_is_lost_is_asked_again(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), record=TerminationRecord(outcome="succeeded", final_loss=0.4))
    world.pod_starts(world.publication("home-soft-1"))
    world.job_ends(world.publication("home-soft-1"), keep_pod=False)
    assert world.phase("home-soft-1") == "TRAINING"
    world.publish("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_cancelled_run_stops_its_pod_and_stays_cancelled(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.put(run("home-soft-1", cancel=True) | {"spec": world.run("home-soft-1")["spec"] | {"cancel": True}})
    assert world.jobs() == []
    assert world.phase("home-soft-1") == "cancelled"
    assert world.project()["status"]["phase"] == "failed"


def test_a_run_is_cancelled_only_when_its_pod_has_stopped_though_its_job_is_gone(world: World) -> None:
    world.pod_trains("home-soft-1")
    pod = world.pods_of(world.attempt("home-soft-1"))[0]
    pod["metadata"]["finalizers"] = ["tests/saving"]
    world.kube.put(pod)
    world.put(run("home-soft-1", cancel=True) | {"spec": world.run("home-soft-1")["spec"] | {"cancel": True}})
    assert world.jobs() == []
    assert world.phase("home-soft-1") == "TRAINING"
    assert "the pods are being stopped" in str(status(world)["conditions"])
    world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.settle()
    assert world.phase("home-soft-1") == "cancelled"


def test_a_suspended_run_has_no_pod_and_goes_on_with_the_same_attempt(world: World) -> None:
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    assert job["spec"]["suspend"] is True
    assert world.phase("home-soft-1") == "TRAINING", "suspended only once no pod is left"
    for pod in [key for key in world.kube.objects if key[0] == "Pod"]:
        world.kube.objects.pop(pod)
    world.settle()
    assert world.phase("home-soft-1") == "suspended"
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": False}})
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    assert job["spec"]["suspend"] is False
    world.train_to_the_end("home-soft-1")
    assert status(world)["attempts"]["current"] == 1


@pytest.mark.parametrize("other", [False, True], ids=["that has ended meanwhile", "of the name that came meanwhile"])
def test_a_job_is_suspended_only_as_it_was_seen(world: World, other: bool) -> None:
    world.pod_trains("home-soft-1")
    name = world.attempt("home-soft-1")
    seen: list[bool] = []

    def meanwhile(call: Call) -> None:
        if call.verb != "patch" or seen:
            return
        job = world.job(name)
        assert job is not None
        seen.append(True)
        if other:
            job["metadata"] = {"name": name, "namespace": "default", "uid": "another"}
        world.kube.put(job | {"status": {"active": 0}})

    world.kube.before = meanwhile
    spec = world.run("home-soft-1")["spec"]
    world.kube.put(world.run("home-soft-1") | {"spec": spec | {"suspend": True}})
    with pytest.raises(Conflict):
        asyncio.run(world.look(Key("TrainingRun", "default", "home-soft-1", "home")))
    job = world.job(name)
    assert job is not None
    assert not job["spec"].get("suspend")
    assert contract.SUSPENDED_ANNOTATION not in job["metadata"].get("annotations", {})


def test_a_job_that_failed_because_it_was_suspended_counts_against_nothing(world: World) -> None:
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    world.job_ends(world.attempt("home-soft-1"), exit_code=75)
    assert world.phase("home-soft-1") == "suspended"
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": False}})
    assert status(world)["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 0}


def test_a_resumed_run_warns_of_nothing_since_its_user_stopped_it(world: World) -> None:
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    world.job_ends(world.attempt("home-soft-1"), exit_code=75)
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": False}})
    assert "failure" not in status(world)
    assert "Retrying" not in {condition["type"] for condition in status(world)["conditions"]}
    assert "Retrying" not in {reason for _, reason, _ in world.kube.events}


def test_a_run_is_suspended_only_once_its_job_has_taken_note_of_how_the_pod_ended(world: World) -> None:
    """The Job may still fail for it: resumed before, that would look like a new disruption."""
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    (pod,) = world.pods_of(world.attempt("home-soft-1"))
    pod["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]
    pod["status"]["phase"] = "Failed"
    world.put(pod)
    assert world.phase("home-soft-1") == "TRAINING"
    del pod["metadata"]["finalizers"]
    world.put(pod)
    assert world.phase("home-soft-1") == "suspended"


@pytest.mark.parametrize(("stopped", "counted"), [("True", 0), ("False", 1)])
def test_a_job_that_fails_after_the_run_was_resumed_for_the_pod_that_was_stopped_counts_against_nothing(
    world: World, stopped: str, counted: int
) -> None:
    """The Job controller may see the stopped pod late. It has not gone on then: the Job calls itself suspended."""
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    (pod,) = world.pods_of(world.attempt("home-soft-1"))
    pod["status"]["phase"] = "Failed"
    world.put(pod)
    assert world.phase("home-soft-1") == "suspended"
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": False}})
    assert world.phase("home-soft-1") != "suspended"
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    job["status"] = {"conditions": [{"type": "Suspended", "status": stopped}]}
    world.kube.put(job)
    world.job_ends(world.attempt("home-soft-1"), exit_code=75)
    assert status(world)["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": counted}


def test_the_last_word_of_a_stopped_pod_tells_its_checkpoint(world: World) -> None:
    world.pod_trains("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    saved = TerminationRecord(outcome="preempted", retryable=True, message="Stopped by SIGTERM.", step=7)
    world.job_ends(world.attempt("home-soft-1"), exit_code=75, record=saved)
    assert world.phase("home-soft-1") == "suspended"
    assert status(world)["checkpoint"]["step"] == 7


def set_suspend(world: World, job: str, suspend: bool) -> None:
    """Somebody else suspends a Job, or lets it go on."""
    stored = world.job(job)
    assert stored is not None
    condition = {"type": "Suspended", "status": str(suspend), "lastTransitionTime": iso(world.now)}
    world.kube.put({**stored, "spec": {**stored["spec"], "suspend": suspend}, "status": {"conditions": [condition]}})
    world.settle()


def test_a_job_that_a_queue_or_a_person_suspends_is_left_suspended_and_its_run_is_queued() -> None:
    world = World()
    world.put(plugin(pod={"queueName": "gpus"}), project())
    world.frame_ready()
    job = world.attempt("home-soft-1")
    stored = world.job(job)
    assert stored is not None
    assert stored["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in stored["spec"]["template"]["metadata"]["labels"]
    set_suspend(world, job, True)
    world.later(100_000)
    left = world.job(job)
    assert left is not None
    assert left["spec"]["suspend"] is True
    assert (status(world)["phase"], status(world)["reason"]) == ("queued", "JobSuspended")
    set_suspend(world, job, False)
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_job_that_is_suspended_while_it_trains_goes_on_later_and_is_charged_nothing(world: World) -> None:
    world.pod_trains("home-soft-1")
    job = world.attempt("home-soft-1")
    set_suspend(world, job, True)
    for key in [key for key in world.kube.objects if key[0] == "Pod"]:
        world.kube.objects.pop(key)
    world.later(10_000)
    assert world.phase("home-soft-1") == "queued"
    set_suspend(world, job, False)
    world.train_to_the_end("home-soft-1")
    assert (world.phase("home-soft-1"), status(world)["attempts"]["current"]) == ("TRAINED", 1)


def test_a_busy_cluster_and_a_broken_image_do_not_look_alike(world: World) -> None:
    world.pod_waits(
        world.attempt("home-soft-1"), unschedulable="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    )
    world.later(3600)
    assert world.phase("home-soft-1") == "queued"
    assert status(world)["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in status(world)["message"]


def test_a_fault_that_comes_late_is_borne_as_long_as_one_that_comes_at_once(world: World) -> None:
    pod = world.pod_waits(world.attempt("home-soft-1"))
    world.later(600)  # a large image is pulled
    world.pod_waits_now(pod, reason="CreateContainerConfigError", message="failed to create subPath directory")
    world.later(100)
    assert world.phase("home-soft-1") == "queued"
    world.later(21)
    assert (world.phase("home-soft-1"), status(world)["reason"]) == ("failed", "ContainerConfigError")


def test_a_fault_that_passes_is_forgotten(world: World) -> None:
    pod = world.pod_waits(world.attempt("home-soft-1"))
    world.pod_waits_now(pod, reason="CreateContainerError", message="context deadline exceeded")
    world.later(100)
    world.pod_waits_now(pod)
    world.later(600)
    world.pod_waits_now(pod, reason="CreateContainerError", message="context deadline exceeded")
    world.later(100)
    assert world.phase("home-soft-1") == "queued"


def test_an_image_that_cannot_be_pulled_ends_the_run_after_its_own_grace(world: World) -> None:
    world.pod_waits(world.attempt("home-soft-1"), reason="ImagePullBackOff", message="trainer:1: not found")
    assert status(world)["reason"] == "ImagePull"
    world.later(301)
    assert world.phase("home-soft-1") == "failed"
    assert status(world)["reason"] == "ImagePullFailed"
    assert "not found" in status(world)["message"]


@pytest.mark.parametrize(
    ("deadlines", "seconds", "starts", "reports", "reason"),
    [
        ({"startSeconds": 100}, 101, False, False, "StartDeadlineExceeded"),
        ({"dataReportSeconds": 100}, 101, True, False, "DataReportDeadlineExceeded"),
        ({"progressSeconds": 100}, 101, True, True, "ProgressDeadlineExceeded"),
        ({"activeSeconds": 100}, 101, True, True, "ActiveDeadlineExceeded"),
    ],
)
def test_every_wait_has_a_deadline_that_names_what_did_not_come(
    deadlines: dict[str, int], seconds: int, starts: bool, reports: bool, reason: str
) -> None:
    world = World()
    world.put(plugin(deadlines=deadlines), project())
    world.frame_ready()
    if not starts:
        world.pod_waits(world.attempt("home-soft-1"), unschedulable="no node")
    else:
        world.pod_starts(world.attempt("home-soft-1"))
    if reports:
        world.pod_says("home-soft-1", dataReport={"applicable": True}, trainingStart={})
    world.later(seconds - 2)
    assert world.phase("home-soft-1") != "failed"
    world.later(3)
    assert world.phase("home-soft-1") == "failed"
    assert status(world)["reason"] == reason
    assert next(iter(deadlines)) in status(world)["message"]
    assert world.jobs() == []


def test_the_log_of_a_hung_program_is_kept_before_its_pod_goes(world: World) -> None:
    world.pod_trains("home-soft-1")
    (pod,) = world.pods_of(world.attempt("home-soft-1"))
    world.kube.logs[pod["metadata"]["name"]] = "step 12\nwaiting for a lock\n"
    world.later(1801)
    assert status(world)["reason"] == "ProgressDeadlineExceeded"
    assert status(world)["failure"]["logTail"].endswith("waiting for a lock\n")
    assert world.job(world.attempt("home-soft-1")) is None


@pytest.mark.parametrize(("without", "worse"), [(0.4, True), (0.5, False), (0.6, False)])
def test_an_adapter_that_is_worse_than_none_is_trained_degraded_and_not_promoted(
    world: World, without: float, worse: bool
) -> None:
    world.pod_trains("home-soft-1")
    record = TerminationRecord(
        outcome="succeeded",
        digest="sha256:" + "cd" * 32,
        final_loss=0.4,
        eval_loss=0.5,
        eval_loss_without_adapter=without,
    )
    world.job_ends(world.attempt("home-soft-1"), record=record)
    told = json.loads(world.config_map(world.publication("home-soft-1"))["job.json"])
    assert told["promote"] is not worse
    world.pod_starts(world.publication("home-soft-1"))
    published = record.model_copy(update={"model_name": told["modelName"], "promoted": told["promote"]})
    world.job_ends(world.publication("home-soft-1"), record=published)
    assert world.phase("home-soft-1") == "TRAINED"
    degraded = {c["reason"] for c in status(world)["conditions"] if c["type"] == "Degraded" and c["status"] == "True"}
    assert degraded == ({"WorseThanBaseModel"} if worse else set())
    assert ("worse than the base model alone" in status(world)["message"]) is worse
    assert status(world)["model"]["metrics"]["eval_loss_without_adapter"] == f"{without:.6g}"


def test_silence_while_the_operator_was_away_is_not_held_against_the_pod(world: World) -> None:
    world.pod_trains("home-soft-1")
    world.now = world.now.replace(year=world.now.year + 1)
    world.operator_since = world.now
    world.settle()
    assert world.phase("home-soft-1") == "TRAINING"


@pytest.mark.parametrize(
    ("spec", "reason", "named"),
    [
        ({"projectRef": {"name": "none"}}, "ProjectNotFound", "none"),
        ({"plugin": "other"}, "PluginNotListed", "other"),
        ({"resumeFrom": {"run": "older"}}, "ResumeRunNotFound", "older"),
    ],
)
def test_a_reference_to_nothing_ends_with_a_reason_that_names_it(spec: dict[str, Any], reason: str, named: str) -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("mine") | {"spec": {"projectRef": {"name": "home"}, "plugin": "soft"} | spec})
    world.later(61)
    assert world.phase("mine") == "failed"
    assert status(world, "mine")["reason"] == reason
    assert named in status(world, "mine")["message"]


def test_a_run_may_be_applied_before_its_project() -> None:
    world = World()
    world.put(run("mine"))
    assert status(world, "mine")["reason"] == "ProjectNotFound"
    assert world.phase("mine") == "queued"
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    assert world.jobs() == [world.attempt("mine")]


def test_a_plugin_without_a_base_model_fails_with_the_field_to_set() -> None:
    world = World()
    world.put(plugin(lora={}), project())
    world.frame_ready()
    assert world.phase("home-soft-1") == "failed"
    assert "spec.lora.baseModel.uri" in status(world)["message"]


def test_a_hub_model_is_fetched_once_before_a_gpu_is_asked_for() -> None:
    world = World()
    world.put(plugin(lora={"baseModel": {"uri": "hf://google/flan-t5-small"}}), project())
    world.frame_ready()
    fetch = world.jobs("fetch")
    assert len(fetch) == 1
    assert world.jobs() == []
    assert status(world)["reason"] == "AwaitingBaseModel"
    world.pod_starts(fetch[0])
    world.job_ends(fetch[0], record=TerminationRecord(outcome="succeeded"))
    assert world.jobs() == [world.attempt("home-soft-1")]


def test_a_hub_model_that_does_not_exist_fails_the_run_by_name() -> None:
    world = World()
    world.put(plugin(lora={"baseModel": {"uri": "hf://no/such"}}), project())
    world.frame_ready()
    fetch = world.jobs("fetch")[0]
    world.pod_starts(fetch)
    record = TerminationRecord(outcome="failed", reason="BaseModelNotFound", message="The hub has no model no/such.")
    world.job_ends(fetch, exit_code=64, record=record)
    assert world.phase("home-soft-1") == "failed"
    assert status(world)["reason"] == "BaseModelNotFound"
    assert "no/such" in status(world)["message"]


def test_a_base_model_that_the_pod_cannot_load_is_named_as_the_user_did(world: World) -> None:
    world.pod_starts(world.attempt("home-soft-1"))
    record = TerminationRecord(outcome="failed", reason="BaseModelNotFound", message="no base model at /chorus/base")
    world.job_ends(world.attempt("home-soft-1"), exit_code=64, record=record)
    uri = plugin()["spec"]["lora"]["baseModel"]["uri"]
    assert status(world)["message"] == f"lora.baseModel.uri {uri}: no base model at /chorus/base"


def test_a_run_is_deleted_so_long_after_its_end_as_it_asks() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready(result=frame())
    world.put(run("mine", ttlSecondsAfterFinished=60))
    world.train_to_the_end("mine")
    world.later(59)
    assert world.runs() == ["mine"]
    world.later(2)
    assert world.runs() == []


def test_the_log_of_a_failed_pod_is_kept_in_status(world: World) -> None:
    world.pod_trains("home-soft-1")
    pod = world.pods_of(world.attempt("home-soft-1"))[0]["metadata"]["name"]
    world.kube.logs[pod] = "step 1\nValueError: bad\n"
    world.job_ends(world.attempt("home-soft-1"), exit_code=1)
    assert "ValueError: bad" in status(world)["failure"]["logTail"]


def test_a_base_model_on_a_claim_that_is_not_there_fails_by_name_but_may_come_late() -> None:
    world = World(claims=())
    world.put(plugin(), project())
    world.frame_ready()
    assert status(world)["reason"] == "AwaitingBaseModel"
    assert world.jobs() == []
    world.later(61)
    assert world.phase("home-soft-1") == "failed"
    assert status(world)["reason"] == "BaseModelNotFound"
    assert "PersistentVolumeClaim 'models'" in status(world)["message"]


def test_a_job_that_chorus_suspended_is_resumed_also_when_it_could_not_write_so(world: World) -> None:
    world.pod_trains("home-soft-1")
    job = world.attempt("home-soft-1")
    spec = world.run("home-soft-1")["spec"]
    world.kube.before = lambda call: _away(call, "patch_status", "TrainingRun")
    stored = world.run("home-soft-1")
    world.kube.put({**stored, "spec": spec | {"suspend": True}})
    with pytest.raises(AssertionError, match="rest"):
        world.settle()
    world.kube.before = lambda call: None
    left = world.job(job)
    assert left is not None
    assert left["spec"]["suspend"] is True
    stored = world.run("home-soft-1")
    world.kube.put({**stored, "spec": spec | {"suspend": False}})
    world.settle()
    resumed = world.job(job)
    assert resumed is not None
    assert resumed["spec"]["suspend"] is False


def _away(call: Call, verb: str, kind: str) -> None:
    if (call.verb, call.kind) == (verb, kind):
        raise Unavailable("away", reason="NoAnswer")


def test_a_job_that_a_queue_holds_stays_suspended_when_its_run_is_suspended_and_resumed() -> None:
    world = World()
    world.put(plugin(pod={"queueName": "gpus"}), project())
    world.frame_ready()
    job = world.attempt("home-soft-1")
    set_suspend(world, job, True)
    spec = world.run("home-soft-1")["spec"]
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": True}})
    world.put(run("home-soft-1") | {"spec": spec | {"suspend": False}})
    left = world.job(job)
    assert left is not None
    assert left["spec"]["suspend"] is True
    assert status(world)["reason"] == "JobSuspended"


@pytest.mark.parametrize("record", [{"step": 10**30}, {"modelName": "x" * 300}, {"bytes": -1}])
def test_a_last_word_with_values_that_no_status_can_hold_is_none(world: World, record: dict[str, Any]) -> None:
    world.pod_trains("home-soft-1")
    job = world.attempt("home-soft-1")
    for pod in world.pods_of(job):
        pod["status"]["phase"] = "Failed"
        said = json.dumps({"outcome": "preempted", **record})
        ended = {"exitCode": 75, "reason": "Error", "message": said, "startedAt": iso(world.now)}
        pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"terminated": ended}}]
        world.kube.put(pod)
    stored = world.job(job)
    assert stored is not None
    world.kube.put(
        {**stored, "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}}
    )
    world.settle()
    assert status(world)["attempts"]["current"] == 2
    assert "checkpoint" not in status(world)


@pytest.mark.parametrize("how", ["cancel", "suspend"])
def test_a_next_attempt_that_could_not_be_written_down_stops_with_its_run(world: World, how: str) -> None:
    world.waits_out_pauses = False
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), exit_code=137)
    world.kube.before = lambda call: _away(call, "patch_status", "TrainingRun")
    with pytest.raises(AssertionError, match="rest"):
        world.later(60)
    second = world.attempt("home-soft-1", 2)
    assert world.job(second) is not None
    world.kube.before = lambda call: None
    stored = world.run("home-soft-1")
    world.kube.put({**stored, "spec": {**stored["spec"], how: True}})
    world.settle()
    left = world.job(second)
    if how == "cancel":
        assert (left, world.phase("home-soft-1")) == (None, "cancelled")
        return
    assert left is not None
    assert (left["spec"]["suspend"], world.phase("home-soft-1")) == (True, "suspended")
    world.kube.put({**world.run("home-soft-1"), "spec": stored["spec"]})
    world.settle()
    assert status(world)["attempts"]["current"] == 2
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"
