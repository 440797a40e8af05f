"""Measure what the operator costs while nothing happens: memory and CPU with none, 200 and 2,000 live runs.

    PYTHONPATH=operator:trainer_image:tests/support:benchmarks "$(scripts/venv)/bin/python" benchmarks/idle_cost.py

etcd, API server, controller manager and operator are the real processes; there are no nodes. The runs are live and
stand still (`spec.suspend`), ten of them in a Project whose data is prepared. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import time

from run_cost import DEADLINE_SECONDS, PLACE, PLUGINS_A_PROJECT, at_rate, cpu_seconds, memory_mib, set_up

from builders import make_run
from harness import operator
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api
from harness.kubelet import Kubelet
from harness.operator import Operator
from harness.pods import Attempt, chorus

STEPS = (0, 200, 2000)
RATE = 20.0
REST_SECONDS = 15.0
IDLE_SECONDS = 60.0


async def add_runs(api: Api, *, first: int, beyond: int) -> None:
    """Create runs that stand still, and wait until the operator has said so of the last."""

    async def make(number: int) -> str:
        project, plugin = divmod(first + number, PLUGINS_A_PROJECT)
        name = f"r-{first + number:05}"
        spec = {"suspend": True}
        await api.create(make_run(name, namespace=PLACE, project=f"home-{project}", plugin=f"p{plugin}", spec=spec))
        return name

    await at_rate(RATE, beyond - first, make)

    def stands_still(run: dict[str, object]) -> bool:
        status = run.get("status")
        return isinstance(status, dict) and status.get("phase") == "suspended"

    for number in range(first, beyond):
        await api.wait_for("TrainingRun", f"r-{number:05}", stands_still, namespace=PLACE, seconds=DEADLINE_SECONDS)


async def benchmark(control_plane: ControlPlane) -> None:
    """Do the whole thing and print it."""
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace=operator.NAMESPACE)
        train = chorus(lambda run, number: Attempt(speaks=False))
        async with (
            Kubelet(control_plane, namespace=PLACE, program=train),
            Operator(control_plane, kubeconfig=kubeconfig) as process,
        ):
            print("| live runs | Projects | memory, MiB | CPU, % of a core |\n| ---: | ---: | ---: | ---: |")
            there = 0
            for runs in STEPS:
                if there == 0 and runs > 0:
                    await set_up(api, runs=STEPS[-1])
                await add_runs(api, first=there, beyond=runs)
                there = runs
                await asyncio.sleep(REST_SECONDS)
                before, since = cpu_seconds(process.pid), time.monotonic()
                await asyncio.sleep(IDLE_SECONDS)
                idle = (cpu_seconds(process.pid) - before) / (time.monotonic() - since)
                projects = len(await api.list("Project", namespace=PLACE))
                print(f"| {runs} | {projects} | {memory_mib(process.pid):.0f} | {100 * idle:.2f} |", flush=True)


def main() -> None:
    """Start a control plane, and measure."""
    binaries = kube_binaries()
    with ControlPlane(binaries) as control_plane:
        asyncio.run(control_plane.install(kustomize(REPOSITORY / "deploy", binaries=binaries)))
        control_plane.start_controllers()
        asyncio.run(benchmark(control_plane))


if __name__ == "__main__":
    main()
