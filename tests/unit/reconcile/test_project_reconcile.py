"""A Project from the first look to its end; each way in which the workflow's original got stuck is a test here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import CLAIMS, PODS
from unit_manifests import plugin, project, run
from world import World, frame


def two_plugins(**second: Any) -> list[dict[str, Any]]:
    return [
        {"name": "a", "pluginRef": {"name": "soft"}},
        {"name": "b", "pluginRef": {"name": "soft"}} | second,
    ]


def shown(world: World) -> tuple[str, str]:
    status = world.project()["status"]
    return status["phase"], status["reason"]


def row(world: World, name: str) -> dict[str, Any]:
    return next(row for row in world.project()["status"]["plugins"] if row["name"] == name)


def test_a_new_project_prepares_its_frame_once() -> None:
    world = World()
    world.put(plugin(), project())
    assert shown(world) == ("PREPROCESSING", "Preparing")
    assert len(world.jobs("prepare")) == 1
    world.frame_ready()
    assert world.project()["status"]["dataset"]["rows"] == 100
    assert len(world.jobs("prepare")) == 1


def test_the_prepare_job_asks_for_no_gpu_but_goes_where_the_plugins_go() -> None:
    world = World()
    gpu = {"resourceName": "nvidia.com/gpu", "count": 1}
    world.put(plugin(accelerator=gpu, pod={"nodeSelector": {"gpu": "yes"}}), project())
    job = world.job(world.jobs("prepare")[0])
    assert job is not None
    pod = job["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in str(pod["containers"][0]["resources"])
    assert pod["nodeSelector"] == {"gpu": "yes"}


def test_asking_for_another_look_prepares_again_and_equal_content_starts_nothing() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    stored = world.project()
    stored["metadata"]["annotations"] = {"chorus.dev/prepare": "again"}
    world.kube.put(stored)
    world.settle()
    assert len(world.jobs("prepare")) == 2
    world.frame_ready()
    assert world.runs() == ["home-soft-1"]
    assert shown(world)[0] == "TRAINED"


def test_project_is_training_only_when_all_plugins_are_and_trained_only_when_all_are() -> None:
    world = World()
    world.put(plugin(), project(plugins=two_plugins()))
    world.frame_ready()
    world.pod_trains("home-a-1")
    assert shown(world)[0] == "PREPROCESSING"
    world.pod_trains("home-b-1")
    assert shown(world)[0] == "TRAINING"
    world.job_ends(world.attempt("home-a-1"), record=TerminationRecord(outcome="succeeded", final_loss=0.1))
    world.publish("home-a-1")
    assert shown(world)[0] == "TRAINING"
    world.job_ends(world.attempt("home-b-1"), record=TerminationRecord(outcome="succeeded", final_loss=0.1))
    world.publish("home-b-1")
    assert shown(world)[0] == "TRAINED"


def test_pc_1_a_plugin_that_drops_out_last_does_not_leave_the_project_training() -> None:
    world = World()
    world.put(plugin(), project(plugins=two_plugins()))
    world.frame_ready()
    world.train_to_the_end("home-a-1")
    world.pod_starts(world.attempt("home-b-1"))
    world.pod_says("home-b-1", dataReport={"applicable": False, "reason": "no"})
    world.job_ends(world.attempt("home-b-1"), exit_code=69)
    assert shown(world)[0] == "TRAINED"
    assert row(world, "b")["phase"] == "notApplicable"


def test_pc_2_a_project_whose_plugin_is_missing_says_so_and_heals_when_it_comes() -> None:
    world = World()
    world.put(project())
    world.frame_ready()
    assert shown(world) == ("failed", "PluginFailed")
    assert "pluginRef.name: there is no Plugin 'soft'" in world.project()["status"]["message"]
    world.put(plugin())
    assert world.jobs() == [world.attempt("home-soft-1")]
    assert shown(world)[0] == "PREPROCESSING"


def test_pc_4_a_bad_frame_fails_the_project_with_its_reason() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_failed(
        reason="ColumnNotFound", detail="spec.dataset.fields.prompt.column: no column 'x'; there are a, b."
    )
    assert shown(world) == ("failed", "ColumnNotFound")
    assert "no column 'x'" in world.project()["status"]["message"]


def test_pc_4_a_prepare_job_that_dies_silently_fails_the_project() -> None:
    world = World()
    world.put(plugin(), project())
    job = world.jobs("prepare")[0]
    world.pod_starts(job)
    world.job_ends(job, exit_code=137, terminated="OOMKilled")
    assert shown(world) == ("failed", "OutOfMemory")


def test_pc_5_a_plugin_once_not_applicable_comes_back_when_the_frame_suits_it() -> None:
    world = World()
    needy = plugin(requires={"columns": ["prompt", "response", "room"]})
    world.put(needy, project())
    world.frame_ready()
    assert shown(world) == ("failed", "NoApplicablePlugin")
    assert row(world, "soft")["reason"] == "MissingColumns"
    stored = world.project()
    stored["metadata"]["annotations"] = {"chorus.dev/prepare": "again"}
    world.kube.put(stored)
    world.frame_ready(result=frame("df-ffffffffffff", columns=("prompt", "response", "room")))
    assert world.jobs() == [world.attempt("home-soft-1")]


def test_pc_6_a_new_run_does_not_fall_back_because_of_messages_of_the_old_one() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains("home-soft-1")
    world.job_ends(world.attempt("home-soft-1"), exit_code=75)
    world.pod_starts(world.attempt("home-soft-1", 2))
    world.pod_says("home-soft-1", dataReport={"applicable": True})
    assert world.phase("home-soft-1") == "TRAINING"


def test_pc_8_no_stale_error_after_recovery() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("first"))
    world.pod_trains("first")
    world.job_ends(world.attempt("first"), exit_code=1)
    assert shown(world)[0] == "failed"
    world.now = world.now.replace(hour=13)
    world.put(run("second"))
    world.train_to_the_end("second")
    assert shown(world)[0] == "TRAINED"
    assert row(world, "soft")["reason"] == "Trained"


def test_an_optional_plugin_that_fails_degrades_and_does_not_fail() -> None:
    world = World()
    world.put(plugin(), project(plugins=two_plugins(optional=True)))
    world.frame_ready()
    world.pod_trains("home-b-1")
    world.job_ends(world.attempt("home-b-1"), exit_code=1)
    world.train_to_the_end("home-a-1")
    assert shown(world)[0] == "TRAINED"
    degraded = next(c for c in world.project()["status"]["conditions"] if c["type"] == "Degraded")
    assert degraded["status"] == "True"


def test_a_disabled_plugin_gets_no_run_and_takes_no_part() -> None:
    world = World()
    world.put(plugin(), project(plugins=two_plugins(enabled=False)))
    world.frame_ready()
    assert world.runs() == ["home-a-1"]
    world.train_to_the_end("home-a-1")
    assert shown(world)[0] == "TRAINED"


def test_manual_waits_for_a_run_that_somebody_makes() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    assert shown(world) == ("queued", "AwaitingTrigger")
    world.put(run("by-hand"))
    world.train_to_the_end("by-hand")
    assert shown(world)[0] == "TRAINED"


def test_queue_lets_the_next_run_go_when_the_first_has_ended() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run("one"))
    world.later(1)
    world.put(run("two"))
    assert world.jobs() == [world.attempt("one")]
    assert world.phase("two") == "queued"
    world.train_to_the_end("one")
    assert world.jobs() == [world.attempt("one"), world.attempt("two")]


def test_forbid_cancels_a_run_made_by_hand_while_another_is_active() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual", concurrencyPolicy="Forbid"))
    world.frame_ready()
    world.put(run("one"))
    world.later(1)
    world.put(run("two"))
    assert world.phase("two") == "cancelled"
    assert world.run("two")["status"]["reason"] == "ConcurrencyForbidden"
    assert world.phase("one") == "queued"


def test_users_are_told_once_what_became_of_a_run_in_line() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual", concurrencyPolicy="Forbid"))
    world.frame_ready()
    world.put(run("one"))
    world.later(1)
    world.put(run("two"))
    told = [(name, reason) for name, reason, _ in world.kube.events if name in ("one", "two")]
    assert told == [("one", "Started"), ("two", "ConcurrencyForbidden")]


def test_a_suspended_project_prepares_and_starts_nothing() -> None:
    world = World()
    world.put(plugin(), project(suspend=True))
    assert world.jobs("prepare") == []
    assert shown(world)[0] == "suspended"
    world.put(project())
    world.frame_ready()
    assert world.jobs() == [world.attempt("home-soft-1")]


def test_suspending_a_project_suspends_its_runs() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.pod_trains("home-soft-1")
    world.put(project(suspend=True))
    job = world.job(world.attempt("home-soft-1"))
    assert job is not None
    assert job["spec"]["suspend"] is True
    for key in [key for key in world.kube.objects if key[0] == "Pod"]:
        world.kube.objects.pop(key)
    world.settle()
    assert world.phase("home-soft-1") == "suspended"
    assert shown(world)[0] == "suspended"


@pytest.mark.parametrize(("promotion", "latest"), [("Always", "two"), ("IfBetter", "one"), ("Manual", None)])
def test_promotion_decides_which_model_is_latest(promotion: str, latest: str | None) -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual", promotion=promotion))
    world.frame_ready()
    for name, loss in (("one", 0.5), ("two", 0.6)):
        world.put(run(name))
        world.train_to_the_end(name, eval_loss=loss)
        world.now = world.now.replace(minute=world.now.minute + 1)
    models = world.project()["status"].get("latestModel", [])
    assert [model["run"] for model in models] == ([latest] if latest else [])
    assert [entry["run"] for entry in world.project()["status"]["leaderboard"]] == ["one", "two"]


def test_history_keeps_the_newest_runs_and_the_promoted_one() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual", history={"succeeded": 1, "failed": 1}))
    world.frame_ready()
    for minute, loss in enumerate((0.1, 0.5, 0.6, 0.7), start=1):
        world.now = world.now.replace(minute=minute)
        world.put(run(f"r{minute}"))
        world.train_to_the_end(f"r{minute}", eval_loss=loss)
    assert world.runs() == ["r1", "r4"]


def test_run_numbers_are_never_used_twice() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    world.kube.objects.pop(("TrainingRun", "default", "home-soft-1"))
    world.settle()
    assert world.runs() == []
    world.put(project(plugins=[{"name": "soft", "pluginRef": {"name": "soft"}, "lora": {"epochs": 2}}]))
    assert world.runs() == ["home-soft-2"]


@pytest.mark.parametrize(
    ("source", "reason", "field"),
    [
        ({"volume": {"claimName": "none", "path": "a.csv"}}, "VolumeNotFound", "source.volume.claimName"),
        ({"configMap": {"name": "none", "key": "a.csv"}}, "ConfigMapNotFound", "source.configMap.name"),
    ],
)
def test_a_missing_source_fails_readably_and_heals(source: dict[str, Any], reason: str, field: str) -> None:
    world = World()
    world.put(plugin(), project(dataset={"source": source}))
    assert shown(world) == ("failed", reason)
    assert field in world.project()["status"]["message"]
    assert world.jobs("prepare") == []
    kind = "PersistentVolumeClaim" if "volume" in source else "ConfigMap"
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "none"}, "data": {"a.csv": "a"}}
    world.kube.put(manifest)
    world.settle()
    assert len(world.jobs("prepare")) == 1


def test_a_try_to_prepare_that_failed_is_told_while_the_next_one_is_waited_for() -> None:
    world = World()
    world.put(
        plugin(), project(dataset={"source": {"uri": {"url": "s3://rooms/a.csv", "secretRef": {"name": "keys"}}}})
    )
    [job] = world.jobs("prepare")
    name = world.pod_starts(job)
    record = TerminationRecord(
        outcome="failed", reason="SecretNotFound", message="Secret 'keys' is not in this namespace", hint="create it"
    )
    stored = world.kube.find(PODS, name)
    assert stored is not None
    ended = {"exitCode": 70, "message": record.model_dump_json(by_alias=True), "startedAt": "2026-01-01T12:00:00Z"}
    stored["status"] = {
        "phase": "Failed",
        "containerStatuses": [{"name": "prepare", "state": {"terminated": ended}}],
    }
    world.kube.put(stored)
    world.settle()
    assert shown(world) == ("PREPROCESSING", "Preparing")
    assert "SecretNotFound: Secret 'keys' is not in this namespace (create it)" in world.project()["status"]["message"]
    world.job_ends(job, exit_code=70, record=record)
    assert shown(world) == ("failed", "SecretNotFound")


def test_a_claim_that_cannot_be_written_to_is_named_and_not_the_directory_that_the_pod_sees_it_at() -> None:
    world = World()
    world.put(plugin(), project())
    [job] = world.jobs("prepare")
    world.pod_starts(job)
    message = "PermissionError: [Errno 13] Permission denied: '/chorus/volume/frames'"
    world.job_ends(
        job, exit_code=70, record=TerminationRecord(outcome="failed", reason="InternalError", message=message)
    )
    assert shown(world) == ("failed", "InternalError")
    claim = claim_of(world, "home")["metadata"]["name"]
    assert f"Permission denied: 'claim {claim}: frames'" in world.project()["status"]["message"]


def claim_of(world: World, project: str) -> dict[str, Any]:
    claim = world.kube.find(CLAIMS, world.project(project)["status"]["claimName"])
    assert claim is not None
    return claim


def test_the_claim_outlives_the_project_unless_told_otherwise() -> None:
    world = World()
    world.put(plugin(), project(), project("gone", storage={"onDelete": "Delete"}))
    assert "ownerReferences" not in claim_of(world, "home")["metadata"]
    assert claim_of(world, "gone")["metadata"]["ownerReferences"][0]["name"] == "gone"


def test_pods_that_fetch_are_told_where_the_api_server_is() -> None:
    """They have no right to find out, and what users write must not lead them there."""
    world = World(api_server=("10.96.0.1", "172.18.0.2:6443"))
    world.put(plugin(lora={"baseModel": {"uri": "hf://lab/tiny-t5"}}), project())
    world.frame_ready()
    for role in ("prepare", "fetch"):
        [job] = world.jobs(role)
        assert json.loads(world.config_map(job)["job.json"])["apiServer"] == ["10.96.0.1", "172.18.0.2:6443"]
