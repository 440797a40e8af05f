"""Write what the operator of one commit stores of runs of every phase: `README.md` says how to run it.

It drives that commit's own `World`, so it uses only what each version of `world.py` has.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
from builders import make_plugin, make_project, make_run, make_service_plugin
from chorus_api.run_config import TerminationRecord
from fakes import Call
from world import Killed, World

# The client of the API server is a package of its own since a later commit than some that this is run for.
_PACKAGE = "chorus_kube" if importlib.util.find_spec("chorus_kube") else "chorus_operator.kube"
resources = importlib.import_module(f"{_PACKAGE}.resources")

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DIGEST = "sha256:" + "cd" * 32
TYPES = ("lora", "container", "service")
RUN = "shop-p-1"
OF_RUN = f"{RUN}(-[0-9a-f]{{5}})?"
"""How names of the run's children begin: with digits of its uid, or as they were before those."""

Step = Callable[[World, str], None]


class Uids:
    """Uids as the API server makes them: 32 hex digits that tell nothing of the object."""

    def __init__(self) -> None:
        self._put = fakes.FakeKube.put
        self._made = 0

    def put(self, kube: fakes.FakeKube, manifest: dict[str, Any]) -> dict[str, Any]:
        metadata = manifest["metadata"]
        place = (manifest["kind"], metadata.get("namespace", "default"), metadata["name"])
        if "uid" not in metadata and place not in kube.objects:
            self._made += 1
            digits = hashlib.sha256(f"{self._made} {place}".encode()).hexdigest()
            uid = "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:32]))
            manifest = {**manifest, "metadata": {**metadata, "uid": uid}}
        return self._put(kube, manifest)


def plugin_of(kind: str) -> dict[str, Any]:
    """The Plugin `p` of a type."""
    if kind == "lora":
        return make_plugin("p")
    if kind == "service":
        return make_service_plugin("p")
    container = {"image": "registry.test/p:1", "describe": False}
    return make_plugin("p", spec={"type": "container", "lora": None, "container": container})


