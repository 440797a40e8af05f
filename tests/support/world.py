"""A small world for reconcile tests: the operator's reconciles over a cluster in memory, and hands for what pods do."""

from __future__ import annotations

import asyncio
import atexit
import copy
import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.project import Project
from chorus_api.resources import Resources
from chorus_api.run_config import TerminationRecord
from chorus_api.training_run import TrainingRun
from chorus_kube.errors import Conflict, Unavailable
from chorus_kube.resources import CONFIG_MAPS, JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS
from chorus_kube.work_queue import Key
from chorus_net.addresses import ApiServer
from chorus_operator.decisions import names
from chorus_operator.decisions.dispatch import Limits
from chorus_operator.decisions.observed import parse_time
from chorus_operator.decisions.project.refresh import current_preparation_id, preparations_now
from chorus_operator.messages.plugins import entry_of
from chorus_operator.reconcile import make_reconciler
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.failures import Failures
from chorus_operator.reconcile.observer import Nobody, Observer
from chorus_operator.reconcile.pace import Pace
from chorus_operator.reconcile.stores import Stores
from chorus_operator.reconcile.training_run import SWEEP_SECONDS
from chorus_operator.services.client import OutboundMessage
from chorus_operator.services.dispatcher import WebhookDispatcher
from chorus_operator.services.outbound import ReturnAddress
from chorus_operator.services.tokens import ServiceTokens
from chorus_protocol.messages import ColumnProfile, FrameManifest, OnlineReport
from fakes import FakeKube

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMESPACE = "default"
TOKENS = ServiceTokens(b"k" * 32)
MAX_ROUNDS = 60
_WATCHED = {each.kind: each for each in (PROJECTS, PLUGINS, TRAINING_RUNS, JOBS, PODS)}
W = TypeVar("W", bound="World")

# One event loop for all worlds: each settles many times, and to make and close a loop for each takes 0.25 ms of CPU.
_RUNNER = asyncio.Runner()
atexit.register(_RUNNER.close)


def frame(
    name: str = "df-0123456789ab", *, rows: int = 100, columns: tuple[str, ...] = ("prompt", "response")
) -> FrameManifest:
    """Build a frame."""
    return FrameManifest(
        name=name,
        digest="sha256:" + "ab" * 32,
        rows=rows,
        eval_rows=5,
        read_rows=rows + 5,
        columns=[ColumnProfile(name=column, type="string") for column in columns],
    )


def iso(time: datetime) -> str:
    """Write a time as the API server does."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class Killed(Exception):
    """The operator's process ends at this very call; a new one starts and sees only what the API server holds."""


