"""What is counted when a status is written: each step of a run once, by the words that are fixed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from builders import make_plugin, make_project
from chorus_kube.work_queue import Key
from chorus_operator.metrics.collector import make_registry
from chorus_operator.metrics.recorder import Recorder
from chorus_operator.metrics.runs import RunBook
from message_builders import training_run
from world import START, World, iso

QUEUED = iso(START)


class Counted:
    """A recorder and what it has counted."""

    def __init__(self) -> None:
        self.now = START.timestamp()
        self.registry = make_registry()
        self.runs = RunBook()
        self.recorder = Recorder(self.registry, runs=self.runs, clock=lambda: self.now)

    def wrote(self, before: dict[str, Any], patch: dict[str, Any], kind: str = "TrainingRun") -> None:
        self.recorder.status_written(kind, before, patch)

    def __call__(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"{name} {labels} is not there"
        return value


@pytest.fixture
def counted() -> Counted:
    return Counted()


def conditions(**status: str) -> list[dict[str, str]]:
    return [
        {"type": name, "status": value, "reason": "X", "lastTransitionTime": QUEUED} for name, value in status.items()
    ]


def test_a_change_of_phase_counts_and_a_change_of_words_does_not(counted: Counted) -> None:
    counted.wrote({"phase": "queued"}, {"phase": "TRAINING"})
    counted.wrote({"phase": "TRAINING"}, {"message": "publishing"})
    counted.wrote({"phase": "failed"}, {"phase": "failed", "message": "in other words"})
    assert counted("chorus_run_phase_transitions_total", phase="TRAINING") == 1
    assert counted("chorus_run_phase_transitions_total", phase="failed") == 0


def test_the_time_to_each_phase_is_from_the_first_sight_of_the_run(counted: Counted) -> None:
    counted.now += 20
    counted.wrote({"queuedTime": QUEUED}, {"phase": "PREPROCESSING", "conditions": conditions(PodStarted="True")})
    counted.now += 40
    before = {"queuedTime": QUEUED, "conditions": conditions(PodStarted="True")}
    counted.wrote(before, {"phase": "TRAINING", "conditions": conditions(PodStarted="True", TrainingStarted="True")})
    counted.now += 540
    counted.wrote(before, {"phase": "TRAINED", "conditions": conditions(PodStarted="True", Succeeded="True")})
    sums = [
        counted("chorus_run_time_to_phase_seconds_sum", phase=phase)
        for phase in ("PREPROCESSING", "TRAINING", "TRAINED")
    ]
    assert sums == [20, 60, 600]


def test_a_phase_that_a_run_comes_back_to_has_no_second_time(counted: Counted) -> None:
    before = {"queuedTime": QUEUED, "phase": "suspended", "conditions": conditions(PodStarted="True")}
    counted.wrote(before, {"phase": "PREPROCESSING", "conditions": conditions(PodStarted="True", PodsReady="True")})
    assert counted("chorus_run_time_to_phase_seconds_count", phase="PREPROCESSING") == 0
    assert counted("chorus_run_phase_transitions_total", phase="PREPROCESSING") == 1


def test_an_attempt_that_fails_counts_by_its_class_and_as_a_retry_when_another_follows(counted: Counted) -> None:
    counted.wrote({}, {"attempts": {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0}})
    counted.wrote({"attempts": {"current": 1, "disruption": 0}}, {"attempts": {"current": 2, "disruption": 1}})
    counted.wrote({"attempts": {"current": 2, "user": 0}}, {"attempts": {"user": 1}, "phase": "failed"})
    assert counted("chorus_run_attempts_started_total") == 2
    assert counted("chorus_run_attempts_failed_total", **{"class": "disruption"}) == 1
    assert counted("chorus_run_attempts_failed_total", **{"class": "user"}) == 1
    assert counted("chorus_run_retries_total", **{"class": "disruption"}) == 1
    assert counted("chorus_run_retries_total", **{"class": "user"}) == 0


def test_a_failure_counts_by_its_reason_and_by_who_acts_on_it_once(counted: Counted) -> None:
    lost = {"class": "disruption", "reason": "NodeLost", "actor": "nobody"}
    counted.wrote({"attempts": {"current": 1}}, {"attempts": {"current": 2, "disruption": 1}, "failure": lost})
    rejected = {"failure": {"reason": "JobRejected", "actor": "administrator"}}
    counted.wrote({"phase": "queued", **rejected}, {"phase": "failed"})
    counted.wrote({"phase": "failed", **rejected}, {"message": "in other words"})
    assert counted("chorus_run_failures_total", reason="NodeLost", actor="nobody") == 1
    assert counted("chorus_run_failures_total", reason="JobRejected", actor="administrator") == 1


def test_a_reason_of_another_version_is_no_label_of_its_own(counted: Counted) -> None:
    counted.wrote({"phase": "TRAINING"}, {"phase": "failed", "failure": {"reason": "Whatever", "actor": "x"}})
    assert counted("chorus_run_failures_total", reason="unknown", actor="unknown") == 1


def test_a_frame_counts_once_by_how_its_preparation_ended(counted: Counted) -> None:
    def dataset(status: str, reason: str) -> dict[str, Any]:
        return {"conditions": [{"type": "DatasetReady", "status": status, "reason": reason}]}

    ready, preparing, failed = dataset("True", "FrameReady"), dataset("False", "Preparing"), dataset("False", "NoRows")
    for before, patch in [({}, preparing), (preparing, ready), (ready, {"phase": "TRAINING"}), (ready, ready)]:
        counted.wrote(before, patch, kind="Project")
    counted.wrote(preparing, failed, kind="Project")
    counted.wrote(failed, failed, kind="Project")
    assert counted("chorus_frames_prepared_total", result="ready") == 1
    assert counted("chorus_frames_prepared_total", result="failed") == 1


def test_a_phase_of_another_version_is_counted_as_unknown(counted: Counted) -> None:
    counted.wrote({}, {"phase": "somethingNew"})
    assert counted("chorus_run_phase_transitions_total", phase="unknown") == 1


def test_reconciles_are_timed_by_kind_and_outcome(counted: Counted) -> None:
    counted.recorder.reconciled("Project", "ok", 0.2)
    assert counted("chorus_reconcile_duration_seconds_sum", kind="Project", result="ok") == 0.2
    assert counted("chorus_reconcile_duration_seconds_count", kind="Plugin", result="late") == 0


def test_a_run_through_all_its_reconciles_is_counted_as_it_went(counted: Counted) -> None:
    world = World(observer=counted.recorder)
    world.put(make_plugin("soft"), make_project("home", plugins=[{"name": "soft", "pluginRef": {"name": "soft"}}]))
    world.frame_ready("home")
    world.train_to_the_end("home-soft-1")
    assert world.phase("home-soft-1") == "TRAINED"
    assert counted("chorus_frames_prepared_total", result="ready") == 1
    assert counted("chorus_run_attempts_started_total") == 1
    for phase, times in [("queued", 1), ("TRAINED", 1), ("failed", 0)]:
        assert counted("chorus_run_phase_transitions_total", phase=phase) == times, phase
    for phase in ("PREPROCESSING", "TRAINING", "TRAINED"):
        assert counted("chorus_run_time_to_phase_seconds_count", phase=phase) == 1, phase


def test_deletions_that_the_watch_missed_are_found_by_the_next_looks(counted: Counted) -> None:
    world = World(observer=counted.recorder)
    world.put(make_plugin("soft"), make_project("home", plugins=[{"name": "soft", "pluginRef": {"name": "soft"}}]))
    for name, phase in [("ended", "TRAINED"), ("working", "TRAINING")]:
        counted.runs.seen(training_run(name, phase=phase), deleted=False)
    world.later(300)  # the resync: the Project is looked at, and lists its runs
    assert {phase: count for phase, count in counted.runs.counts().items() if count} == {"TRAINING": 1}
    asyncio.run(world.look(Key("TrainingRun", "default", "working", "home")))
    assert not any(counted.runs.counts().values())