def begin(world: World, kind: str, **spec: Any) -> None:
    """Apply a Project with one plugin of the type."""
    world.put(plugin_of(kind), make_project(plugins=["p"], spec=spec))
    if kind == "service":
        stored = world.plugin("p")
        report = {"generation": 1, "time": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        world.kube.put({**stored, "status": {**stored["status"], "report": report}})
        world.settle()


def job_of(world: World, role: str) -> str:
    """The newest Job of a role."""
    return world.jobs(role)[-1]


def attempt_role(kind: str) -> str:
    return "exchange" if kind == "service" else "train"


def preparing(world: World, kind: str) -> None:
    begin(world, kind)
    world.pod_starts(job_of(world, "prepare"))


def accepted(world: World, kind: str) -> None:
    begin(world, kind)
    world.frame_ready("shop")


def waiting_for_a_node(world: World, kind: str) -> None:
    accepted(world, kind)
    world.pod_waits(job_of(world, attempt_role(kind)), unschedulable="0/1 nodes are available.")


def waiting_for_its_turn(world: World, kind: str) -> None:
    training(world, kind)
    world.put(make_run("second", plugin="p"))


def fetching(world: World, kind: str) -> None:
    world.put(make_plugin("p", spec={"lora": {"baseModel": {"uri": "hf://a/b"}}}), make_project(plugins=["p"]))
    world.frame_ready("shop")
    world.pod_starts(job_of(world, "fetch"))


def started(world: World, kind: str) -> None:
    accepted(world, kind)
    world.pod_starts(job_of(world, attempt_role(kind)))
    if kind == "service":
        world.pod_says(RUN, exchange={"podUid": "exchange", "certificate": CERTIFICATE})


def training(world: World, kind: str) -> None:
    started(world, kind)
    world.pod_says(RUN, dataReport={"applicable": True}, trainingStart={}, progress={"percent": 10})


def retrying(world: World, kind: str) -> None:
    training(world, kind)
    if kind == "service":
        world.pod_says(RUN, error={"detail": "no GPU is free", "retryable": True})
    else:
        world.job_ends(job_of(world, "train"), exit_code=75)


def publishing(world: World, kind: str) -> None:
    training(world, kind)
    if kind != "lora":
        world.pod_says(RUN, modelName={"modelName": "best", "digest": DIGEST})
    if kind != "service":
        record = TerminationRecord(outcome="succeeded", digest=DIGEST, final_loss=0.4, eval_loss=0.5, samples=100)
        world.job_ends(job_of(world, "train"), record=record)
    world.pod_starts(job_of(world, "publish"))


def trained(world: World, kind: str) -> None:
    publishing(world, kind)
    record = TerminationRecord(
        outcome="succeeded",
        digest=DIGEST,
        model_name=f"{RUN}-model",
        final_loss=0.4,
        eval_loss=0.5,
        samples=100,
        bytes=1000,
        promoted=True,
    )
    world.job_ends(job_of(world, "publish"), record=record)


def suspended(world: World, kind: str) -> None:
    training(world, kind)
    stored = world.run(RUN)
    world.put({**stored, "spec": {**stored["spec"], "suspend": True}})
    for pod in world.kube.all(resources.PODS):  # they save and go
        world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.settle()


def cancelled(world: World, kind: str) -> None:
    training(world, kind)
    stored = world.run(RUN)
    world.put({**stored, "spec": {**stored["spec"], "cancel": True}})


def failed(world: World, kind: str) -> None:
    training(world, kind)
    if kind == "service":
        world.pod_says(RUN, error={"detail": "the model does not converge", "retryable": False})
    else:
        world.job_ends(job_of(world, "train"), exit_code=1)


def not_applicable(world: World, kind: str) -> None:
    started(world, kind)
    world.pod_says(RUN, dataReport={"applicable": False, "reason": "there is no outcome"})
    if kind == "lora":
        world.job_ends(job_of(world, "train"), exit_code=69)


def cut_off_after(kind: str, verb: str, name: str) -> Step:
    """Let the operator end right after the first call of that kind and verb whose name matches a pattern."""

    def step(world: World, plugin: str) -> None:
        ended: list[Call] = []

        def after(call: Call) -> None:
            if not ended and (call.kind, call.verb) == (kind, verb) and re.fullmatch(name, call.name):
                ended.append(call)
                raise Killed

        def before(call: Call) -> None:
            if ended:
                raise Killed

        world.kube.after, world.kube.before = after, before
        try:
            accepted(world, plugin)
        except AssertionError:  # "the operator does not come to rest": it is dead
            assert ended
            return
        raise AssertionError(f"no call {verb} {kind} {name}")

    return step


STATES: dict[str, Step] = {
    "accepted": accepted,
    "waiting-for-a-node": waiting_for_a_node,
    "waiting-for-its-turn": waiting_for_its_turn,
    "started": started,
    "training": training,
    "retrying": retrying,
    "publishing": publishing,
    "trained": trained,
    "suspended": suspended,
    "cancelled": cancelled,
    "failed": failed,
    "not-applicable": not_applicable,
    "cut-off-after-freezing": cut_off_after("ConfigMap", "create", f"{OF_RUN}-config"),
    "cut-off-after-the-job": cut_off_after("Job", "create", f"{OF_RUN}-1"),
}
LORA_STATES: dict[str, Step] = {
    "preparing": preparing,
    "fetching": fetching,
    "cut-off-after-the-prepare-job": cut_off_after("Job", "create", ".*-prepare-.*"),
    "cut-off-after-the-claim": cut_off_after("PersistentVolumeClaim", "create", ".*-data"),
}


def main(folder: Path) -> None:
    """Write one file a state and type of plugin."""
    uids = Uids()
    fakes.FakeKube.put = lambda self, manifest: uids.put(self, manifest)  # type: ignore[method-assign]
    wanted = [(kind, name, step) for kind in TYPES for name, step in STATES.items()]
    for kind, name, step in wanted + [("lora", name, step) for name, step in LORA_STATES.items()]:
        world = World()
        step(world, kind)
        objects = [stored for (what, _, _), stored in world.kube.objects.items() if what != "Event"]
        lines = ",\n".join(json.dumps(stored, sort_keys=True) for stored in objects)
        text = f'{{"now": "{world.now.isoformat()}", "objects": [\n{lines}\n]}}\n'
        (folder / f"{kind}-{name}.json").write_text(text, encoding="utf-8")
        phases = {
            run["metadata"]["name"]: run.get("status", {}).get("phase")
            for run in world.kube.all(resources.TRAINING_RUNS)
        }
        counts = len(world.kube.all(resources.JOBS)), len(world.kube.all(resources.CONFIG_MAPS))
        print(f"{kind} {name}: {phases}, {counts[0]} Jobs, {counts[1]} ConfigMaps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
