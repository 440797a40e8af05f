"""A world whose operator knows only what it was told: by watches that lag, each for itself, lose and repeat events.

A reconcile is a coroutine that stops before each call to the API server. So a schedule says what happens between two
calls: to objects, to other reconciles, to the process, or to who holds the Lease. The Job controller and the kubelet do
what they do in a cluster as far as these reconciles can tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.run_config import TerminationRecord
from chorus_kube.errors import KubeError, Unavailable
from chorus_kube.resources import JOBS, PLUGINS, PODS, PROJECTS, TRAINING_RUNS, Resource
from chorus_kube.work_queue import Key
from chorus_operator.decisions.observed import parse_time
from chorus_operator.reconcile import make_reconciler
from chorus_operator.reconcile.pace import Pace
from chorus_operator.reconcile.stores import Stores
from pod_faults import job_is_judged
from world import NAMESPACE, START, World, iso

Manifest = dict[str, Any]
WATCHED = (PLUGINS, PROJECTS, TRAINING_RUNS, JOBS, PODS)
MOST_CALLS = 200
GRACE_SECONDS = 30
ENDED = ("Succeeded", "Failed")
PROJECT = Key("Project", NAMESPACE, "home", "home")
DIGEST = "sha256:" + "cd" * 32


def run_key(name: str) -> Key:
    """Name a run of the one Project."""
    return Key("TrainingRun", NAMESPACE, name, "home")


@dataclass(frozen=True)
class _Told:
    """What a watch has yet to tell, and the tick in which it happened."""

    tick: int
    gone: bool
    stored: Manifest


class Operator:
    """A process: its own stores, its watches, and the reconciles that are under way."""

    def __init__(self, world: LaggingWorld) -> None:
        """Know everything that there is now; nothing more is told before it `leads`."""
        self._world = world
        self.stores = Stores(world.kube, seconds=world.seconds)  # type: ignore[arg-type]
        self.pending: dict[Resource, deque[_Told]] = {kind: deque() for kind in WATCHED}
        self._past: dict[Resource, list[_Told]] = {kind: [] for kind in WATCHED}
        self._lists: dict[Resource, tuple[list[Manifest], int]] = {}
        self.running: dict[Key, Coroutine[Any, Any, float | None]] = {}
        context = replace(world.context_of(self.stores), pace=Pace(seconds=world.seconds))
        self._reconcile = make_reconciler(context)
        for kind in WATCHED:
            self.list_begins(kind)
            self.list_ends(kind)

    # What it is told

    def list_begins(self, kind: Resource) -> None:
        """The API server takes a snapshot of a kind, which is on its way from now on."""
        self._lists.setdefault(kind, (self._world.kube.all(kind), self._world.kube.version))

    def list_ends(self, kind: Resource) -> None:
        """The list has arrived: the store is replaced."""
        listed, version = self._lists.pop(kind, ([], None))
        if version is None:
            return
        for stored in listed:
            self.stores.seen(kind, stored)
        for gone in self.stores.of(kind).replace({each["metadata"]["uid"] for each in listed}, version=version):
            self.stores.changed(kind, gone, deleted=True)

    def watch_tells(self, kind: Resource, *, until: int | None = None) -> None:
        """The watch of a kind tells what had happened up to a tick, or everything."""
        pending = self.pending[kind]
        while pending and (until is None or pending[0].tick <= until):
            told = pending.popleft()
            self._past[kind].append(told)
            self.stores.seen(kind, told.stored, deleted=told.gone)

    def watch_repeats(self, kind: Resource, *, back: int) -> None:
        """The watch tells an event a second time; `back`: how many others it told since."""
        if len(self._past[kind]) > back:
            told = self._past[kind][-1 - back]
            self.stores.seen(kind, told.stored, deleted=told.gone)

    def watch_loses(self, kind: Resource) -> None:
        """What the watch has not told yet is lost; the kind is listed anew, and the list is on its way."""
        self.pending[kind].clear()
        self.list_begins(kind)

    # What it does

    def begins(self, key: Key) -> bool:
        """Begin a reconcile, up to its first call; False when the work queue does not let it."""
        others = [each for each in self.running if each.group == key.group]
        if key in others or (others and (key.excludes_group or any(each.excludes_group for each in others))):
            return False
        self.running[key] = self._reconcile(key)  # type: ignore[assignment]
        self._send(key)
        return True

    def goes_on(self, key: Key, *, answered: bool = True) -> None:
        """Do the call before which a reconcile stands. `answered`: False when the answer to it is lost."""
        if key not in self.running:
            return
        kube = self._world.kube
        kube.answers = self.stores if answered else None
        if not answered:
            kube.after = _lose
        try:
            self._send(key)
        finally:
            kube.answers, kube.after = None, lambda call: None

    def looks(self, key: Key) -> None:
        """Reconcile from beginning to end, or end a reconcile that is under way."""
        if key not in self.running and not self.begins(key):
            return
        for _ in range(MOST_CALLS):
            if key not in self.running:
                return
            self.goes_on(key)
        raise AssertionError(f"the reconcile of {key} has no end")

    def stands_before(self, key: Key, verb: str, kind: str) -> None:
        """Reconcile up to a call, which is not done yet. Raises AssertionError when there is no such call."""
        assert self.begins(key)
        while key in self.running:
            call = self._world.kube.next_call
            assert call is not None
            if (call.verb, call.kind) == (verb, kind):
                return
            self.goes_on(key)
        raise AssertionError(f"the reconcile of {key} does not {verb} a {kind}")

    def ends(self) -> None:
        """The process is no more."""
        for coroutine in self.running.values():
            coroutine.close()
        self.running = {}

    def _send(self, key: Key) -> None:
        try:
            self.running[key].send(None)
        except StopIteration:
            del self.running[key]
        except KubeError:
            del self.running[key]  # it is tried again by the next look


def _lose(_: object) -> None:
    raise Unavailable("no answer")


@dataclass
class LaggingWorld(World):
    """Is a world without lag at first, to be prepared; with `begin` the time of lags begins. Lags are in ticks."""

    def __post_init__(self) -> None:
        self.begun = False
        super().__post_init__()
        self.tick = 0
        self.lags: Mapping[str, int] = {}
        self.looks_every = 0
        """In how many ticks the operator looks at everything by itself; 0: never."""
        self.late: list[tuple[Operator, Key]] = []
        """Reconciles of who held the Lease before: each has one call under way."""
        self.pods_are_late = False
        """Whether the Job controller makes no pods for now."""
        self._distributed = 0
        self._had_pod: set[str] = set()  # uids of Jobs
        self._pods_made = 0
        self._lost_nodes: set[str] = set()
        self.laws = Laws()

    def begin(self, lags: Mapping[str, int] | None = None) -> None:
        """From now on the operator does only what it is told to do; `lags`: of the watches, by plural, 0 by default."""
        self.begun, self.lags = True, lags or {}
        self._distributed = len(self.kube.log)
        self.laws.begin(self.kube.log)
        self.operator = Operator(self)
        self.standby = Operator(self)

    def settle(self) -> None:
        if not self.begun:
            super().settle()

    def _others(self) -> bool:
        return self.begun or super()._others()

    def seconds(self) -> float:
        """A clock that only rises."""
        return (self.now - START).total_seconds()

    def context_of(self, stores: Stores) -> Any:
        """Give the context of a process with these stores."""
        return replace(self._context(), stores=stores)

    # What happens to the operator

    def watch_stands_still(self, kind: Resource) -> None:
        """The watch of a kind tells nothing until it is told to."""
        self.lags = {**self.lags, kind.plural: 1_000_000}

    def watch_is_prompt(self, kind: Resource) -> None:
        """The watch of a kind tells everything within a tick."""
        self.lags = {**self.lags, kind.plural: 0}

    def passes(self) -> None:
        """A tick of a second passes: everybody does what is due, and what must never be is looked for."""
        self.now += timedelta(seconds=1)
        self.pods_stop(after=GRACE_SECONDS)
        self._make_pods()
        for kind, gone, stored in self.kube.log[self._distributed :]:
            resource = next((each for each in WATCHED if each.kind == kind), None)
            if resource is not None:
                self.operator.pending[resource].append(_Told(self.tick, gone, stored))
        self._distributed = len(self.kube.log)
        for resource in WATCHED:
            self.operator.watch_tells(resource, until=self.tick - self.lags.get(resource.plural, 0))
        self.tick += 1
        if self.looks_every and self.tick % self.looks_every == 0:
            self.operator_looks_at_everything()
        self.laws.check(self)

    def keys(self) -> list[Key]:
        """Everything that there is to look at."""
        runs = [run_key(stored["metadata"]["name"]) for stored in self.kube.all(TRAINING_RUNS)]
        plugins = [Key("Plugin", NAMESPACE, stored["metadata"]["name"], "") for stored in self.kube.all(PLUGINS)]
        return [*plugins, PROJECT, *runs]

    def operator_looks_at_everything(self) -> None:
        """The operator reconciles all that there is, but for what it is at already."""
        for key in self.keys():
            if key not in self.operator.running:
                self.operator.looks(key)

    def operator_is_killed(self) -> None:
        """The process ends where its reconciles stand, and a new one starts: it reads everything anew."""
        self.operator.ends()
        self.passes()
        self._distributed = len(self.kube.log)
        self.operator = Operator(self)

    def lease_is_lost(self, *, arrivals_after: Resource | None = None, late_calls: int = 1) -> None:
        """Another process takes the Lease, and reads every store anew, on top of what it knew.

        Of each reconcile of the former holder one call is under way. `arrivals_after`: the kind after whose list
        `late_calls` calls of each arrive, while the other kinds are still to be listed.
        """
        self.passes()
        former, self.operator = self.operator, self.standby
        for other, _ in self.late:
            other.ends()
        self.late = [(former, key) for key in former.running]
        self._distributed = len(self.kube.log)
        for kind in WATCHED[::-1]:  # Jobs and pods first: what follows from them is written into runs
            self.operator.list_begins(kind)
            self.operator.list_ends(kind)
            if kind is arrivals_after:
                for _ in range(late_calls):
                    for other, key in self.late:
                        self._arrives(other, key)
                self.late_calls_are_lost()
        self.standby = Operator(self)

    def late_call_arrives(self) -> None:
        """A call that the former holder of the Lease had under way arrives; it does nothing more after it."""
        if self.late:
            other, key = self.late.pop(0)
            self._arrives(other, key)
            if key in other.running:
                other.running.pop(key).close()

    def _arrives(self, other: Operator, key: Key) -> None:
        before = len(self.kube.log)
        other.goes_on(key)
        self.laws.late.update(range(before, len(self.kube.log)))

    def late_calls_are_lost(self) -> None:
        """What the former holder had under way does not arrive any more."""
        for other, _ in self.late:
            other.ends()
        self.late = []

    # What users do

    def edit(self, name: str, **spec: Any) -> None:
        """A user changes the spec of a run, if it is there."""
        stored = self.kube.find(TRAINING_RUNS, name)
        if stored is not None and {**stored["spec"], **spec} != stored["spec"]:
            stored["spec"] |= spec
            stored["metadata"]["generation"] += 1
            self.kube.put(stored)

    def job_is_deleted(self, name: str) -> None:
        """A user deletes the newest Job of a run, if it has one; its pods are told to end."""
        jobs = [stored for stored in self.kube.all(JOBS) if _run_of(stored) == name]
        if jobs:
            newest = max(jobs, key=lambda stored: int(stored["metadata"]["resourceVersion"]))
            self.kube.delete_now(JOBS, newest["metadata"]["name"])

    # What the cluster does

    def pods_of(self, job: str) -> list[Manifest]:
        """Give the pods of the Job that has the name now."""
        stored = self.job(job)
        return [] if stored is None else [pod for pod in self.kube.all(PODS) if _owner_of(pod) == _uid(stored)]

    def live_pods(self, name: str) -> list[Manifest]:
        """Give the pods of a run that have not ended, the newest last."""
        found = [pod for pod in self.kube.all(PODS) if _run_of(pod) == name and not _has_ended(pod)]
        return sorted(found, key=lambda pod: int(pod["metadata"]["name"].rpartition("x")[2]))

    def pod_begins(self, name: str) -> None:
        """The container of a run's pod starts."""
        for pod in self.live_pods(name):
            if pod["status"]["phase"] == "Pending":
                container = pod["spec"]["containers"][0]["name"]
                state = {"running": {"startedAt": iso(self.now)}}
                pod["status"] = {"phase": "Running", "containerStatuses": [{"name": container, "state": state}]}
                self.kube.put(pod)

    def pod_reports(self, name: str) -> None:
        """A run's pod says that it trains, if it runs."""
        stored = self.kube.find(TRAINING_RUNS, name)
        running = any(pod["status"]["phase"] == "Running" for pod in self.live_pods(name))
        if running and stored is not None and stored.get("status", {}).get("attempts", {}).get("current"):
            self.pod_says(name, dataReport={"applicable": True}, trainingStart={})

    def pod_ends(self, name: str, code: int, **status: str) -> None:
        """The container of a run's pod ends; `status`: what the kubelet says beside it."""
        self.pod_begins(name)
        for pod in self.live_pods(name):
            if pod["status"]["phase"] == "Running":
                self._end(pod, code, **status)

    def pods_stop(self, *, after: float = 0) -> None:
        """The pods that were told to end so many seconds ago have saved and stopped, unless their node is lost."""
        for pod in self.kube.all(PODS):
            told = parse_time(pod["metadata"].get("deletionTimestamp"))
            if told is None or pod["spec"]["nodeName"] in self._lost_nodes:
                continue
            if self.now >= told + timedelta(seconds=after):
                if not _has_ended(pod):
                    self._end(pod, 75 if pod["status"]["phase"] == "Running" else 137)
                self.kube.objects.pop(("Pod", NAMESPACE, pod["metadata"]["name"]))

    def node_is_lost(self, name: str) -> None:
        """The node of a run's pod does not answer any more: its pods are told to end, and nobody says that they did."""
        for pod in self.live_pods(name):
            self._lost_nodes.add(pod["spec"]["nodeName"])
            self.kube.delete_now(PODS, pod["metadata"]["name"])

    def jobs_are_judged(self) -> None:
        """The Job controller says how Jobs have ended whose pods have."""
        for job in self.kube.all(JOBS):
            pods = [pod for pod in self.kube.all(PODS) if _owner_of(pod) == _uid(job)]
            if _is_over(job) or job["spec"].get("suspend") or "deletionTimestamp" in job["metadata"]:
                continue
            if any(_has_ended(pod) for pod in pods):
                job_is_judged(self, job["metadata"]["name"])
            elif not pods and _uid(job) in self._had_pod:
                failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}
                self.kube.put({**job, "status": {"conditions": [failed]}})

    def time_passes(self, seconds: float) -> None:
        """Time passes, in which pods that were told to end do so."""
        self.pods_stop()
        self.now += timedelta(seconds=seconds)

    def _end(self, pod: Manifest, code: int, **status: str) -> None:
        container = pod["spec"]["containers"][0]["name"]
        state = {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": "" if code else self._last_word(pod),
            "startedAt": iso(self.now),
        }
        pod["status"] |= {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": container, "state": {"terminated": state}}],
            **status,
        }
        self.kube.put(pod)

    def _last_word(self, pod: Manifest) -> str:
        record = TerminationRecord(outcome="succeeded", digest=DIGEST, model_name="m", final_loss=0.4, samples=100)
        if pod["metadata"]["labels"][contract.ROLE_LABEL] == "publish" and self.pods_of(_job_of(pod)):
            told = self.told_to_publish(str(_run_of(pod)))
            record = record.model_copy(
                update={"model_name": told["modelName"], "promoted": told["promote"], "bytes": 1000}
            )
        return record.model_dump_json(by_alias=True, exclude_none=True)

    def _make_pods(self) -> None:
        """The Job controller makes the pods of Jobs that go on, and tells those of suspended ones to end."""
        for job in self.kube.all(JOBS):
            pods = [pod for pod in self.kube.all(PODS) if _owner_of(pod) == _uid(job)]
            if job["spec"].get("suspend"):
                self._had_pod.discard(_uid(job))
                for pod in pods:
                    if "deletionTimestamp" not in pod["metadata"] and not _has_ended(pod):
                        self.kube.delete_now(PODS, pod["metadata"]["name"])
            elif not (pods or self.pods_are_late or _uid(job) in self._had_pod or _is_over(job)):
                self._make_pod(job)

    def _make_pod(self, job: Manifest) -> None:
        self._pods_made += 1
        self._had_pod.add(_uid(job))
        metadata, template = job["metadata"], job["spec"]["template"]
        self.kube.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{metadata['name']}-x{self._pods_made}",
                    "labels": {**template["metadata"]["labels"], contract.JOB_NAME_LABEL: metadata["name"]},
                    "annotations": template["metadata"].get("annotations", {}),
                    "ownerReferences": [{"uid": metadata["uid"], "kind": "Job", "name": metadata["name"]}],
                    "finalizers": ["kubelet.test/grace"],  # so that a deletion only tells it to end
                },
                "spec": {
                    "nodeName": f"node-{self._pods_made}",
                    "containers": [{"name": each["name"]} for each in template["spec"]["containers"]],
                },
                "status": {"phase": "Pending"},
            }
        )
        self.kube.put({**job, "status": {**job.get("status", {}), "active": 1}})

    # How it ends

    def comes_to_rest(self) -> None:
        """Everything is told, time passes, pods train to their ends: every run must end."""
        self.lags, self.looks_every, self.pods_are_late = {}, 0, False
        while self.late:
            self.late_call_arrives()
        for key in list(self.operator.running):
            self.operator.looks(key)
        for kind in WATCHED:
            self.operator.list_begins(kind)
            self.operator.list_ends(kind)
        for _ in range(60):
            for name in self.runs():
                self.edit(name, suspend=False)
            self.passes()
            self.operator_looks_at_everything()
            self.passes()
            assert not self._stray_jobs(), f"Jobs of what has ended go on: {self._stray_jobs()}"
            for name in self.runs():
                self.pod_begins(name)
                self.passes()
                self.pod_ends(name, 0)
            self.jobs_are_judged()
            self.time_passes(15)
            self.passes()
            if all(self.run(name).get("status", {}).get("phase") in FINAL for name in self.runs()):
                return
        raise AssertionError({name: self.run(name).get("status") for name in self.runs()})

    def _stray_jobs(self) -> list[str]:
        """Name Jobs that go on although their run has ended, or is at a later attempt."""
        return [
            job["metadata"]["name"]
            for job in self.kube.all(JOBS)
            if _run_of(job) in self.runs() and not _is_over(job) and self._is_stray(job)
        ]

    def _is_stray(self, job: Manifest) -> bool:
        status = self.run(str(_run_of(job))).get("status", {})
        number = int(job["metadata"]["labels"].get(contract.ATTEMPT_LABEL, 0)) or None
        late = number is not None and number < status.get("attempts", {}).get("current", 0)
        return late or status.get("phase") in FINAL


