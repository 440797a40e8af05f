"""A control plane without nodes, the operator on it, and pods that a harness plays: all but the pods are real."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cost.figures import Cost
from cost.follower import Follower
from cost.processes import cpu_seconds, thread_seconds
from cost.requests import of_everybody, of_the_operator, since
from harness import operator
from harness.apiserver import ControlPlane
from harness.audit_log import OF_THE_OPERATOR, AuditLog
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api, Manifest
from harness.kubelet import Container, Exit, Kubelet
from harness.operator import Operator
from harness.pods import Plan, chorus

PLACE = "cost"
BARE = "bare"
"""Label of Jobs without an operator, and of their pods."""
DEADLINE_SECONDS = 3600.0
QUIET_SECONDS = 1.5
"""What is left to do after the last end is done when the operator has asked for nothing for so long."""
SIDE_BY_SIDE = 50
"""Creations under way at once: a thousand would have to wait for one another until the client gives up."""
NAMED_THREADS = ("-m", "harness.named_threads")


@dataclass(frozen=True)
class World:
    """One namespace of a control plane, and everything that works in it."""

    control_plane: ControlPlane
    api: Api
    kubelet: Kubelet
    operator: Operator
    follower: Follower
    audit: AuditLog
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def pids(self) -> dict[str, int]:
        """The processes whose CPU counts."""
        return {**self.control_plane.pids, "operator": self.operator.pid}

    async def create(self, manifest: Manifest) -> str:
        """Create an object; its name."""
        await self.api.create(manifest)
        name: str = manifest["metadata"]["name"]
        return name

    async def served(self) -> dict[str, int]:
        """Requests of everybody so far, by verb and resource."""
        return of_everybody(await self.api.text("/metrics"))

    def asked(self) -> Counter[str]:
        """Requests of the operator so far, by verb and resource."""
        self.counted.update(of_the_operator(self.audit.new()))
        return Counter(self.counted)

    async def is_quiet(self) -> None:
        """Wait until the operator has asked for nothing for a while, its Lease left out."""
        asked, since_when = self.asked(), time.monotonic()
        while time.monotonic() - since_when < QUIET_SECONDS:
            await asyncio.sleep(QUIET_SECONDS / 5)
            if (now := self.asked()) != asked:
                asked, since_when = now, time.monotonic()

    async def measure(
        self, create: Callable[[int], Manifest], *, count: int, rate: float, job_of: Callable[[str], str]
    ) -> Cost:
        """Create so many objects at so many a second, wait for all ends and for quiet, and say what it cost.

        `rate`: `math.inf` for all at once. `job_of`: the plain name of the Job of an object of that name.
        """
        await self.is_quiet()
        asked, served = self.asked(), await self.served()
        cpu = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        threads = thread_seconds(self.operator.pid)
        began = time.monotonic()
        made = await at_rate(rate, count, lambda number: self.create(create(number)))
        try:
            ends = await self.follower.until(made, seconds=DEADLINE_SECONDS)
        finally:
            self.kubelet.check()
        seconds, jobs = time.monotonic() - began, self.follower.jobs
        await self.is_quiet()
        return Cost(
            count,
            seconds,
            [max(0.0, jobs[job_of(name)] - moment) for name, moment in made.items() if job_of(name) in jobs],
            {name: cpu_seconds(pid) - cpu[name] for name, pid in self.pids.items()},
            {name: value - threads.get(name, 0.0) for name, value in thread_seconds(self.operator.pid).items()},
            since(asked, self.asked()),
            since(served, await self.served()),
            ends,
        )


@asynccontextmanager
async def make_world(plan: Plan, *, hold_seconds: float) -> AsyncIterator[World]:
    """Start everything; `hold_seconds`: how long the pods of `World.kubelet` run, at first."""
    binaries = kube_binaries()
    with ControlPlane(binaries, audit_policy=OF_THE_OPERATOR) as control_plane:
        await control_plane.install(kustomize(REPOSITORY / "deploy", binaries=binaries))
        control_plane.start_controllers()
        kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace=operator.NAMESPACE)
        async with control_plane.api() as api:
            await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE}})
            async with (
                Kubelet(control_plane, namespace=PLACE, program=_program(plan), hold_seconds=hold_seconds) as kubelet,
                Operator(control_plane, kubeconfig=kubeconfig, program=NAMED_THREADS) as process,
            ):
                follower = Follower()
                tasks = [
                    asyncio.create_task(follower.follow_jobs(api, namespace=PLACE)),
                    asyncio.create_task(follower.follow_runs(api, namespace=PLACE)),
                ]
                try:
                    yield World(control_plane, api, kubelet, process, follower, AuditLog(control_plane.audit_log))
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)


def _program(plan: Plan) -> Callable[[Container], Awaitable[Exit]]:
    train = chorus(plan)

    async def program(container: Container) -> Exit:
        return Exit() if BARE in container.labels else await train(container)

    return program


async def at_rate(rate: float, count: int, create: Callable[[int], Awaitable[str]]) -> dict[str, float]:
    """Create so many objects at so many a second, not too many side by side; when each was acknowledged, by name."""
    began, made, side_by_side = time.monotonic(), {}, asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        async with side_by_side:
            name = await create(number)
            made[name] = time.monotonic()

    await asyncio.gather(*(one(number) for number in range(count)))
    return made
