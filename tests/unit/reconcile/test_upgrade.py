"""What an older version has begun goes on: `tests/data/upgrade` holds what each stored, for each state of a run.

The children of e48b357 carry no digits of their owner's uid. A run that was accepted keeps the names that it has, and
so do a preparation, a base model that is being fetched, and the claim. Both versions froze only what pods read: the
rest is taken once from the Plugin as it is, and stored with it under another name.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chorus_api import contract
from chorus_api.phases import FINAL
from chorus_api.run_config import TerminationRecord
from chorus_kube.resources import CLAIMS, CONFIG_MAPS, JOBS, TRAINING_RUNS
from fakes import Call
from world import World

STORED = Path(__file__).parents[2] / "data" / "upgrade"
STATES = sorted(f"{path.parent.name}/{path.stem}" for path in STORED.glob("*/*.json"))
FIRST, LAST = "e48b357", "9322333"
RUN = "shop-p-1"
DIGEST = "sha256:" + "cd" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CUT_OFF_BEFORE = {
    "lora-cut-off-after-the-claim": 2,  # the prepare Job and its ConfigMap
    "lora-cut-off-after-freezing": 1,  # the first attempt
    "container-cut-off-after-freezing": 1,
    "service-cut-off-after-freezing": 2,  # with the ConfigMap of its exchange
}
"""Jobs and ConfigMaps that the older version had yet to make when it was stopped."""
BEFORE_ACCEPTANCE = {"lora-preparing", "lora-cut-off-after-the-prepare-job", "lora-cut-off-after-the-claim"}
ENDS = {"failed": "failed", "not-applicable": "notApplicable", "cancelled": "cancelled"}


class Upgraded(World):
    """A world in which an older version was at work until now."""

    def __init__(self, state: str) -> None:
        stored = json.loads((STORED / f"{state}.json").read_text(encoding="utf-8"))
        super().__init__(now=datetime.fromisoformat(stored["now"]), claims=())
        for manifest in stored["objects"]:
            self.kube.put(manifest)
        self.kind = state.partition("/")[2].partition("-")[0]
        self.before = {name: self.uid(name) for name in self.made()}
        self.attempts = Counter(self._attempt_of(job) for job in self.before)
        """Jobs that were ever made for each attempt of each run."""
        self.kube.after = self._note

    def _note(self, call: Call) -> None:
        if (call.verb, call.kind) == ("create", "Job"):
            self.attempts[self._attempt_of(call.name)] += 1

    def _attempt_of(self, job: str) -> tuple[str, ...]:
        stored = self.job(job)
        assert stored is not None
        labels = stored["metadata"]["labels"]
        return tuple(labels.get(name, "") for name in (contract.ROLE_LABEL, contract.RUN_LABEL, contract.ATTEMPT_LABEL))

    def made(self) -> list[str]:
        """Name all Jobs."""
        return [job["metadata"]["name"] for job in self.kube.all(JOBS)]

    def uid(self, job: str) -> str:
        found = self.job(job)
        assert found is not None
        return str(found["metadata"]["uid"])

    def open_job(self, *roles: str) -> str | None:
        """Name a Job of a role that has not ended."""
        for job in self.kube.all(JOBS):
            ended = job.get("status", {}).get("conditions")
            if job["metadata"]["labels"][contract.ROLE_LABEL] in roles and not ended and not job["spec"].get("suspend"):
                return str(job["metadata"]["name"])
        return None

    def to_the_end(self) -> None:
        """Let pods do what they do until no run goes on."""
        for _ in range(20):
            self.later(60)
            runs = [run for run in self.kube.all(TRAINING_RUNS) if run.get("status", {}).get("phase") not in FINAL]
            if self.kube.all(TRAINING_RUNS) and not runs:
                return
            self._one_step()
        raise AssertionError({run["metadata"]["name"]: run.get("status") for run in runs})

    def _one_step(self) -> None:
        for run in self.kube.all(TRAINING_RUNS):
            if run.get("status", {}).get("phase") == "suspended":
                self.put({**run, "spec": {**run["spec"], "suspend": False}})
        if (job := self.open_job("prepare")) is not None:
            self.frame_ready("shop")
            self.job_ends(job)
        elif (job := self.open_job("fetch")) is not None:
            self.job_ends(job, record=TerminationRecord(outcome="succeeded"))
        elif (job := self.open_job("publish")) is not None:
            self.publish(self.run_of(job))
        elif (job := self.open_job("exchange", "train")) is not None:
            self._train(job)

    def run_of(self, job: str) -> str:
        stored = self.job(job)
        assert stored is not None
        return str(stored["metadata"]["labels"][contract.RUN_LABEL])

    def _train(self, job: str) -> None:
        run = self.run_of(job)
        if not any(pod["status"]["phase"] == "Running" for pod in self.pods_of(job)):
            for pod in self.pods_of(job):
                self.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
            self.pod_starts(job)
        if self.kind == "service":
            self.pod_says(run, exchange={"podUid": "exchange", "certificate": CERTIFICATE})
        self.pod_says(run, dataReport={"applicable": True}, trainingStart={})
        if self.kind != "lora":
            self.pod_says(run, modelName={"modelName": "best", "digest": DIGEST})
        if self.kind != "service":
            record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=100)
            self.job_ends(job, record=record)

    def publish(self, run: str, *, eval_loss: float | None = 0.5) -> None:
        """Publish, also when the pod had started before."""
        for pod in self.pods_of(self.publication(run)):
            self.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
        super().publish(run, eval_loss=eval_loss if self.kind == "lora" else None)


def created(world: World, kind: str) -> list[str]:
    """Name what the new operator has made."""
    return [call.name for call in world.kube.calls if (call.verb, call.kind) == ("create", kind)]


@pytest.mark.parametrize("state", STATES)
def test_a_run_of_an_older_version_goes_on_to_its_end_with_the_children_it_has(state: str) -> None:
    world = Upgraded(state)
    there, claims = (
        {key[2] for key in world.kube.objects},
        {each["metadata"]["name"] for each in world.kube.all(CLAIMS)},
    )
    world.settle()
    assert_nothing_is_made_again(world, state, there, claims)
    world.to_the_end()
    assert world.phase(RUN) == next((end for name, end in ENDS.items() if state.endswith(name)), "TRAINED")
    assert set(world.attempts.values()) == {1}, "a second Job for an attempt, a look, a publication or a base model"
    version, _, name = state.partition("/")
    resolved = world.run(RUN)["status"]["resolved"]
    assert (resolved["configMap"] in (f"{RUN}-frozen", f"{RUN}-config")) is (
        version == FIRST and name not in BEFORE_ACCEPTANCE
    )
    assert (resolved.get("digest") is None) is name.endswith(("trained", "failed", "not-applicable", "cancelled"))
    for name, uid in world.before.items():
        still = world.job(name)
        assert still is None or still["metadata"]["uid"] == uid, f"{name} was made again"


def assert_nothing_is_made_again(world: Upgraded, state: str, there: set[str], claims: set[str]) -> None:
    """The new operator has looked at what the older version left, and has made only what that had yet to make."""
    made = [*created(world, "Job"), *created(world, "ConfigMap"), *created(world, "TrainingRun")]
    fresh = [name for name in made if name not in there and not name.endswith("-frozen")]
    assert len(fresh) == CUT_OFF_BEFORE.get(state.partition("/")[2], 0), fresh
    assert {claim["metadata"]["name"] for claim in world.kube.all(CLAIMS)} == claims
    if state.startswith(FIRST):
        assert world.project("shop")["status"]["claimName"] == "shop-data"


@pytest.mark.parametrize("kind", ["lora", "container", "service"])
def test_later_attempts_of_an_accepted_run_keep_the_names_and_later_runs_get_new_ones(kind: str) -> None:
    world = Upgraded(f"{FIRST}/{kind}-waiting-for-its-turn")
    world.to_the_end()
    stem = f"second-{world.run('second')['metadata']['uid'][:5]}"
    assert f"{RUN}-publish" in world.made()
    assert f"{stem}-pub" in world.made()
    assert world.run("second")["status"]["resolved"]["configMap"] == f"{stem}-frozen"
    retried = Upgraded(f"{FIRST}/{kind}-retrying")
    retried.settle()
    assert retried.open_job("train", "exchange") == f"{RUN}-2"


def test_a_result_that_an_older_replica_stores_meanwhile_counts() -> None:
    world = Upgraded(f"{FIRST}/lora-preparing")
    (job,) = world.jobs("prepare")
    world.settle()
    world.kube.put(_named(world, job.replace("-prepare-", "-frame-")))
    world.job_ends(job)
    assert world.project("shop")["status"]["dataset"]["configMap"] == job.replace("-prepare-", "-frame-")
    assert world.jobs("prepare") == [job]


def test_what_others_have_under_a_former_name_is_not_in_the_way() -> None:
    world = Upgraded(f"{FIRST}/lora-preparing")
    (job,) = world.jobs("prepare")
    stored = world.job(job)
    assert stored is not None
    world.kube.put({**stored, "metadata": {**stored["metadata"], "ownerReferences": []}})
    world.settle()
    uid = world.project("shop")["metadata"]["uid"]
    assert sorted(world.jobs("prepare")) == sorted([job, job.replace("shop-", f"shop-{uid[:5]}-")])


def _named(world: World, name: str) -> dict[str, Any]:
    """The result of the Project's look, under a name."""
    other = Upgraded(f"{FIRST}/lora-accepted")
    (result,) = [each for each in other.kube.all(CONFIG_MAPS) if "-frame-" in each["metadata"]["name"]]
    owner = {"kind": "Project", "name": "shop", "uid": world.project("shop")["metadata"]["uid"]}
    return {**result, "metadata": {"name": name, "ownerReferences": [owner]}}


