r"""Measure what one write of a status costs the API server: with an owner for each field, and for each block.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" benchmarks/status_write.py

etcd and API server are the real processes. The definitions before and now stand side by side in groups of their own,
with the same objects: a run that reports nothing, one that does, and a Project with ten plugins. Their writes take
turns, so that both meet the same machine. Prints a Markdown table of CPU milliseconds of the API server for each write,
from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builders import make_condition, make_project, make_run
from crd_builders import Definition, definition_of, granular
from harness.apiserver import ControlPlane
from harness.binaries import kube_binaries
from harness.client import APPLY_PATCH, MERGE_PATCH, Api, Manifest

TIME = "2026-01-01T00:00:00Z"
TICKS = os.sysconf("SC_CLK_TCK")
BATCH = 50
CONDITIONS = (
    *("Accepted", "Applicable", "Blocked", "ParametersValid", "PodStarted", "PodsReady"),
    *("TrainingDataDelivered", "TrainingStarted"),
)
METRICS = {"train_loss": "0.41", "eval_loss": "0.52", "accuracy": "0.97"}


def _conditions(number: int) -> list[Manifest]:
    """The newest condition is another each time; the others stay."""
    *others, newest = (make_condition(kind) for kind in CONDITIONS)
    return [*others, newest | {"message": f"Pod home-soft-1-1-{number} trains on node-1."}]


def _run_status(number: int) -> Manifest:
    phase = ("PREPROCESSING", "TRAINING")[number % 2]
    return {"phase": phase, "reason": phase, "message": f"It is {phase}.", "conditions": _conditions(number)}


RUN_STATUS = _run_status(0) | {
    "id": "run_20260101_120000_1479",
    "observedGeneration": 1,
    "queuedTime": TIME,
    "startTime": TIME,
    "attempts": {"current": 1, "user": 0, "infrastructure": 0, "disruption": 0},
    "plugin": "soft",
    "resolved": {"configMap": "home-soft-1-frozen", "digest": "sha256:0", "hash": "ec71b709a7", "frame": "df-0123"},
    "shown": {"message": "It trains."},
    "checkpoint": {"step": 40, "time": TIME},
}


def _report(number: int) -> Manifest:
    said = {"time": TIME, "instance": "a"}
    return {
        "report": {
            "attempt": 1,
            "podUid": "14792cc0-d50b-474a-8f05-d63de7dcc605",
            "instances": ["a"],
            "sequence": number,
            "dataReport": said | {"sequence": 1, "applicable": True},
            "trainingStart": said | {"sequence": 2},
            "modelName": said | {"sequence": 3, "modelName": "soft", "digest": "sha256:0", "metrics": METRICS},
        }
    }


def _progress(number: int) -> Manifest:
    done = {"attempt": 1, "percent": number % 100, "step": number, "totalSteps": 300, "etaSeconds": 60, "loss": "0.4"}
    beside = {"metrics": METRICS, "instances": [{"instance": "a", "sequence": number}], "time": TIME}
    return {"progress": done | beside, "shown": {"percent": number % 100, "loss": "0.4"}}


def _project_status(number: int) -> Manifest:
    phase = ("PREPROCESSING", "TRAINING")[number % 2]
    rows = [
        {
            **{"name": f"p{row}", "run": f"home-p{row}-1", "sequence": 1, "triggerKey": "2529a51459"},
            **{"phase": phase, "applicable": True, "reason": phase, "message": f"It is {phase}.", "metrics": METRICS},
            **{"modelName": f"home-p{row}-0", "outdated": False},
        }
        for row in range(10)
    ]
    return {"phase": phase, "reason": phase, "message": f"It is {phase}.", "plugins": rows}


PROJECT_STATUS = _project_status(0) | {
    "id": 1301518353,
    "observedGeneration": 1,
    "conditions": [make_condition(kind) for kind in ("DatasetReady", "Degraded", "Ready")],
    "claimName": "home-data",
    "dataset": {"name": "df", "digest": "sha256:0", "rows": 100, "evalRows": 5, "columns": ["prompt", "response"]},
    "preparations": {"key": "ed3c8de90b", "number": 0, "endedTime": TIME, "frameNumber": 0},
    "leaderboard": [{"plugin": f"p{row}", "run": f"home-p{row}-0", "value": "0.5"} for row in range(10)],
    "latestModel": [
        {"plugin": f"p{row}", "name": f"m{row}", "run": f"r{row}", "uri": "pvc://c/models/m", "digest": "sha256:0"}
        for row in range(10)
    ],
}


@dataclass(frozen=True)
class Write:
    """One kind of write: of what, by whom, and what the n-th time. `applies`: server-side, else by merge patch."""

    title: str
    kind: str
    name: str
    manager: str
    status: Callable[[int], Manifest]
    applies: bool = False


WRITES = (
    Write("merge patch of a run that reports nothing", "TrainingRun", "silent", "chorus", _run_status),
    Write("merge patch of a run that reports", "TrainingRun", "speaking", "chorus", _run_status),
    Write("apply of its report", "TrainingRun", "speaking", "chorus-report", _report, applies=True),
    Write("apply of its progress", "TrainingRun", "speaking", "chorus-progress", _progress, applies=True),
    Write("merge patch of a Project with ten plugins", "Project", "home", "chorus", _project_status),
)
FIRST = (
    Write("", "TrainingRun", "silent", "chorus", lambda number: RUN_STATUS),
    Write("", "TrainingRun", "speaking", "chorus", lambda number: RUN_STATUS),
    Write("", "Project", "home", "chorus", lambda number: PROJECT_STATUS),
    *WRITES,
)


SCHEMAS: dict[str, Callable[[Definition], Definition]] = {
    "before": granular,
    "now": lambda definition: definition,
}


class Place:
    """The objects under one schema."""

    def __init__(self, api: Api, group: str, control_plane: ControlPlane) -> None:
        self._api = api
        self._group = group
        self._pid = control_plane.pids["kube-apiserver"]
        made = (make_project("home"), *(make_run(name, project="home") for name in ("silent", "speaking")))
        self._objects = {
            manifest["metadata"]["name"]: manifest | {"apiVersion": f"{group}/v1alpha1"} for manifest in made
        }
        self._number = 0

    async def set_up(self) -> None:
        """Make the objects and write each part of their status once."""
        for manifest in self._objects.values():
            await self._api.create(manifest)
        for write in FIRST:
            await self.write(write)

    async def milliseconds(self, write: Write, times: int) -> float:
        """CPU of the API server for each of so many writes, one after another."""
        before = self._cpu_seconds()
        for _ in range(times):
            await self.write(write)
        return 1000 * (self._cpu_seconds() - before) / times

    async def write(self, write: Write) -> Manifest:
        """Write once more, something else than the last time."""
        self._number += 1
        path = f"/apis/{self._group}/v1alpha1/namespaces/default/{write.kind.lower()}s/{write.name}/status"
        body: Manifest = {"status": write.status(self._number)}
        query = {"fieldManager": write.manager}
        if write.applies:
            metadata = {"name": write.name, "namespace": "default"}
            body |= {"apiVersion": f"{self._group}/v1alpha1", "kind": write.kind, "metadata": metadata}
            query["force"] = "true"
        content_type = APPLY_PATCH if write.applies else MERGE_PATCH
        return await self._api.request("PATCH", path, body=body, query=query, content_type=content_type)

    async def ownership_bytes(self, name: str) -> int:
        """Size of metadata.managedFields."""
        kind = f"{self._objects[name]['kind']}.{self._group}/v1alpha1"
        stored = await self._api.get(kind, name, namespace="default")
        return len(json.dumps(stored["metadata"]["managedFields"], separators=(",", ":")))

    def _cpu_seconds(self) -> float:
        values = Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / TICKS


async def benchmark(control_plane: ControlPlane, *, writes: int) -> None:
    """Do the whole thing and print it."""
    twins = [
        change(definition_of(kind, group=f"{schema}.chorus.test"))
        for schema, change in SCHEMAS.items()
        for kind in ("TrainingRun", "Project")
    ]
    await control_plane.install(twins)
    async with control_plane.api() as api:
        places = {schema: Place(api, f"{schema}.chorus.test", control_plane) for schema in SCHEMAS}
        for place in places.values():
            await place.set_up()
        header = " | ".join(SCHEMAS)
        print(f"| {writes} writes of each, CPU ms of the API server | {header} |\n| --- |{' ---: |' * len(SCHEMAS)}")
        for write in WRITES:
            taken: dict[str, list[float]] = {schema: [] for schema in SCHEMAS}
            for _ in range(-(-writes // BATCH)):
                for schema, place in places.items():
                    taken[schema].append(await place.milliseconds(write, BATCH))
            print(f"| {write.title} | " + " | ".join(f"{sum(each) / len(each):.1f}" for each in taken.values()) + " |")
        for name in ("silent", "speaking", "home"):
            sizes = [str(await place.ownership_bytes(name)) for place in places.values()]
            print(f"| managedFields of {name}, bytes | " + " | ".join(sizes) + " |")


def main() -> None:
    """Start a control plane, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writes", type=int, default=300, help="of each kind (default: %(default)s)")
    asked = parser.parse_args()
    with ControlPlane(kube_binaries()) as control_plane:
        asyncio.run(benchmark(control_plane, writes=asked.writes))


if __name__ == "__main__":
    main()
