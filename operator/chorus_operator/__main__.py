"""The operator's process: receive messages at once, reconcile while the Lease is held, end cleanly.

Exit codes: 0 stopped by a signal, 1 the Lease or a part was lost (the kubelet starts it again), 2 bad settings.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import KubeError
from chorus_kube.lease import Lease
from chorus_kube.resources import PLUGINS, PROJECTS, TRAINING_RUNS, Resource
from chorus_kube.work_queue import Key, WorkQueue
from chorus_net.addresses import Address, nothing
from chorus_operator.ca import BrokenAuthority, CaBundle, load_authority
from chorus_operator.decisions.service_address import url_problem
from chorus_operator.health import Health
from chorus_operator.informers import Informers
from chorus_operator.logs import configure_logs
from chorus_operator.messages.identity import service_hosts
from chorus_operator.messages.known import StoresBeside
from chorus_operator.messages.receiver import Receiver
from chorus_operator.metrics.collector import Sources, collect_from, make_handler, make_registry
from chorus_operator.metrics.recorder import Recorder
from chorus_operator.metrics.runs import RunBook
from chorus_operator.reconcile import make_reconciler
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.namespaces import RunNamespaces
from chorus_operator.reconcile.pace import Pace
from chorus_operator.reconcile.stores import Stores
from chorus_operator.services.addresses import AddressGuard
from chorus_operator.services.api_server import ApiServerFinder
from chorus_operator.services.client import ServiceClient
from chorus_operator.services.dispatcher import WebhookDispatcher
from chorus_operator.services.keys import WebhookKeys, service_keys
from chorus_operator.services.outbound import ReturnAddress
from chorus_operator.services.tokens import ServiceTokens
from chorus_operator.settings import Settings, SettingsError, read_settings
from chorus_operator.watch import Keys, Watches, resync
from chorus_pki.certificates import Authority

log = structlog.get_logger()

CRD_SECONDS = 2.0
QUEUE_GRACE_SECONDS = 3.0
THREAD_GRACE_SECONDS = 8.0


STOPPED = "asked to"


class PartLost(Exception):
    """A part that the process cannot do without has ended."""


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


async def operate(settings: Settings, *, stop: asyncio.Event, allows: Callable[[Address], bool] = nothing) -> None:
    """Run until `stop`; PartLost when the Lease, the receiver or the watches end before.

    `allows`: addresses where services may be although they would be refused (`AddressGuard`).
    """
    async with AsyncExitStack() as stack:
        kube = await Kube.connect(settings.kubeconfig)
        stack.push_async_callback(kube.close)
        authority = await load_authority(kube, namespace=settings.namespace, clock=utc_now)
        clients = [kube]
        registry, runs = make_registry(), RunBook()
        recorder = Recorder(registry, runs=runs, clock=time.time)
        keys = service_keys(authority)
        webhook_keys = WebhookKeys(kube, keys)
        # A Role in the namespace `default` comes with the ClusterRole.
        api_server = ApiServerFinder(kube, reads_slice=not settings.watch_namespaces)
        guard = AddressGuard(api_server=api_server.known, allows=allows)
        dispatcher = WebhookDispatcher(ServiceClient(key_of=webhook_keys.of, guard=guard, clock=utc_now), clock=utc_now)
        stack.push_async_callback(dispatcher.close)
        leading = _Leading(
            settings,
            kube,
            authority,
            since=utc_now(),
            runs=runs,
            recorder=recorder,
            namespaces=RunNamespaces(kube, bundle=CaBundle(kube, authority=authority), keys=webhook_keys),
            tokens=ServiceTokens(keys.tokens),
            dispatcher=dispatcher,
            api_server=api_server,
            allows=allows,
        )
        receiver = _receiver(settings, authority, clients, leading.known)
        stack.push_async_callback(_end_thread, receiver.stop, receiver.ended)
        receiver.start()
        health = Health(
            beats={"messages": lambda: receiver.seconds_since_beat, "watches": lambda: leading.seconds_since_beat},
            is_ready=lambda: receiver.serving,
            metrics=make_handler(registry),
            port=settings.health_port,
        )
        collect_from(_sources(clients, receiver, health, leading, runs), registry=registry)
        await health.start()
        stack.push_async_callback(health.stop)

        async def asked_to_stop() -> None:
            await stop.wait()
            receiver.stop()  # it writes what it knows while the rest ends

        await _first(
            {
                STOPPED: asked_to_stop(),
                "the message receiver": asyncio.wrap_future(receiver.ended),
                "leading": leading.lead(),
            }
        )


def _receiver(settings: Settings, authority: Authority, clients: list[Kube], known: StoresBeside) -> Receiver:
    """Make the receiver; the client that it opens is added to `clients`, and its answers to what is `known`."""

    async def connect() -> Kube:
        kube = await Kube.connect(settings.kubeconfig)
        kube.answers = known
        clients.append(kube)
        return kube

    return Receiver(
        connect=connect,
        authority=authority,
        hosts=service_hosts(settings.messages_host),
        port=settings.messages_port,
        clock=utc_now,
        token_check=settings.token_check,
        namespaces=settings.watch_namespaces,
        known=known,
    )


def _sources(clients: Sequence[Kube], receiver: Receiver, health: Health, leading: _Leading, runs: RunBook) -> Sources:
    return Sources(
        requests=lambda: [kube.requests for kube in clients],
        accepted=lambda: receiver.inbox.taken if receiver.inbox else {},
        refused=lambda: receiver.refusals.counts,
        closed=lambda: {"messages": receiver.closed_connections, "health": health.closed_connections},
        progress_writes=lambda: receiver.inbox.progress.writes if receiver.inbox else {},
        queue=lambda: leading.queue.stats(),
        leads=lambda: leading.leads,
        runs=runs,
        clock=time.time,
    )


class _Leading:
    """What only the holder of the Lease does: watch, and reconcile."""

    def __init__(
        self,
        settings: Settings,
        kube: Kube,
        authority: Authority,
        *,
        since: datetime,
        runs: RunBook,
        recorder: Recorder,
        namespaces: RunNamespaces,
        tokens: ServiceTokens,
        dispatcher: WebhookDispatcher,
        api_server: ApiServerFinder,
        allows: Callable[[Address], bool],
    ):
        self._kube = kube
        self._runs = runs
        self.leads = False
        """Whether this process holds the Lease."""
        self._lease = Lease(kube, namespace=settings.namespace, identity=settings.pod_name, clock=utc_now)
        self._keys = Keys()
        self.stores = Stores(kube, on_change=self._on_change)
        kube.answers = self.stores
        self.known = StoresBeside(self.stores, loop=asyncio.get_running_loop())
        """What the receiver may know: the stores, while this process leads and they are complete."""
        self.queue = WorkQueue(
            make_reconciler(
                ReconcileContext(
                    kube=kube,
                    operator_image=settings.operator_image,
                    trainer_image=settings.trainer_image,
                    messages_url=settings.messages_url,
                    clock=utc_now,
                    since=since,
                    ensure_namespace=namespaces.ensure,
                    wake=self._wake,
                    stores=self.stores,
                    pace=Pace(seconds=time.monotonic),
                    dispatcher=dispatcher,
                    tokens=tokens,
                    job_resources=settings.job_resources,
                    address=ReturnAddress(settings.messages_url, authority.certificate.decode()),
                    judge_url=partial(url_problem, allows=allows),
                    api_server=api_server.known,
                    observer=recorder,
                )
            ),
            observe=recorder.reconciled,
        )
        self._informers = Informers(kube, self.stores, namespaces=settings.watch_namespaces)
        self._watches = Watches(
            namespaces=settings.watch_namespaces, login=kube.credentials, on_event=self._informers.told
        )

    @property
    def seconds_since_beat(self) -> float:
        return self._watches.seconds_since_beat

    async def lead(self) -> None:
        """Wait for the Lease, then work until it or the watches are lost, or until cancelled."""
        await self._kinds_served()
        await self._lease.acquire()
        self.leads = True
        try:
            synced = asyncio.Event()
            await _first(
                {
                    "the Lease": self._lease.hold(),
                    "the stores": self._informers.run(synced),
                    "the watches": self._watch(synced),
                    "the resync": resync(self._keys, look=self._look),
                }
            )
        finally:
            self.leads = self.known.open = False
            self._watches.stop()
            await self.queue.stop(grace=QUEUE_GRACE_SECONDS)
            await self._lease.release()
            await _end_thread(self._watches.stop, self._watches.ended)

    async def _watch(self, synced: asyncio.Event) -> None:
        """Reconcile once every store is read anew: another holder may have written since this one read last."""
        await synced.wait()
        self.known.open = True
        self._watches.start()
        self.queue.start()
        await asyncio.wrap_future(self._watches.ended)

    def _look(self, key: Key) -> None:
        self.stores.doubt(_KINDS[key.kind], key.namespace, key.name)
        self.queue.add(key)

    async def _kinds_served(self) -> None:
        """Wait for the CRDs: a watch that starts before them would never see their objects."""
        wanted = {PROJECTS.plural, PLUGINS.plural, TRAINING_RUNS.plural}
        while missing := wanted - await self._kube.served(PROJECTS.api_version):
            log.warning("waiting for the CRDs; apply them", missing=sorted(missing))
            await asyncio.sleep(CRD_SECONDS)

    def _wake(self, key: Key, after: float = 0.0) -> None:
        self.queue.add(key, after)

    def _on_change(self, resource: Resource, deleted: bool, stored: Manifest, own: bool) -> None:
        """Reconcile what a change concerns. What the operator wrote itself concerns others than the object alone."""
        for key, after in self._keys.of(resource.kind, deleted, stored).items():
            if not own or (key.kind, key.name) != (resource.kind, stored["metadata"]["name"]):
                self.queue.add(key, after)
        if resource is TRAINING_RUNS:
            self._runs.seen(stored, deleted=deleted)


_KINDS = {resource.kind: resource for resource in (PROJECTS, PLUGINS, TRAINING_RUNS)}


async def _first(parts: dict[str, Awaitable[Any]]) -> None:
    """Wait until one of the parts ends, cancel the others; PartLost unless it is `STOPPED`."""
    tasks = {asyncio.ensure_future(part): name for name, part in parts.items()}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        error = task.exception()
        if isinstance(error, PartLost):
            raise error
        if error is not None or tasks[task] != STOPPED:
            raise PartLost(tasks[task]) from error


async def _end_thread(stop: Callable[[], None], ended: Future[None]) -> None:
    """Ask a thread to end and give it a while."""
    stop()
    try:
        async with asyncio.timeout(THREAD_GRACE_SECONDS):
            await asyncio.wait([asyncio.wrap_future(ended)])
    except TimeoutError:
        log.warning("a thread did not end in time")


async def _run(settings: Settings, allows: Callable[[Address], bool]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await operate(settings, stop=stop, allows=allows)


def main(*, allows: Callable[[Address], bool] = nothing) -> int:
    """Run the operator; gives the exit code. `allows`: see `operate`."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"bad settings: {error}", file=sys.stderr)
        return 2
    configure_logs(level=settings.log_level, form=settings.log_format)
    try:
        asyncio.run(_run(settings, allows))
    except PartLost as error:
        log.error("lost; exiting to be started again", part=str(error), exc_info=error.__cause__)
        return 1
    except (KubeError, BrokenAuthority, OSError) as error:
        log.error("cannot start", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