def test_the_stored_states_cover_every_phase() -> None:
    runs = [run for state in STATES for run in Upgraded(state).kube.all(TRAINING_RUNS)]
    assert {run["status"]["phase"] for run in runs} == {"queued", "PREPROCESSING", "TRAINING", "suspended"} | FINAL


@pytest.mark.parametrize("state", [state for state in STATES if state.endswith("lora-training")])
def test_preparations_that_an_older_version_counted_as_looks_go_on_under_the_new_name(state: str) -> None:
    world = Upgraded(state)
    before = world.project("shop")["status"]["looks"]
    world.settle()
    status = world.project("shop")["status"]
    assert status["preparations"] == before
    assert "looks" not in status
    assert created(world, "Job") == []


ACCEPTED = [
    state for state in STATES if state.startswith(LAST) and state.endswith(("-training", "-started", "-accepted"))
]


@pytest.mark.parametrize("state", ACCEPTED)
def test_what_an_older_version_did_not_freeze_is_taken_once_from_the_plugin(state: str) -> None:
    world = Upgraded(state)
    stored = world.plugin("p")
    world.kube.put({**stored, "spec": {**stored["spec"], "retry": {"infrastructure": 7}}})
    world.settle()
    resolved = world.run(RUN)["status"]["resolved"]
    content = world.config_map(resolved["configMap"])
    assert json.loads(content["operator.json"])["retry"]["infrastructure"] == 7
    former = world.config_map(world.frozen(RUN).replace("-frozen", "-config"))
    assert json.loads(former["run.json"]).items() <= json.loads(content["run.json"]).items()
    world.kube.objects.pop(("Plugin", "default", "p"))
    world.settle()
    assert world.run(RUN)["status"]["resolved"] == resolved
    world.to_the_end()
    assert world.phase(RUN) == "TRAINED"


@pytest.mark.parametrize("state", ACCEPTED)
def test_a_plugin_that_is_gone_before_the_rest_could_be_taken_ends_the_run_by_its_name(state: str) -> None:
    world = Upgraded(state)
    world.kube.objects.pop(("Plugin", "default", "p"))
    world.settle()
    assert (world.phase(RUN), world.run(RUN)["status"]["reason"]) == ("failed", "PluginNotFound")
