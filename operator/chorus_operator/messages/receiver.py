"""The message receiver: an HTTPS server in a thread and an event loop of its own.

A reconcile that keeps the main loop busy does not hold up an acknowledgement, and the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

import structlog

from chorus_kube.client import Kube
from chorus_net.limits import HEALTH, RECEIVER
from chorus_net.serve import ClosedFor, LimitedServer
from chorus_operator.messages.http import make_app
from chorus_operator.messages.identity import ServerIdentity
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.known import KnownObjects
from chorus_operator.messages.refusal_log import RefusalLog
from chorus_operator.services.keys import service_keys
from chorus_operator.services.tokens import ServiceTokens
from chorus_operator.settings import TokenCheck
from chorus_pki.certificates import Authority

log = structlog.get_logger()

BEAT_SECONDS = 1.0
FLUSH_SECONDS = 5.0
SHUTDOWN_SECONDS = 2.0


class Receiver:
    """Serves POST /v1/messages from `start` to `stop`."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[Kube]],
        authority: Authority,
        hosts: Sequence[str],
        port: int,
        clock: Callable[[], datetime],
        address: str | None = None,
        token_check: TokenCheck = TokenCheck.REVIEW,
        namespaces: Collection[str] = (),
        known: KnownObjects | None = None,
    ):
        """`connect` opens the thread's own client; `address`: what to listen on, every address when None.

        `namespaces`: those whose pods may speak, all when empty. `known` is asked from its thread: what it knows needs
        not be read. With port 0 the system chooses one: see `port` once it serves.
        """
        self._connect = connect
        self._identity = ServerIdentity(authority, hosts=hosts, clock=clock)
        self._tokens = ServiceTokens(service_keys(authority).tokens)
        self._clock = clock
        self._address = address
        self._token_check = token_check
        self._namespaces = namespaces
        self._known = known
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: LimitedServer | None = None
        self._stopping = threading.Event()
        self._wake = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="messages", daemon=True)
        self._serving = threading.Event()
        self._beat = time.monotonic()
        self.port = port
        self.ended: Future[None] = Future()
        """Done when the thread has ended; with the error when it broke."""
        self.ended.set_running_or_notify_cancel()  # whoever stops waiting for it does not cancel it
        self.refusals = RefusalLog(clock=time.monotonic)
        self.inbox: Inbox | None = None

    @property
    def serving(self) -> bool:
        """Whether it accepts messages now."""
        return self._serving.is_set()

    @property
    def closed_connections(self) -> Mapping[ClosedFor, int]:
        """Connections that were closed to keep within the limits, since the start."""
        return self._server.closed if self._server is not None else {}

    @property
    def seconds_since_beat(self) -> float:
        """Seconds since its loop turned last."""
        return time.monotonic() - self._beat

    def start(self) -> None:
        """Start the thread; `serving` turns true when the socket is open."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end: it answers what it has begun, writes the progress that is not written, and ends."""
        self._stopping.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._serving.clear()
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        kube = await self._connect()
        try:
            inbox = self.inbox = Inbox(
                kube,
                clock=self._clock,
                seconds=time.monotonic,
                tokens=self._tokens,
                token_check=self._token_check,
                namespaces=self._namespaces,
                known=self._known,
            )
            await inbox.start()
            server = self._server = LimitedServer(
                make_app(inbox, refusals=self.refusals),
                limits=RECEIVER,
                port=self.port,
                context=self._identity.context,
                address=self._address,
                shutdown_seconds=SHUTDOWN_SECONDS,
                beside=(HEALTH,),
            )
            try:
                await self._serve(server)
            finally:
                self._serving.clear()
                await server.stop()
                await _flush(inbox)
        finally:
            await kube.close()

    async def _serve(self, server: LimitedServer) -> None:
        await server.start()
        self.port = server.port
        self._serving.set()
        log.info("receiving messages", port=self.port)
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            if self._identity.renew_if_due():
                log.info("certificate renewed")
            try:
                await asyncio.wait_for(self._wake.wait(), BEAT_SECONDS)
            except TimeoutError:
                continue


async def _flush(inbox: Inbox) -> None:
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await inbox.progress.flush()
    except TimeoutError:
        log.warning("progress was not written in time", seconds=FLUSH_SECONDS)
