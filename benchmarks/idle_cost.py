"""Measure what the operator costs while nothing happens: memory and CPU with none, 200 and 2,000 live runs.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" benchmarks/idle_cost.py

etcd, API server, controller manager and operator are the real processes; there are no nodes. The runs are live and
stand still (`spec.suspend`), ten of them in a Project whose data is prepared. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import time

from cost.processes import cpu_seconds, memory_mib
from cost.subjects import SILENT, plan, projects_for, runs_of, set_up
from cost.world import DEADLINE_SECONDS, PLACE, World, at_rate, make_world

STEPS = (0, 200, 2000)
RATE = 20.0
REST_SECONDS = 15.0
IDLE_SECONDS = 60.0


async def add_runs(world: World, *, first: int, beyond: int) -> None:
    """Create runs that stand still, and wait until the operator has said so of the last."""
    make = runs_of(SILENT, spec={"suspend": True})
    made = await at_rate(RATE, beyond - first, lambda number: world.create(make(first + number)))

    def stands_still(run: dict[str, object]) -> bool:
        status = run.get("status")
        return isinstance(status, dict) and status.get("phase") == "suspended"

    for name in made:
        await world.api.wait_for("TrainingRun", name, stands_still, namespace=PLACE, seconds=DEADLINE_SECONDS)


async def benchmark() -> None:
    """Do the whole thing and print it."""
    async with make_world(plan, hold_seconds=0.0) as world:
        print("| live runs | Projects | memory, MiB | CPU, % of a core |\n| ---: | ---: | ---: | ---: |")
        there, pid = 0, world.operator.pid
        for runs in STEPS:
            if there == 0 and runs > 0:
                await set_up(world.api, SILENT, projects=projects_for(STEPS[-1]))
            await add_runs(world, first=there, beyond=runs)
            there = runs
            await asyncio.sleep(REST_SECONDS)
            before, since = cpu_seconds(pid), time.monotonic()
            await asyncio.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(pid) - before) / (time.monotonic() - since)
            projects = len(await world.api.list("Project", namespace=PLACE))
            print(f"| {runs} | {projects} | {memory_mib(pid):.0f} | {100 * idle:.2f} |", flush=True)


if __name__ == "__main__":
    asyncio.run(benchmark())
