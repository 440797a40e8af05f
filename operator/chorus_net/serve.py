"""Serve an application within limits: the one way in which Chorus listens, over TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection
from enum import StrEnum

from aiohttp import web

from chorus_net import limits as at
from chorus_net.admission import Admission
from chorus_net.connection import Connection, HttpProtocol, peer_of, telling_heads
from chorus_net.fair_queue import FairQueue
from chorus_net.limits import Limits, descriptors

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 0.25
"""For TLS connections to end as they should, once the server has closed them."""


class ClosedFor(StrEnum):
    """Why a server closed a connection that its peer would have kept."""

    FULL = "full"
    """It had waited longest for its peer when a new one needed its place."""
    REFUSED = "refused"
    """It was new, and every other had a request under way."""
    LATE = "late"
    """Its head did not come whole in time."""
    STALLED = "stalled"
    """It took nothing of an answer for long, or not the whole of it in time."""


_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class LimitedServer:
    """An HTTP server whose connections are bounded in number, time and memory. Belongs to one event loop.

    Without TLS the kernel sends files by itself, and nobody sees whether the peer takes them: serve none then.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        limits: Limits,
        port: int,
        context: ssl.SSLContext | None = None,
        address: str | None = None,
        shutdown_seconds: float = 2.0,
        beside: Collection[Limits] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """`context`: plain HTTP when None; `address`: what to listen on, every address when None.

        `beside`: the limits of the other servers of the process, with which it shares the file descriptors.

        With port 0 the system chooses one. `shutdown_seconds`: for requests that are under way when it is stopped.
        `clock`: the seconds by which peers are late.
        """
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_seconds)
        self._limits = limits
        self._beside = beside
        self.clock = clock
        self._context = context
        self._address = address
        self._sockets: list[socket.socket] = []
        self._admission = Admission(limits)
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._hellos: FairQueue[Connection] = FairQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turn: asyncio.Handle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = port
        self.requests_begun = 0
        """Requests whose head came whole since the start."""
        self.closed: Counter[ClosedFor] = Counter()
        """Connections that the limits closed since the start."""

    async def start(self) -> None:
        """Open the sockets; OSError when they cannot be bound."""
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(self._limits.within(descriptors(), beside=self._beside))
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._server = server
        server.request_factory = telling_heads(server.request_factory)
        self._sockets = await _listen(self._address, self.port)
        self.port = self._sockets[0].getsockname()[1]
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)
        self._sweep()

    async def stop(self) -> None:
        """Accept nothing more, answer what has been begun, and close every connection."""
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())
            listening.close()
        self._sockets = []
        for connection in list(self._connections.values()):
            if not connection.speaks_http:
                connection.abort()
        await self._runner.cleanup()
        await self._wait_until_all_gone()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._connections.values()):
            connection.abort()
        await self._wait_until_all_gone()

    async def _wait_until_all_gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._idle.wait()

    # What connections tell

    def first_bytes_arrived(self, connection: Connection) -> None:
        """Put it in line: what keeps the CPU is done in turn between the peers."""
        self._hellos.put(connection, peer=connection.peer)
        if self._turn is None:
            self._turn = self._loop.call_soon(self._begin_some)

    def head_arrived(self, connection: Connection) -> None:
        """Its body may be late, which is no reason to keep its place, unless bodies are long."""
        self.requests_begun += 1
        if self._limits.long_bodies:
            self._admission.works(connection.number)
        else:
            self._admission.awaits_peer(connection.number, now=self.clock())

    def request_arrived(self, connection: Connection) -> None:
        """It is not closed for others while its request is handled."""
        self._admission.works(connection.number)

    def awaits_peer(self, connection: Connection) -> None:
        """It may be closed for others from now on, and what it waits for has its time."""
        self._admission.awaits_peer(connection.number, now=self.clock())

    def gone(self, connection: Connection) -> None:
        """Its place is free."""
        if self._connections.pop(connection.number, None) is not None:
            self._hellos.discard(connection, peer=connection.peer)
            self._admission.gone(connection.number)
        if not self._connections:
            self._idle.set()

    # Accept

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(at.ACCEPTS_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._pause(listening, error)
                return
            accepted.setblocking(False)
            self._admit(accepted, peer_of(address))

    def _admit(self, accepted: socket.socket, peer: str) -> None:
        number = next(self._numbers)
        decision = self._admission.admit(number, peer=peer, now=self.clock())
        if not decision.accepted:
            self.closed[ClosedFor.REFUSED] += 1
            accepted.close()
            return
        if decision.closed is not None:
            self.closed[ClosedFor.FULL] += 1
            self._connections[decision.closed].abort()
        self._idle.clear()
        self._connections[number] = Connection(
            number, accepted=accepted, peer=peer, secure=self._context is not None, watcher=self
        )

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave the socket alone for a while: the kernel would report it as ready again and again."""
        log.warning("no connection can be accepted for now: %s", error)
        self._loop.remove_reader(listening.fileno())

        def again() -> None:
            if listening in self._sockets:
                self._loop.add_reader(listening.fileno(), self._accept, listening)

        self._loop.call_later(at.OUT_OF_DESCRIPTORS_SECONDS, again)

    def _begin_some(self) -> None:
        """Begin a few of those whose first bytes are there, and the rest when the loop has turned."""
        for _ in range(min(at.HANDSHAKES_AT_ONCE, len(self._hellos))):
            connection = self._hellos.take()
            http = HttpProtocol(self._server, connection=connection, read_bytes=self._limits.read_bytes)
            task = self._loop.create_task(connection.serve(http, self._context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._turn = self._loop.call_soon(self._begin_some) if len(self._hellos) else None

    # Deadlines

    def _sweep(self) -> None:
        self.close_late()
        self._sweeping = self._loop.call_later(at.SWEEP_SECONDS, self._sweep)

    def close_late(self) -> None:
        """Close every connection whose peer has let its time pass; called every `limits.SWEEP_SECONDS`."""
        now = self.clock()
        for number in self._admission.waiting_since(now - at.HEAD_SECONDS):
            connection = self._connections[number]
            if connection.unsent_bytes or not connection.awaits_head:
                continue  # a body, which its handler waits for, or an answer that is still on its way
            if not connection.closing:
                self.closed[ClosedFor.LATE] += 1
                connection.close()
        for number in self._admission.waiting_since(now - at.HEAD_SECONDS - at.CLOSE_SECONDS):
            if (connection := self._connections[number]).closing:
                connection.abort()
        for connection in list(self._connections.values()):
            unsent = connection.unsent_bytes
            late = unsent > 0 and connection.answer is not None and connection.answer.is_late(now=now)
            if late or connection.unsent.stalled_seconds(unsent, now=now) >= at.WRITE_SECONDS:
                self.closed[ClosedFor.STALLED] += 1
                connection.abort()


async def _listen(address: str | None, port: int) -> list[socket.socket]:
    """Open a listening socket for each address of the host, or for every address when None."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            try:
                listening = socket.socket(family, kind, protocol)
            except OSError:
                continue  # the machine has no IPv6
            opened.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind((place[0], port, *place[2:]))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
                    opened.remove(listening)
                    listening.close()
                    continue  # IPv6 is switched off
                raise
            listening.listen(at.BACKLOG)
            port = listening.getsockname()[1]
    except OSError:
        for listening in opened:
            listening.close()
        raise
    if not opened:
        raise OSError(errno.EADDRNOTAVAIL, f"no address of {address!r} to listen on")
    return opened
