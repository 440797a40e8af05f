"""Whatever users, pods and the cluster do in whatever order, some things never happen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chorus_api.phases import FINAL, Phase
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import JOBS, PODS, TRAINING_RUNS
from pod_faults import (
    container_ends,
    event_about,
    is_disrupted,
    is_evicted,
    is_gone,
    is_told_to_end,
    job_is_judged,
)
from unit_manifests import plugin, project, run
from world import World

EXIT_CODES = st.sampled_from([1, 64, 65, 69, 70, 75, 137])


class Runs(RuleBasedStateMachine):
    """One plugin, a few runs, and everything that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.made = 0
        self.ended: dict[str, str] = {}
        self.jobs_seen: dict[str, str] = {}

    @initialize()
    def start(self) -> None:
        self.world.put(plugin(retry={"disruption": 1, "infrastructure": 1, "user": 0}), project(trainOn="Manual"))
        self.world.frame_ready()

    def training_job(self) -> str | None:
        """The one Job of an attempt that can still end."""
        for name in self.world.jobs():
            job = self.world.job(name)
            assert job is not None
            if not job.get("status", {}).get("conditions") and not job["spec"].get("suspend"):
                return name
        return None

    def run_of(self, name: str) -> str:
        job = self.world.job(name)
        assert job is not None
        return str(job["metadata"]["labels"]["chorus.dev/run"])

    @rule()
    def somebody_makes_a_run(self) -> None:
        if self.made < 3:
            self.made += 1
            self.world.later(1)
            self.world.put(run(f"r{self.made}"))

    @precondition(lambda self: self.training_job())
    @rule()
    def the_pod_starts_and_trains(self) -> None:
        job = self.training_job()
        assert job is not None
        if not self.world.pods_of(job):
            self.world.pod_starts(job)
        self.world.pod_says(self.run_of(job), dataReport={"applicable": True}, trainingStart={})

    @precondition(lambda self: self.training_job())
    @rule(exit_code=EXIT_CODES, keep_pod=st.booleans())
    def the_pod_fails(self, exit_code: int, keep_pod: bool) -> None:
        job = self.training_job()
        assert job is not None
        if not self.world.pods_of(job):
            self.world.pod_starts(job)
        self.world.job_ends(job, exit_code=exit_code, keep_pod=keep_pod)

    @precondition(lambda self: self.training_job())
    @rule()
    def the_pod_ends_well_and_is_published(self) -> None:
        job = self.training_job()
        assert job is not None
        if not self.world.pods_of(job):
            self.world.pod_starts(job)
        self.world.job_ends(job, record=TerminationRecord(outcome="succeeded", final_loss=0.4))
        run = self.run_of(job)
        if self.world.publication(run) in self.world.jobs("publish"):
            self.world.publish(run)

    @rule(field=st.sampled_from(["cancel", "suspend"]), which=st.integers(1, 3))
    def somebody_edits_a_run(self, field: str, which: int) -> None:
        stored = self.world.kube.find(TRAINING_RUNS, f"r{which}")
        if stored is None:
            return
        value = True if field == "cancel" else not stored["spec"].get("suspend", False)
        self.world.put(stored | {"spec": stored["spec"] | {field: value}})

    @rule()
    def the_pods_of_suspended_and_deleted_jobs_go(self) -> None:
        for pod in self.world.kube.all(PODS):
            job = self.world.job(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])
            if job is None or job["spec"].get("suspend"):
                self.world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
        self.world.settle()

    @rule(seconds=st.sampled_from([30, 3000]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)

    @invariant()
    def an_ended_run_stays_as_it_ended(self) -> None:
        for stored in self.world.kube.all(TRAINING_RUNS):
            name, phase = stored["metadata"]["name"], stored.get("status", {}).get("phase", "")
            if name in self.ended:
                assert phase == self.ended[name]
            elif phase in FINAL:
                self.ended[name] = phase

    @invariant()
    def one_run_of_a_plugin_trains_at_a_time(self) -> None:
        open_jobs = [name for name in self.world.jobs() if not self._finished(self.world.job(name))]
        assert len(open_jobs) <= 1, open_jobs

    @invariant()
    def a_job_is_never_made_twice(self) -> None:
        for job in self.world.kube.all(JOBS):
            name, uid = job["metadata"]["name"], job["metadata"]["uid"]
            if job["metadata"]["labels"].get("chorus.dev/role") == "train":
                assert self.jobs_seen.setdefault(name, uid) == uid

    @invariant()
    def a_suspended_run_has_no_pod(self) -> None:
        for stored in self.world.kube.all(TRAINING_RUNS):
            if stored.get("status", {}).get("phase") != "suspended":
                continue
            running = [
                pod
                for pod in self.world.kube.all(PODS)
                if pod["metadata"]["labels"].get("chorus.dev/run") == stored["metadata"]["name"]
                and pod["status"]["phase"] not in ("Succeeded", "Failed")
            ]
            assert not running

    @invariant()
    def a_trained_run_has_a_model_and_a_failed_one_a_reason(self) -> None:
        for stored in self.world.kube.all(TRAINING_RUNS):
            status = stored.get("status", {})
            if status.get("phase") == "TRAINED":
                assert status["model"]["digest"]
            if status.get("phase") == "failed":
                assert status["reason"]
                assert status["message"]

    @staticmethod
    def _finished(job: dict[str, Any] | None) -> bool:
        return job is None or bool(job.get("status", {}).get("conditions"))


Runs.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRuns = Runs.TestCase


# One run, and what is observed of its pods


@cache
def _accepted() -> World:
    world = World()
    world.put(plugin(retry={"disruption": 1, "infrastructure": 0, "user": 0}), project())
    world.frame_ready()
    return world


ENDS = {
    "out of memory": (137, "OOMKilled", "The container went over its memory limit"),
    "killed": (137, "", "The container was killed (SIGKILL)"),
    "an error": (1, "", "The program ended with an error"),
    "bad data": (65, "", "The data cannot be used"),
    "stopped": (75, "", "The pod was told to stop"),
    "terminated": (143, "", "The program ended with an error"),
    "its node stopped": (255, "Unknown", "was stopped or restarted"),
}
OWN_LIMIT = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
LOW_NODE = "The node was low on resource: memory. "


class OneRun:
    """A run whose pods end, vanish and are told to go, with or without the operator looking in between."""

    name = "home-soft-1"

    def __init__(self) -> None:
        self.world = copy.deepcopy(_accepted())
        self.first: dict[str, str] = {}
        """What happened first to the pod of a Job, in words that users must read."""
        self.told_to_end: set[str] = set()
        self.final: dict[str, Any] | None = None

    @property
    def job(self) -> str:
        """The Job of the newest attempt, whose number may not be written yet."""
        return self.world.jobs()[-1] if self.world.jobs() else ""

    @property
    def pods(self) -> list[dict[str, Any]]:
        return self.world.pods_of(self.job)

    @property
    def finished(self) -> bool:
        stored = self.world.job(self.job)
        return stored is None or bool(stored.get("status", {}).get("conditions"))

    def runs(self) -> bool:
        return bool(self.pods) and self.pods[0]["status"]["phase"] == "Running"

    def has_ended(self) -> bool:
        return bool(self.pods) and self.pods[0]["status"]["phase"] in ("Succeeded", "Failed")

    def starts(self) -> None:
        if not self.finished and not self.pods:
            self.world.make_pod(self.job, node="node-1")

    def trains(self) -> None:
        status = self.world.run(self.name)["status"]
        if self.runs() and self.job == self.world.attempt(self.name, status["attempts"]["current"]):
            self.world.pod_says(self.name, dataReport={"applicable": True}, trainingStart={})

    def ends(self, how: str) -> None:
        if self.runs():
            code, reason, words = ENDS[how]
            container_ends(self.world, self.job, code, reason=reason)
            if self.job in self.told_to_end and code in (137, 143) and reason != "OOMKilled":
                words = "Somebody deleted pod"
            self.first.setdefault(self.job, words)

    def is_evicted(self, words: str, *, by_node: bool) -> None:
        if self.runs() and self.job not in self.first:
            self.first[self.job] = words.strip()
            is_evicted(self.world, self.job, words, by_node=by_node)

    def is_disrupted(self) -> None:
        if self.runs():
            self.first.setdefault(self.job, "Eviction API: evicting")
            is_disrupted(self.world, self.job)

    def is_deleted(self) -> None:
        if self.pods:
            if self.runs():
                self.told_to_end.add(self.job)
            is_told_to_end(self.world, self.job)

    def is_judged(self) -> None:
        if self.has_ended() and not self.finished:
            job_is_judged(self.world, self.job)

    def vanishes(self) -> None:
        """A pod that the Job controller has taken note of is removed, once the operator has looked."""
        if self.has_ended() and self.finished:
            self.looks()
            is_gone(self.world, self.job)

    def waits(self, seconds: int) -> None:
        self.is_judged()
        self.world.now += timedelta(seconds=seconds)

    def says(self, reason: str) -> None:
        for pod in self.pods:
            event_about(self.world, pod, reason, 'secret "late" not found')

    def looks(self) -> None:
        self.world.settle()
        self.check()

    def check(self) -> None:
        status = self.world.run(self.name)["status"]
        assert status["phase"] in set(Phase)
        kinds = [condition["type"] for condition in status["conditions"]]
        assert len(kinds) == len(set(kinds))
        if self.final is not None:
            assert status == self.final
        if status["phase"] in FINAL:
            self.final = status
        last = self.world.attempt(self.name, status["attempts"]["current"])
        if status["phase"] == Phase.FAILED and not _is_late(status["reason"]):
            assert self.first[last] in status["message"]
            assert status["failure"]["reason"] == status["reason"]


def _is_late(reason: str) -> bool:
    """Tell whether a run ended for what did not happen in time."""
    return "Deadline" in reason or reason in ("NodeLost", "JobRejected", "SecretNotFound")


STEPS: dict[str, Callable[[OneRun], None]] = {
    "trains": OneRun.trains,
    **{f"ends: {how}": partial(OneRun.ends, how=how) for how in ENDS},
    "is evicted for its own limit": partial(OneRun.is_evicted, words=OWN_LIMIT, by_node=False),
    "is evicted for its node": partial(OneRun.is_evicted, words=LOW_NODE, by_node=True),
    "is evicted by the API": OneRun.is_disrupted,
    "is deleted": OneRun.is_deleted,
    "is judged": OneRun.is_judged,
    "vanishes": OneRun.vanishes,
    "is spoken of": partial(OneRun.says, reason="FailedMount"),
    "waits a little": partial(OneRun.waits, seconds=20),
    "waits long": partial(OneRun.waits, seconds=900),
    "is looked at": OneRun.looks,
}


@settings(max_examples=35, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=3, max_size=12))
def test_a_run_has_one_phase_keeps_its_end_and_names_what_was_first(steps: list[str]) -> None:
    one = OneRun()
    for step in [*steps, "is judged", "is looked at", "waits a little", "is looked at"]:
        if "waits" not in step:
            one.starts()
        STEPS[step](one)
