"""Whatever users, pods and the cluster do in whatever order, some things never happen."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chorus_api.phases import FINAL
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import JOBS, PODS, TRAINING_RUNS
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