class SimulatedDispatcher(WebhookDispatcher):
    """Dispatches to services that answer at once. `error`: why they do not take what they are sent, if they do not."""

    def __init__(self, clock: Callable[[], datetime], *, limits: Limits | None = None):
        super().__init__(self, clock=clock, limits=limits)
        self.error = ""
        self.outbound: list[OutboundMessage] = []

    async def post(self, outbound: OutboundMessage) -> str | None:
        self.outbound.append(outbound)
        return self.error or None

    async def rest(self) -> None:
        """Wait until nothing is being sent."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    @property
    def sends(self) -> bool:
        """Whether anything is being sent."""
        return bool(self._tasks)

    async def give_up(self) -> None:
        """Send no further what an error has left under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def restart(self) -> None:
        """Be the dispatcher of a new process, which has sent nothing yet."""
        for task in self._tasks:
            task.cancel()
        super().__init__(self, clock=self._clock, limits=self._limits)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type that were sent."""
        told = [json.loads(outbound.body) for outbound in self.outbound]
        return [event for event in told if event["type"] == f"dev.chorus.{kind}"]


def made_once(make: Callable[[], W]) -> Callable[[], W]:
    """Make a world when it is first asked for, and give everyone a copy of it: that takes a twentieth of the time."""
    made = functools.cache(make)
    return functools.wraps(make)(lambda: copy.deepcopy(made()))


@dataclass
class World:
    """Reconciles everything until nothing changes; time moves only when told, and over the pauses before retries."""

    now: datetime = START
    images: tuple[str, str] = ("operator:1", "trainer:1")
    claims: tuple[str, ...] = ("models",)
    api_server: tuple[str, ...] = ()
    """Where the API server is, as the operator finds it."""
    job_resources: Resources = field(default_factory=Resources)
    """What the operator was told to give CPU Jobs."""
    wakes: list[float] = field(default_factory=list)
    disturbed: int = 0
    observer: Observer = field(default_factory=Nobody)
    waits_out_pauses: bool = True
    """Whether time passes by itself until a failed attempt is followed by the next one."""
    has_swept: bool = False
    """Whether the operator has had every Project's deleted runs swept a moment ago."""

    def __post_init__(self) -> None:
        self.kube = FakeKube(clock=self._clock)
        self.kube.others = self._others
        self._settling = False
        self.restart()
        self.operator_since = self.now
        self.failures = Failures()
        self.dispatcher = SimulatedDispatcher(self._clock)
        for claim in self.claims:
            self.kube.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}})

    def __deepcopy__(self: W, memo: dict[int, Any]) -> W:
        """Copy everything but the stores: a copy knows what the API server holds, as a new process does."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        self.kube.answers = None
        rest = {name: value for name, value in vars(self).items() if name != "stores"}
        vars(twin).update(copy.deepcopy(rest, memo))
        self.kube.answers = self.stores
        twin.restart()
        return twin

    # Time and the operator

    def _clock(self) -> datetime:
        """Give the time of this world: a method, so that a deep copy of the world asks the copy."""
        return self.now

    def settle(self) -> None:
        """Let the operator look at everything until nothing changes any more."""
        self._settling = True
        try:
            _RUNNER.run(self._settle())
        finally:
            self._settling = False

    def _others(self) -> bool:
        """Whether a call has anybody to wait for: while a world settles, only what is being sent runs beside it."""
        return not self._settling or self.dispatcher.sends

    async def _settle(self) -> None:
        self.restart()
        try:
            await self._rounds()
        finally:
            await self.dispatcher.give_up()

    async def _rounds(self) -> None:
        for _ in range(MAX_ROUNDS):
            before, told = self._versions(), len(self.dispatcher.outbound)
            disturbed = self.disturbed
            self.wakes = []
            await self._round()
            if self._versions() != before or self.disturbed != disturbed or len(self.dispatcher.outbound) != told:
                continue
            if not (self.waits_out_pauses and self._wait_out_pause()):
                return
        raise AssertionError("the operator does not come to rest")

    def _wait_out_pause(self) -> bool:
        """Move time to the end of the longest pause before a retry; False when there is none."""
        ends = [
            parse_time(run["status"]["attempts"].get("notBefore"))
            for run in self.kube.all(TRAINING_RUNS)
            if run.get("status", {}).get("attempts") and run["status"].get("phase") not in FINAL
        ]
        later = [end for end in ends if end is not None and end > self.now]
        self.now = max(later, default=self.now)
        return bool(later)

    async def _round(self) -> None:
        reconcile = make_reconciler(self._context(), self.failures)
        for kind in (PLUGINS, PROJECTS, TRAINING_RUNS):
            for namespace, name, stored in self.kube.present(kind):
                project = stored["spec"].get("projectRef", {}).get("name", name if kind is PROJECTS else "")
                again = await self._one(reconcile, Key(kind.kind, namespace, name, project))
                await self.dispatcher.rest()
                if again is not None:
                    self.wakes.append(again)

    async def look(self, key: Key) -> float | None:
        """Reconcile one key, which may be of something that is gone."""
        self.tell()
        return await make_reconciler(self._context())(key)

    async def _one(self, reconcile: Any, key: Key) -> float | None:
        self.tell()
        try:
            return await reconcile(key)
        except Killed:
            self.restart()
            self.disturbed += 1
            return 0.0
        except (Conflict, Unavailable):
            self.disturbed += 1
            return 0.0

    def tell(self) -> None:
        """Have the watches tell what has happened."""
        for kind, deleted, stored in self.kube.log[self._told :]:
            if kind in _WATCHED:
                self.stores.seen(_WATCHED[kind], stored, deleted=deleted)
        self._told = len(self.kube.log)

    def restart(self) -> None:
        """Be a new process: it knows what the API server holds, and nothing else."""
        self.stores = Stores(self.kube, seconds=lambda: 0.0)  # type: ignore[arg-type]
        self.kube.answers = self.stores
        for resource in _WATCHED.values():
            for _, _, stored in self.kube.present(resource):
                self.stores.seen(resource, stored)
        for _, _, stored in self.kube.present(PROJECTS) if self.has_swept else ():
            self.stores.done("sweep", stored["metadata"]["uid"], every=SWEEP_SECONDS)
        self._told = len(self.kube.log)  # events that the stores were told of

    def _versions(self) -> dict[Any, str]:
        return {key: stored["metadata"]["resourceVersion"] for key, stored in self.kube.objects.items()}

    def _context(self) -> ReconcileContext:
        async def ensure_namespace(namespace: str) -> None:
            return None

        async def api_server() -> ApiServer:
            return ApiServer.parse(self.api_server)

        return ReconcileContext(
            kube=self.kube,  # type: ignore[arg-type]
            operator_image=self.images[0],
            job_resources=self.job_resources,
            trainer_image=self.images[1],
            messages_url="https://chorus.test:8443/v1/messages",
            clock=self._clock,
            since=self.operator_since,
            api_server=api_server,
            ensure_namespace=ensure_namespace,
            wake=lambda key, after=0.0: None,
            stores=self.stores,
            pace=Pace(seconds=itertools.count(step=10).__next__),  # a second has always passed
            dispatcher=self.dispatcher,
            tokens=TOKENS,
            address=ReturnAddress("https://chorus.test:8443/v1/messages", "the CA"),
            observer=self.observer,
        )

    def later(self, seconds: float) -> None:
        """Let time pass, then let the operator look."""
        self.now += timedelta(seconds=seconds)
        self.settle()

    # What is there

    def put(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests as a user does, then let the operator look."""
        for manifest in manifests:
            kind = {"Project": PROJECTS, "Plugin": PLUGINS, "TrainingRun": TRAINING_RUNS}.get(manifest["kind"])
            name = manifest["metadata"]["name"]
            old = self.kube.find(kind, name) if kind else None
            if old is not None:
                old["spec"] = manifest["spec"]
                old["metadata"]["generation"] += 1
                self.kube.put(old)
            else:
                self.kube.put(manifest)
        self.settle()

    def project(self, name: str = "home") -> dict[str, Any]:
        """Read a Project."""
        found = self.kube.find(PROJECTS, name)
        assert found is not None
        return found

    def run(self, name: str) -> dict[str, Any]:
        """Read a run."""
        found = self.kube.find(TRAINING_RUNS, name)
        assert found is not None, [run["metadata"]["name"] for run in self.kube.all(TRAINING_RUNS)]
        return found

    def attempt(self, run: str, number: int = 1) -> str:
        """Name the Job of an attempt."""
        return names.attempt_job(self._parsed(run), number)

    def exchange(self, run: str, number: int = 1) -> str:
        """Name the Service and the ConfigMap of an attempt's exchange."""
        return names.exchange(self._parsed(run), number)

    def frozen(self, run: str) -> str:
        """Name the ConfigMap with everything that a run uses."""
        return names.config_map(self._parsed(run))

    def publication(self, run: str) -> str:
        """Name the Job that publishes a run's artefact, and its ConfigMap if it has one."""
        return names.publish_job(self._parsed(run))

    def _parsed(self, run: str) -> TrainingRun:
        return TrainingRun.model_validate(self.run(run))

    def plugin(self, name: str) -> dict[str, Any]:
        """Read a Plugin."""
        found = self.kube.find(PLUGINS, name)
        assert found is not None
        return found

    def config_map(self, name: str) -> dict[str, str]:
        """Read a ConfigMap's data."""
        found = self.kube.find(CONFIG_MAPS, name)
        assert found is not None
        return dict(found["data"])

    def phase(self, run: str) -> str:
        """Read a run's phase."""
        return str(self.run(run)["status"]["phase"])

    def runs(self) -> list[str]:
        """Name all runs."""
        return sorted(run["metadata"]["name"] for run in self.kube.all(TRAINING_RUNS))

    def job(self, name: str) -> dict[str, Any] | None:
        """Read a Job."""
        return self.kube.find(JOBS, name)

    def jobs(self, role: str = "train") -> list[str]:
        """Name all Jobs of a role."""
        return sorted(
            job["metadata"]["name"]
            for job in self.kube.all(JOBS)
            if job["metadata"]["labels"][contract.ROLE_LABEL] == role
        )

    # What pods do

    def frame_ready(self, project: str = "home", *, result: FrameManifest | None = None) -> None:
        """The prepare Job reports its frame."""
        self._frame_result(project, {"ready": (result or frame()).model_dump(mode="json")})

    def frame_failed(self, project: str = "home", *, reason: str, detail: str) -> None:
        """The prepare Job reports why there is none."""
        self._frame_result(project, {"failed": {"reason": reason, "detail": detail}})

    def _frame_result(self, project: str, result: dict[str, Any]) -> None:
        stored = self.project(project)
        key = current_preparation_id(preparations_now(Project.model_validate(stored), self.now))
        self.kube.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": names.frame_config_map(Project.model_validate(stored), key).name,
                    "ownerReferences": [{"uid": stored["metadata"]["uid"], "kind": "Project", "name": project}],
                },
                "data": {"result.json": json.dumps(result)},
            }
        )
        self.settle()

    def pod_starts(self, job: str, *, node: str = "node-1", clock_off: timedelta = timedelta()) -> str:
        """A Job's pod starts; returns its name. `clock_off`: by how much the node's clock is before this world's."""
        name = self.make_pod(job, node=node, started=self.now + clock_off)
        self.settle()
        return name

    def make_pod(self, job: str, *, node: str, started: datetime | None = None) -> str:
        """Make a running pod of a Job, before the operator looks."""
        stored = self.job(job)
        assert stored is not None, self.jobs()
        name = f"{job}-x{len(self.kube.all(PODS))}"
        container = stored["spec"]["template"]["spec"]["containers"][0]["name"]
        labels = stored["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
        self.kube.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "labels": labels,
                    "annotations": stored["metadata"].get("annotations", {}),
                    "ownerReferences": [{"uid": stored["metadata"]["uid"], "kind": "Job", "name": job}],
                },
                "spec": {"nodeName": node, "containers": [{"name": container}]},
                "status": {
                    "phase": "Running",
                    "containerStatuses": [
                        {"name": container, "state": {"running": {"startedAt": iso(started or self.now)}}}
                    ],
                },
            }
        )
        stored["status"] = {"active": 1}
        self.kube.put(stored)
        return name

    def pod_waits(self, job: str, *, reason: str = "", message: str = "", unschedulable: str = "") -> str:
        """A Job's pod is there, but does not start."""
        name = self.make_pod(job, node="", started=self.now)
        pod = self.kube.find(PODS, name)
        assert pod is not None
        container = pod["spec"]["containers"][0]["name"]
        pod["status"] = {"phase": "Pending"}
        if unschedulable:
            pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": unschedulable}]
        if reason:
            waiting = {"reason": reason, "message": message}
            pod["status"]["containerStatuses"] = [{"name": container, "state": {"waiting": waiting}}]
        self.kube.put(pod)
        self.settle()
        return name

    def pod_waits_now(self, name: str, *, reason: str = "", message: str = "") -> None:
        """A pod that has not started waits for something else."""
        pod = self.kube.find(PODS, name)
        assert pod is not None
        waiting = {"reason": reason, "message": message}
        pod["status"]["containerStatuses"] = [
            {"name": pod["spec"]["containers"][0]["name"], "state": {"waiting": waiting}}
        ]
        self.kube.put(pod)
        self.settle()

    def pod_says(self, run: str, **blocks: Any) -> None:
        """The message receiver writes what the pod of the present attempt reported."""
        stored = self.run(run)
        attempt = stored["status"]["attempts"]["current"]
        report = stored["status"].get("report", {})
        if report.get("attempt") != attempt:
            report = {"attempt": attempt, "podUid": "pod", "sequence": 0}
        timed = {name: value | {"time": iso(self.now)} for name, value in blocks.items() if name != "progress"}
        stored["status"]["report"] = report | timed | {"sequence": report["sequence"] + 1}
        if "progress" in blocks:
            stored["status"]["progress"] = {"attempt": attempt, "percent": 0, "time": iso(self.now)} | blocks[
                "progress"
            ]
        self.kube.put(stored)
        self.settle()

    def pod_trains(self, run: str) -> None:
        """The pod of the present attempt starts, and says that it trains."""
        attempt = self.run(run)["status"]["attempts"]["current"]
        self.pod_starts(self.attempt(run, attempt))
        self.pod_says(run, dataReport={"applicable": True}, trainingStart={})

    def plugin_says(self, name: str = "soft", **report: Any) -> None:
        """The message receiver writes what an image reported of itself."""
        stored = self.plugin(name)
        said = OnlineReport.model_validate(report)
        entry = entry_of(said, generation=stored["metadata"].get("generation", 1), now=self.now)
        stored.setdefault("status", {})["report"] = entry.model_dump(mode="json", exclude_none=True)
        self.kube.put(stored)
        self.settle()

    def sidecar_runs(self, job: str) -> None:
        """The sidecar of a Job's pod still has something to do when the main container ends."""
        for pod in self.pods_of(job):
            running = {"name": "messages", "started": True, "state": {"running": {"startedAt": iso(self.now)}}}
            pod["status"]["initContainerStatuses"] = [running]
            self.kube.put(pod)

    def main_container_ends(
        self, job: str, *, exit_code: int = 0, record: TerminationRecord | None = None, beside: str = "proxy"
    ) -> None:
        """The main container of a Job's pod ends, and a sidecar that a webhook injected runs on."""
        for pod in self.pods_of(job):
            main = pod["spec"]["containers"][0]["name"]
            ended = {
                "exitCode": exit_code,
                "reason": "Error" if exit_code else "Completed",
                "startedAt": iso(self.now),
                "message": record.model_dump_json(by_alias=True, exclude_none=True) if record else "",
            }
            pod["spec"]["containers"] = [{"name": main}, {"name": beside}]
            pod["status"]["containerStatuses"] = [
                {"name": main, "state": {"terminated": ended}},
                {"name": beside, "state": {"running": {"startedAt": iso(self.now)}}},
            ]
            self.kube.put(pod)
        self.settle()

    def init_container_fails(self, job: str, container: str, *, exit_code: int, record: TerminationRecord) -> None:
        """An init container of a Job's pod ends the pod, and so the Job."""
        self.pod_waits(job)
        for pod in self.pods_of(job):
            ended = {
                "exitCode": exit_code,
                "reason": "Error",
                "message": record.model_dump_json(by_alias=True, exclude_none=True),
                "startedAt": iso(self.now),
            }
            pod["status"] = {
                "phase": "Failed",
                "initContainerStatuses": [{"name": container, "started": False, "state": {"terminated": ended}}],
            }
            self.kube.put(pod)
        stored = self.job(job)
        assert stored is not None
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
        stored["status"] = {"conditions": [failed]}
        self.kube.put(stored)
        self.settle()

    def job_ends(
        self,
        job: str,
        *,
        exit_code: int = 0,
        record: TerminationRecord | None = None,
        terminated: str = "",
        evicted: str = "",
        keep_pod: bool = True,
        job_reason: str = "BackoffLimitExceeded",
        job_message: str = "",
    ) -> None:
        """A Job's pod ends, and with it the Job."""
        stored = self.job(job)
        assert stored is not None, self.jobs()
        for pod in self.pods_of(job):
            container = pod["spec"]["containers"][0]["name"]
            pod["status"]["phase"] = "Failed" if exit_code else "Succeeded"
            ended = {
                "exitCode": exit_code,
                "reason": terminated or ("Error" if exit_code else "Completed"),
                "message": record.model_dump_json(by_alias=True, exclude_none=True) if record else "",
                "startedAt": pod["status"]
                .get("containerStatuses", [{}])[0]
                .get("state", {})
                .get("running", {})
                .get("startedAt")
                or iso(self.now),
            }
            pod["status"]["containerStatuses"] = [{"name": container, "state": {"terminated": ended}}]
            if evicted:
                pod["status"] |= {"reason": "Evicted", "message": evicted}
            if keep_pod:
                self.kube.put(pod)
            else:
                self.kube.objects.pop(("Pod", NAMESPACE, pod["metadata"]["name"]))
        condition = (
            {"type": "Failed", "reason": job_reason, "message": job_message} if exit_code else {"type": "Complete"}
        )
        before = stored.get("status", {}).get("conditions", [])
        stored["status"] = {"conditions": [*before, condition | {"status": "True"}]}
        self.kube.put(stored)
        self.settle()

    def pods_of(self, job: str) -> list[dict[str, Any]]:
        return [
            pod for pod in self.kube.all(PODS) if pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") == job
        ]

    def train_to_the_end(self, run: str, *, eval_loss: float = 0.5) -> None:
        """The present attempt trains, ends well and is published."""
        self.pod_trains(run)
        attempt = self.run(run)["status"]["attempts"]["current"]
        digest = "sha256:" + "cd" * 32
        record = TerminationRecord(outcome="succeeded", digest=digest, final_loss=0.4, eval_loss=eval_loss, samples=100)
        self.job_ends(self.attempt(run, attempt), record=record)
        self.publish(run, eval_loss=eval_loss)

    def told_to_publish(self, run: str) -> dict[str, Any]:
        """Read what the publish Job of a run is told, by its environment or else by its ConfigMap."""
        name = self.publication(run)
        job = self.job(name)
        assert job is not None
        [container] = job["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container.get("env", ())}
        told = variables.get(contract.JOB_CONFIG_VARIABLE) or self.config_map(name)["job.json"]
        return dict(json.loads(told))

    def publish(self, run: str, *, eval_loss: float | None = 0.5) -> None:
        """The publish Job does what it was told."""
        job = self.publication(run)
        told = self.told_to_publish(run)
        self.pod_starts(job)
        record = TerminationRecord(
            outcome="succeeded",
            digest="sha256:" + "cd" * 32,
            model_name=told["modelName"],
            final_loss=None if eval_loss is None else 0.4,
            eval_loss=eval_loss,
            samples=100,
            bytes=1000,
            promoted=told["promote"],
        )
        self.job_ends(job, record=record)
