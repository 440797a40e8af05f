"""Measure how long a run takes on a real cluster: from `apply` to its Job, to its pod running, to TRAINED.

    eval "$(kind/cluster env)"; eval "$(kind/cluster images)"; scripts/install
    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" benchmarks/run_latency.py --runs 10

Runs follow one another: a tiny T5 and 38 rows, one epoch, on the CPU. Beside them, with the same image on the same
nodes, bare Jobs that only import what a trainer imports. Times are those at which a watch told. Prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from builders import make_run
from cluster_builders import claim_project, lora_plugin
from harness.client import Api, Manifest
from harness.cluster import Env
from harness.hands import lay_hands, make_models

SECONDS = 300.0
IMPORTS = "import torch, transformers, peft, accelerate"
Times = dict[str, float]


def bare_job(name: str, *, image: str) -> Manifest:
    """A Job that imports and ends."""
    container = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", IMPORTS],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def is_complete(job: Manifest) -> bool:
    """Tell whether a Job has done what it should."""
    return any(c["type"] == "Complete" and c["status"] == "True" for c in job.get("status", {}).get("conditions", []))


async def time_run(place: Env, name: str) -> Times:
    """Apply a run and wait for its end."""
    began = time.monotonic()
    await place.apply(make_run(name, project="home", plugin="t5"))
    times: Times = {"acknowledged": time.monotonic() - began}
    await place.wait("Job", f"{name}-1", where=lambda job: True, seconds=SECONDS)
    times["Job made"] = time.monotonic() - began
    await place.pod_of(name, seconds=SECONDS)
    times["pod running"] = time.monotonic() - began
    await place.wait("TrainingRun", name, phase="TRAINING", seconds=SECONDS)
    times["TRAINING"] = time.monotonic() - began
    await place.wait("Job", f"{name}-1", where=is_complete, seconds=SECONDS)
    times["training Job complete"] = time.monotonic() - began
    await place.wait("TrainingRun", name, phase="TRAINED", seconds=SECONDS)
    times["TRAINED"] = time.monotonic() - began
    return times


async def time_bare_job(place: Env, name: str, *, image: str) -> Times:
    """Apply a bare Job and wait for its end."""
    began = time.monotonic()
    await place.apply(bare_job(name, image=image))
    times: Times = {"acknowledged": time.monotonic() - began}
    await place.wait("Job", name, where=lambda job: True, seconds=SECONDS)
    times["Job made"] = time.monotonic() - began

    def running() -> Manifest | None:
        pods = place.record.all("Pod", labels={"batch.kubernetes.io/job-name": name})
        return next((pod for pod in pods if pod.get("status", {}).get("phase") != "Pending"), None)

    await place.record.wait(running, seconds=SECONDS)
    times["pod running"] = time.monotonic() - began
    await place.wait("Job", name, where=is_complete, seconds=SECONDS)
    times["training Job complete"] = time.monotonic() - began
    return times


async def benchmark(*, runs: int) -> None:
    """Measure by turns, so that both meet the same machine."""
    trainer, operator = os.environ["CHORUS_TRAINER_IMAGE"], os.environ["CHORUS_OPERATOR_IMAGE"]
    with tempfile.TemporaryDirectory() as models:
        await make_models(Path(models))
        async with Api(Path(os.environ["KUBECONFIG"])) as api, Env.make(api, "latency") as place:
            await lay_hands(place, image=operator, models=Path(models))
            await place.apply(lora_plugin("t5"), claim_project("home", spec={"trainOn": "Manual"}))
            await place.wait("Project", "home", phase="queued", seconds=SECONDS)
            await time_run(place, "warm-up")
            await time_bare_job(place, "warm-up", image=trainer)
            trained, bare = [], []
            for number in range(runs):
                trained.append(await time_run(place, f"run-{number}"))
                bare.append(await time_bare_job(place, f"bare-{number}", image=trainer))
    show(trained, bare)


def show(trained: Sequence[Times], bare: Sequence[Times]) -> None:
    """Print the table."""

    def cell(times: Sequence[Times], step: str) -> str:
        values = [each[step] for each in times if step in each]
        return f"{statistics.median(values):.2f} ({max(values):.2f})" if values else ""

    print(f"\n| seconds since `apply`, median (longest) of {len(trained)} | run | bare Job |\n| --- | ---: | ---: |")
    for step in trained[0]:
        print(f"| {step} | {cell(trained, step)} | {cell(bare, step)} |")


def main() -> None:
    """Measure on the cluster of KUBECONFIG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="how many runs, and how many bare Jobs")
    asyncio.run(benchmark(runs=parser.parse_args().runs))


if __name__ == "__main__":
    main()