@dataclass
class Laws:
    """What must never be, looked for in everything that is written."""

    checked: int = 0
    late: set[int] = field(default_factory=set)
    """Positions in the log of what was written by who did not hold the Lease any more."""
    runs: dict[str, Manifest] = field(default_factory=dict)
    """The newest state of each run."""
    suspended: set[str] = field(default_factory=set)
    """Runs that a user has had stand still."""
    jobs: dict[tuple[str, int], str] = field(default_factory=dict)
    """Uid of the Job of each attempt, by its run and number."""
    written: set[tuple[str, int]] = field(default_factory=set)
    """Attempts of which a run's status has said that their Job was made."""
    made_late: set[str] = field(default_factory=set)
    """Uids of Jobs that were made again by a call that was under way when the Lease was lost. No reconcile can keep
    that from happening, for a creation has no precondition on another object: their pods do not count."""
    going_on: set[str] = field(default_factory=set)
    """Uids of Jobs that have not ended, of those that were the first of their attempt."""
    made_again: list[tuple[str, int]] = field(default_factory=list)
    """Attempts whose Job was made again, as it may be while no status says that it was made."""

    def begin(self, log: Sequence[object]) -> None:
        """Look at what is written from now on."""
        self.checked = len(log)

    def check(self, world: LaggingWorld) -> None:
        """Look at what was written since the last check, and at what there is now."""
        for position, (kind, gone, stored) in enumerate(world.kube.log[self.checked :], start=self.checked):
            if kind == "TrainingRun" and not gone:
                self._written(stored)
            elif kind == "Job" and stored["metadata"]["labels"].get(contract.ROLE_LABEL) == "train":
                self._job(stored, gone=gone, late=position in self.late)
        self.checked = len(world.kube.log)
        for name in world.runs():
            live = [pod["metadata"]["name"] for pod in world.live_pods(name) if _owner_of(pod) not in self.made_late]
            assert len(live) <= 1, f"run {name} has two live pods: {live}"
        active = list(self._active(world))
        assert len(active) <= 1, f"two runs of one entry are active: {active}"

    def _active(self, world: LaggingWorld) -> Iterator[str]:
        for stored in world.kube.all(TRAINING_RUNS):
            name, status = stored["metadata"]["name"], stored.get("status", {})
            if status.get("phase") in FINAL:
                continue
            trains = any(_run_of(job) == name and not _is_over(job) for job in world.kube.all(JOBS))
            if trains or any(
                (each["type"], each["status"]) == ("Accepted", "True") for each in status.get("conditions", ())
            ):
                yield name

    def _written(self, stored: Manifest) -> None:
        name, status = stored["metadata"]["name"], stored.get("status", {})
        before = self.runs.get(name, {}).get("status", {})
        ended, number = before.get("phase") in FINAL, status.get("attempts", {}).get("current", 0)
        assert not ended or status.get("phase") == before["phase"], f"run {name} has ended, and goes on"
        if stored["spec"].get("suspend"):
            self.suspended.add(name)
        known = before.get("attempts", {}).get("current", 0)
        assert number >= known, f"run {name} was at attempt {known}, and is at {number}"
        if number > max(known, 1):
            assert number == max(known, 1) + 1  # the first may have been made and lost before anything was written
            assert status.get("failure") or name in self.suspended, f"nothing says why {name} is at attempt {number}"
            goes_on = self.jobs.get((name, number - 1)) in self.going_on
            assert not goes_on, f"run {name} is at attempt {number}, and the Job of {number - 1} goes on"
        if (name, number) in self.jobs and not status["attempts"].get("notBefore"):
            self.written.add((name, number))
        self.runs[name] = stored

    def _job(self, job: Manifest, *, gone: bool, late: bool) -> None:
        uid = _uid(job)
        if gone or _is_over(job):
            self.going_on.discard(uid)
        elif uid not in self.jobs.values():
            known = set(self.jobs)
            self._made(job, late=late)
            if set(self.jobs) != known:
                self.going_on.add(uid)

    def _made(self, job: Manifest, *, late: bool) -> None:
        run, number = str(_run_of(job)), int(job["metadata"]["labels"][contract.ATTEMPT_LABEL])
        attempt, name = (run, number), job["metadata"]["name"]
        status = self.runs[run].get("status", {}) if run in self.runs else {}
        known = status.get("attempts", {}).get("current", 0)
        if status.get("phase") in FINAL:
            assert late, f"Job {name} was made for a run that has ended"
            self.jobs[attempt] = _uid(job)
            return  # it must be removed: nothing comes to rest before
        assert number in (1, known) or (run in self.suspended and number == known + 1), f"nothing wants Job {name}"
        if attempt in self.jobs:
            assert late or attempt not in self.written, f"Job {name} was made again"
            if late:
                self.made_late.add(_uid(job))
            self.made_again.append(attempt)
        self.jobs[attempt] = _uid(job)


def _uid(stored: Manifest) -> str:
    return str(stored["metadata"]["uid"])


def _run_of(stored: Manifest) -> str | None:
    label = stored["metadata"].get("labels", {}).get(contract.RUN_LABEL)
    return None if label is None else str(label)


def _job_of(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"][contract.JOB_NAME_LABEL])


def _owner_of(pod: Manifest) -> str:
    return str(pod["metadata"]["ownerReferences"][0]["uid"])


def _has_ended(pod: Manifest) -> bool:
    return pod["status"].get("phase") in ENDED


def _is_over(job: Manifest) -> bool:
    ends = {each["type"] for each in job.get("status", {}).get("conditions", ()) if each["status"] == "True"}
    return bool(ends & {"Complete", "Failed"})
