"""A stage for stories: a namespace with the real operator behind a proxy, pretend pods, and a witness of every phase.

async with operator_harness(control_plane, api, namespace=namespace, plan=by_run({})) as on:
    await on.create(make_plugin(namespace=namespace), make_project(namespace=namespace))
    await on.reaches("Project", "shop", "TRAINED")
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from child_names import plain
from chorus_api.contract import ROLE_LABEL
from harness import operator, pods
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest, eventually
from harness.kubelet import Kubelet, Program
from harness.operator import Operator
from harness.proxy import ApiRequest, Cut, Fault, FaultProxy, Hook
from harness.proxy import Moment as When

ORDER = ("queued", "PREPROCESSING", "TRAINING")
FINAL = ("TRAINED", "failed", "notApplicable", "cancelled")


@dataclass
class Witness:
    """Sees every Project and run of a namespace: what they are now, and every phase that they were in, in order."""

    phases: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    present: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, api: Api, kind: str, *, namespace: str) -> None:
        """Watch until cancelled."""
        async for event, stored in api.watch(kind, namespace=namespace):
            key = (kind, stored["metadata"]["name"])
            phase = stored.get("status", {}).get("phase")
            seen = self.phases.setdefault(key, [])
            if phase and (not seen or seen[-1] != phase):
                seen.append(phase)
            async with self.changed:
                if event == "DELETED":
                    self.present.pop(key, None)
                else:
                    self.present[key] = stored
                self.changed.notify_all()

    def of(self, kind: str, name: str) -> list[str]:
        """The phases of one object, each change once."""
        return self.phases.get((kind, name), [])

    def steps_back(self) -> list[str]:
        """Name every object that went back, or left a phase that is final. Out of `suspended` every way is open."""
        wrong = []
        for (kind, name), seen in self.phases.items():
            ranks = [ORDER.index(phase) if phase in ORDER else len(ORDER) for phase in seen if phase != "suspended"]
            left_an_end = any(phase in FINAL for phase in seen[:-1])
            if ranks != sorted(ranks) or left_an_end:
                wrong.append(f"{kind} {name}: {' '.join(seen)}")
        return wrong


@dataclass
class OperatorHarness:
    """What a story plays on."""

    api: Api
    namespace: str
    proxy: FaultProxy
    operator: Operator
    kubelet: Kubelet
    mailbag: pods.Mailbag
    witness: Witness

    async def create(self, *manifests: Manifest) -> None:
        """Create objects, as a user does."""
        for manifest in manifests:
            await self.api.create(manifest)

    async def set_run(self, name: str, **spec: Any) -> None:
        """Change a run's spec, as a user does."""
        await self.api.patch("TrainingRun", name, {"spec": spec}, namespace=self.namespace)

    async def reaches(self, kind: str, name: str, phase: str | Collection[str], *, seconds: float = 60.0) -> Manifest:
        """Wait until an object's phase is one of these; return the object. What went wrong in a pod is raised."""
        wanted = {phase} if isinstance(phase, str) else set(phase)

        def is_there() -> bool:
            self.kubelet.check()
            return self.witness.present.get((kind, name), {}).get("status", {}).get("phase") in wanted

        try:
            async with asyncio.timeout(seconds), self.witness.changed:
                await self.witness.changed.wait_for(is_there)
        except TimeoutError:
            state = self.witness.present.get((kind, name), {}).get("status")
            raise TimeoutError(
                f"{kind} {name} is not {' or '.join(sorted(wanted))} after {seconds} s: {json.dumps(state)}\n"
                f"Its children:\n{await self._children(name)}\nThe operator's log ends:\n{self.operator.log[-3000:]}"
            ) from None
        return self.witness.present[kind, name]

    async def _children(self, name: str) -> str:
        """What an object's Jobs and pods look like, for people."""
        seen = [
            {"kind": kind, "metadata": child["metadata"] | {"managedFields": None}, "status": child.get("status")}
            for kind in ("Job", "Pod")
            for child in await self.api.list(kind, namespace=self.namespace)
            if child["metadata"]["name"].startswith(name)
        ]
        return "\n".join(json.dumps(child) for child in seen)

    @property
    def runs(self) -> dict[str, Manifest]:
        """All runs, by name, as the API server told last."""
        return {name: run for (kind, name), run in self.witness.present.items() if kind == "TrainingRun"}

    def kill_at_first_attempt(self) -> None:
        """Have the operator killed when the API server has made the first training Job, before it learns of that."""

        async def hook(request: ApiRequest, when: When) -> Fault | None:
            if when != "after" or (request.verb, request.resource) != ("create", "jobs") or not self.operator.running:
                return None
            if json.loads(request.body)["metadata"]["labels"][ROLE_LABEL] != "train":
                return None
            self.operator.kill()
            return Cut()

        self.proxy.hook = hook

    async def rests(self, *, seconds: float = 1.0, within: float = 20.0) -> None:
        """Wait until the operator has asked for nothing but its Lease for so long."""
        loop = asyncio.get_running_loop()
        last, since = len(self.work()), loop.time()

        async def check() -> bool:
            nonlocal last, since
            if (now := len(self.work())) != last:
                last, since = now, loop.time()
            return loop.time() - since >= seconds

        await eventually(check, what="the operator rests", seconds=within)

    # What the operator did

    def work(self, *, after: int = 0) -> list[ApiRequest]:
        """The requests since number `after`, without those about the Lease."""
        return [request for request in self.proxy.requests[after:] if request.resource != "leases"]

    def jobs_created(self) -> Counter[str]:
        """Count the creations of Jobs that the API server did, by their plain names."""
        return Counter(
            plain(json.loads(request.body)["metadata"]["name"])
            for request in self.proxy.requests
            if request.verb == "create"
            and request.resource == "jobs"
            and self.proxy.statuses.get(request.number) == 201
        )

    def answered(self, status: int) -> list[str]:
        """The requests that the API server answered so."""
        return [str(r) for r in self.proxy.requests if self.proxy.statuses.get(r.number) == status]


