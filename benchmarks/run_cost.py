r"""Measure what runs cost: 1,000 runs through one operator on a control plane without nodes, beside bare Jobs.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" \
        benchmarks/run_cost.py --runs 1000 --rate 10

etcd, API server, controller manager and operator are the real processes. Pods are simulated: a harness plays the
kubelet and ends each pod at once, with the record that a trainer would leave. A run is a training Job and a publish
Job; a bare Job is a training Job without an operator, with the same pod. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders import make_plugin, make_project, make_run
from harness import operator
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api, Manifest
from harness.kubelet import Container, Exit, Kubelet
from harness.operator import Operator
from harness.pods import Attempt, chorus

PLACE = "cost"
PLUGINS_A_PROJECT = 10
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 20.0
DEADLINE_SECONDS = 1800.0


@dataclass
class Follower:
    """When Jobs were first seen, and which runs or Jobs have ended."""

    jobs: dict[str, float] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow_jobs(self, api: Api, *, bare: bool) -> None:
        """Note each Job when it is first told; with `bare`, also its end."""
        async for _, job in api.watch("Job", namespace=PLACE):
            name = job["metadata"]["name"]
            self.jobs.setdefault(name, time.monotonic())
            conditions = {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
            for how in conditions & {"Complete", "Failed"} if bare and name.startswith("bare-") else ():
                await self._end(name, how)

    async def follow_runs(self, api: Api) -> None:
        """Note each run's end."""
        async for _, run in api.watch("TrainingRun", namespace=PLACE):
            phase = run.get("status", {}).get("phase")
            if phase in ("TRAINED", "failed", "cancelled", "notApplicable"):
                await self._end(run["metadata"]["name"], phase)

    async def _end(self, name: str, how: str) -> None:
        async with self.changed:
            self.ended.setdefault(name, how)
            self.changed.notify_all()

    async def until(self, count: int) -> None:
        """Wait until so many have ended."""
        async with asyncio.timeout(DEADLINE_SECONDS), self.changed:
            await self.changed.wait_for(lambda: len(self.ended) >= count)


@dataclass(frozen=True)
class Cost:
    """What so many runs or Jobs cost."""

    count: int
    seconds: float
    """From the first creation to the last end."""
    to_job: Sequence[float]
    """Seconds from a creation's answer to the Job's being told by a watch."""
    cpu: Mapping[str, float]
    """CPU seconds by process."""
    ends: Mapping[str, int]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def at_rate(rate: float, count: int, create: Callable[[int], Awaitable[str]]) -> dict[str, float]:
    """Create so many objects at so many a second; when each was acknowledged, by name."""
    began, made = time.monotonic(), {}

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        name = await create(number)
        made[name] = time.monotonic()

    await asyncio.gather(*(one(number) for number in range(count)))
    return made


async def measure(
    api: Api,
    pids: Mapping[str, int],
    *,
    count: int,
    rate: float,
    create: Callable[[int], Awaitable[str]],
    job_of: Callable[[str], str],
    bare: bool,
) -> Cost:
    """Create, wait for all ends, and say what it cost."""
    follower = Follower()
    tasks = [asyncio.create_task(follower.follow_jobs(api, bare=bare))]
    if not bare:
        tasks.append(asyncio.create_task(follower.follow_runs(api)))
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    made = await at_rate(rate, count, create)
    await follower.until(count)
    seconds = time.monotonic() - began
    cpu = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ends = {how: list(follower.ended.values()).count(how) for how in set(follower.ended.values())}
    to_job = [max(0.0, follower.jobs[job_of(name)] - moment) for name, moment in made.items()]
    return Cost(count, seconds, sorted(to_job), cpu, ends)


def bare_job(number: int) -> Manifest:
    """A Job with one pod that ends at once."""
    container = {"name": "main", "image": "none"}
    labels = {"bare": "true"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "restartPolicy": "Never", "volumes": []}}
    name = f"bare-{number:05}"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": PLACE},
        "spec": {"backoffLimit": 0, "template": pod},
    }


