"""The measurements, each on a control plane of its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cost import tables
from cost.figures import Cost, Figures, ratio
from cost.processes import cpu_seconds, memory_mib
from cost.requests import by_verb, in_words, since, waiting_keys
from cost.subjects import (
    ARTEFACT,
    SILENT,
    SPEAKING,
    bare_jobs,
    job_of_run,
    plan,
    projects_for,
    runs_of,
    set_up,
    template_of,
)
from cost.world import DEADLINE_SECONDS, World, at_rate, make_world

LATENCY_RATES = (5.0, 10.0)
OF_THE_TARGET = 5.0
"""The rate whose p99 is a target."""
MANY = 1000
WIDE = 100
"""Projects that the runs of `projects` are spread over, ten for each."""
ENTRIES = 10
LIVE_RATE = 20.0
LIVE_OF_THE_TARGET = 5000
STILL_SECONDS = 10.0
IDLE_SECONDS = 60.0


@asynccontextmanager
async def _set_up(*, hold_seconds: float, kinds: dict[str, int]) -> AsyncIterator[World]:
    """Make a world with Projects for so many runs of each kind, and one run of each that was made before."""
    async with make_world(plan, hold_seconds=0.0) as world:
        for kind, runs in kinds.items():
            await set_up(world.api, kind, projects=projects_for(runs))
            await set_up(world.api, kind, projects=1, prefix=f"{kind}-warm")
            warm = await world.create(runs_of(f"{kind}-warm")(0))
            await world.follower.until([warm], seconds=DEADLINE_SECONDS)
        world.kubelet.hold_seconds = hold_seconds
        yield world


async def _runs(world: World, kind: str, *, count: int, rate: float) -> Cost:
    return await world.measure(runs_of(kind), count=count, rate=rate, job_of=job_of_run)


async def _bare(world: World, name: str, *, count: int, rate: float, template_from: str | None = None) -> Cost:
    template = await template_of(world, template_from) if template_from else None
    return await world.measure(bare_jobs(name, template=template), count=count, rate=rate, job_of=str)


async def lines(figures: Figures, *, runs: int, rate: float, hold_seconds: float) -> None:
    """Bare Jobs beside runs: what each costs, and what it asks for."""
    kinds = (SILENT, ARTEFACT, SPEAKING)
    async with _set_up(hold_seconds=hold_seconds, kinds=dict.fromkeys(kinds, runs)) as world:
        at = {"count": runs, "rate": rate}
        costs = {
            "bare Job": await _bare(world, "bare", **at),
            "bare Job, a run's template": await _bare(world, "templated", template_from=f"{SILENT}-warm-00000", **at),
            "run, no artefact": await _runs(world, SILENT, **at),
            "run, artefact": await _runs(world, ARTEFACT, **at),
            "run, speaking": await _runs(world, SPEAKING, **at),
        }
    bare, _, silent, artefact, speaking = costs.values()
    figures.note_lines(bare, silent, artefact)
    print(f"\n{runs} each at {rate:g} a second, pods held for {hold_seconds:g} s\n\n{tables.of_lines(costs)}\n")
    print(tables.of_requests("requests of everybody", {name: cost.each(cost.served) for name, cost in costs.items()}))
    print(f"\nOf the operator for a run that speaks: {in_words(speaking.each(speaking.asked))}.")
    of_runs = {name: cost for name, cost in costs.items() if cost.asked}
    print()
    print(
        tables.of_requests("requests of the operator", {name: cost.each(cost.asked) for name, cost in of_runs.items()})
    )
    print(f"\n{tables.of_threads(costs)}\n")
    print("Of these threads, `python` reconciles, `watches` is kopf and `messages` the receiver.", flush=True)


async def latency(figures: Figures, *, runs: int, hold_seconds: float) -> None:
    """From a creation to its Job, at rates that a user may have."""
    print("\n| runs at | ended | ended a second | creation to Job, p50, ms | p99, ms |")
    print("| --- | --- | ---: | ---: | ---: |")
    for rate in LATENCY_RATES:
        async with _set_up(hold_seconds=hold_seconds, kinds={SILENT: runs}) as world:
            cost = await _runs(world, SILENT, count=runs, rate=rate)
        p50, p99 = cost.to_job_ms(50), cost.to_job_ms(99)
        ends = ", ".join(f"{number} {how}" for how, number in cost.ends.items())
        print(f"| {rate:g} a second | {ends} | {cost.ended_a_second:.1f} | {p50:.0f} | {p99:.0f} |", flush=True)
        if rate == OF_THE_TARGET:
            figures.p99_ms = p99


async def burst(*, hold_seconds: float, count: int = MANY) -> None:
    """Many at once: how many end a second."""
    async with _set_up(hold_seconds=hold_seconds, kinds={SILENT: count}) as world:
        bare = await _bare(world, "bare", count=count, rate=math.inf)
        runs = await _runs(world, SILENT, count=count, rate=math.inf)
    _compare(f"{count} at once", {"bare Jobs": bare, "runs": runs})


async def projects(*, count: int = MANY) -> None:
    """The same runs in one Project and in many; pods end at once, since the runs of an entry wait for one another."""
    async with make_world(plan, hold_seconds=0.0) as world:
        each = count // WIDE
        await set_up(world.api, SILENT, projects=1, entries=ENTRIES, prefix="one")
        await set_up(world.api, SILENT, projects=WIDE, entries=each, prefix="many")
        one = await world.measure(
            runs_of("one", entries=ENTRIES, projects=1), count=count, rate=math.inf, job_of=job_of_run
        )
        many = await world.measure(runs_of("many", entries=each), count=count, rate=math.inf, job_of=job_of_run)
    _compare(f"{count} runs at once", {f"{WIDE} Projects": many, "1 Project": one})


def _compare(title: str, costs: dict[str, Cost]) -> None:
    """Print how many ended a second, and the second as a part of the first."""
    first, second = costs.values()
    share = ratio(second.ended_a_second, first.ended_a_second)
    print(f"\n| {title} | ended a second |\n| --- | ---: |")
    for name, cost in costs.items():
        print(f"| {name} | {cost.ended_a_second:.2f} |")
    print(f"| ratio | {share:.2f} |\n\n{tables.of_lines(costs)}\n", flush=True)


async def live(figures: Figures, *, count: int) -> None:
    """What the operator needs while so many runs go on and nothing happens."""
    async with _set_up(hold_seconds=math.inf, kinds={SILENT: count}) as world:
        make, process = runs_of(SILENT), world.operator
        before = len(world.kubelet.started)
        await at_rate(LIVE_RATE, count, lambda number: world.create(make(number)))
        end = time.monotonic() + DEADLINE_SECONDS
        while len(world.kubelet.started) < before + count:
            world.kubelet.check()
            if time.monotonic() > end:
                raise TimeoutError(f"{len(world.kubelet.started) - before} of {count} pods have started")
            await asyncio.sleep(1.0)
        await _nothing_is_left_to_do(world)
        asked, cpu, began = world.asked(), cpu_seconds(process.pid), time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        seconds = time.monotonic() - began
        idle, memory = (cpu_seconds(process.pid) - cpu) / seconds, memory_mib(process.pid)
        verbs = by_verb(since(asked, world.asked()))
    if count == LIVE_OF_THE_TARGET:
        figures.mib_5000 = memory
    said = ", ".join(f"{number} {verb}" for verb, number in sorted(verbs.items())) or "none"
    print("\n| live runs | memory, MiB | CPU, % of a core | requests in a minute |\n| ---: | ---: | ---: | --- |")
    print(f"| {count} | {memory:.0f} | {100 * idle:.2f} | {said} |\n", flush=True)


async def _nothing_is_left_to_do(world: World) -> None:
    """Wait until the operator has written nothing for a while and no key waits in its queue.

    What it reads after that it reads for ever. Raises TimeoutError.
    """
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        asked = world.asked()
        await asyncio.sleep(STILL_SECONDS)
        reads_alone = set(by_verb(since(asked, world.asked()))) <= {"get", "list"}
        if reads_alone and waiting_keys(await world.operator.metrics()) == 0:
            return
    raise TimeoutError("the operator still has something to do")