@asynccontextmanager
async def operator_harness(
    control_plane: ControlPlane,
    api: Api,
    *,
    namespace: str,
    plan: pods.Plan = pods.by_run({}),  # noqa: B008 (it keeps nothing)
    hook: Hook | None = None,
    start: bool = True,
    loopback_services: bool = False,
    forked: bool = True,
    program: Sequence[str] | None = None,
    pods_do: Callable[[Program], Program] = lambda program: program,
) -> AsyncIterator[OperatorHarness]:
    """Set a stage up; with `start`, the operator is ready. What earlier stories left is removed first.

    `loopback_services`: plugins may be services on this machine. `forked`, `program`: how the operator starts, see
    `Operator`. `pods_do`: changes what pods do.
    """
    await operator.clear(api)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(control_plane))
        if hook is not None:
            proxy.hook = hook
        kubeconfig = await control_plane.kubeconfig_for(
            "chorus-operator", namespace=operator.NAMESPACE, server=proxy.url
        )
        process = Operator(
            control_plane,
            kubeconfig=kubeconfig,
            loopback_services=loopback_services,
            forked=forked,
            program=program,
        )
        on = await stack.enter_async_context(
            place(control_plane, api, proxy=proxy, process=process, namespace=namespace, plan=plan, pods_do=pods_do)
        )
        stack.push_async_exit(process.__aexit__)
        if start:
            process.start()
            await process.ready()
        yield on


@asynccontextmanager
async def place(
    control_plane: ControlPlane,
    api: Api,
    *,
    proxy: FaultProxy,
    process: Operator,
    namespace: str,
    plan: pods.Plan,
    pods_do: Callable[[Program], Program] = lambda program: program,
) -> AsyncIterator[OperatorHarness]:
    """Set up one namespace of those that an operator serves: its pretend pods, and the witness."""
    mailbag, witness = pods.Mailbag(), Witness()
    async with AsyncExitStack() as stack:
        program = pods_do(pods.chorus(plan, mailbag))
        kubelet = await stack.enter_async_context(Kubelet(control_plane, namespace=namespace, program=program))
        for kind in ("Project", "TrainingRun"):
            task = asyncio.create_task(witness.follow(api, kind, namespace=namespace))
            stack.push_async_callback(_cancel, task)
        yield OperatorHarness(api, namespace, proxy, process, kubelet, mailbag, witness)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