async def set_up(api: Api, *, runs: int) -> None:
    """Make Projects whose data is prepared, with one plugin entry for each run: entries train side by side."""
    spec = {"lora": {"baseModel": {"uri": "file:///models/tiny"}}}
    await api.create(make_plugin("soft", namespace=PLACE, spec=spec))
    projects = -(-runs // PLUGINS_A_PROJECT)
    entries = [{"name": f"p{n}", "pluginRef": {"name": "soft"}} for n in range(PLUGINS_A_PROJECT)]
    for number in range(projects):
        await api.create(make_project(f"home-{number}", namespace=PLACE, plugins=entries, spec={"trainOn": "Manual"}))
    for number in range(projects):
        await api.wait_for(
            "Project",
            f"home-{number}",
            lambda project: project.get("status", {}).get("phase") == "queued",
            namespace=PLACE,
            seconds=DEADLINE_SECONDS,
        )


async def benchmark(control_plane: ControlPlane, *, runs: int, rate: float) -> None:
    """Do the whole thing and print it."""
    async with control_plane.api() as api:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
        train = chorus(lambda run, number: Attempt(speaks=False))

        async def program(container: Container) -> Exit:
            return Exit() if "bare" in container.labels else await train(container)

        kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace=operator.NAMESPACE)
        async with (
            Kubelet(control_plane, namespace=PLACE, program=program),
            Operator(control_plane, kubeconfig=kubeconfig) as process,
        ):
            pids = {**control_plane.pids, "operator": process.pid}
            empty_mib = memory_mib(process.pid)
            await set_up(api, runs=runs)

            async def make_job(number: int) -> str:
                await api.create(bare_job(number))
                return f"bare-{number:05}"

            async def make_one(number: int) -> str:
                name = f"r-{number:05}"
                project, plugin = divmod(number, PLUGINS_A_PROJECT)
                await api.create(make_run(name, namespace=PLACE, project=f"home-{project}", plugin=f"p{plugin}"))
                return name

            jobs = await measure(api, pids, count=runs, rate=rate, create=make_job, job_of=lambda name: name, bare=True)
            trained = await measure(
                api, pids, count=runs, rate=rate, create=make_one, job_of=lambda name: f"{name}-1", bare=False
            )
            await asyncio.sleep(10)  # until what the last run left to do is done
            before, since = cpu_seconds(process.pid), time.monotonic()
            await asyncio.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(process.pid) - before) / (time.monotonic() - since)
            _print(jobs, trained, empty_mib=empty_mib, full_mib=memory_mib(process.pid), idle=idle, rate=rate)


def _print(jobs: Cost, trained: Cost, *, empty_mib: float, full_mib: float, idle: float, rate: float) -> None:
    def row(what: str, value: Callable[[Cost], Any]) -> None:
        print(f"| {what} | {value(jobs)} | {value(trained)} |")

    print(f"\n| {jobs.count} at {rate:g} a second | bare Jobs | runs |\n| --- | ---: | ---: |")
    row("ends", lambda cost: ", ".join(f"{number} {how}" for how, number in sorted(cost.ends.items())))
    row("ended a second", lambda cost: f"{cost.count / cost.seconds:.1f}")
    row("creation to Job, p50, ms", lambda cost: f"{1000 * statistics.median(cost.to_job):.0f}")
    row("creation to Job, p99, ms", lambda cost: f"{1000 * cost.to_job[int(0.99 * (cost.count - 1))]:.0f}")
    for name in trained.cpu:
        row(f"CPU of {name}, ms each", lambda cost, name=name: f"{1000 * cost.cpu[name] / cost.count:.1f}")
    row("CPU of all these, ms each", lambda cost: f"{1000 * sum(cost.cpu.values()) / cost.count:.1f}")
    print(
        f"\nOperator: {empty_mib:.0f} MiB at the start, {full_mib:.0f} MiB with {trained.count} runs that have ended;"
    )
    print(f"idle then: {100 * idle:.2f} % of a core.")


def main() -> None:
    """Start a control plane, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="how many runs, and how many bare Jobs")
    parser.add_argument("--rate", type=float, default=10.0, help="how many are created a second")
    asked = parser.parse_args()
    binaries = kube_binaries()
    with ControlPlane(binaries) as control_plane:
        asyncio.run(control_plane.install(kustomize(REPOSITORY / "deploy", binaries=binaries)))
        control_plane.start_controllers()
        asyncio.run(benchmark(control_plane, runs=asked.runs, rate=asked.rate))


if __name__ == "__main__":
    main()
