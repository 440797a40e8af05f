"""A server within limits that runs in a test, and what its peers can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from chorus_dataset.jobs.exchange_certificate import make_certificate
from chorus_net.limits import Limits
from chorus_net.serve import LimitedServer
from chorus_pki.tls import server_context

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PART = b"GET / HTTP/1.1\r\nX-Filler: "
POST = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
BIG = 32 << 20
FEW = Limits(connections=8, for_each_address=4)


@dataclass
class Clock:
    """Seconds that pass when a test says so, however slow the machine is."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Env:
    """A server that runs, and what a peer can do to it."""

    server: LimitedServer
    secure: bool
    release: asyncio.Event
    clock: Clock

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass, and the server see at their end who is late."""
        self.clock.seconds += seconds
        self.server.close_late()

    @contextlib.asynccontextmanager
    async def time_passing(self, step: float = 1.0) -> AsyncIterator[None]:
        """Let `step` seconds pass each time the loop has turned for a while, until the block ends."""

        async def pass_it() -> None:
            while True:
                self.pass_time(step)
                await asyncio.sleep(0.005)

        passing = asyncio.create_task(pass_it())
        try:
            yield
        finally:
            passing.cancel()

    async def open(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = trusting_anyone() if self.secure else None
        async with asyncio.timeout(10):
            return await asyncio.open_connection(
                "127.0.0.1", self.server.port, ssl=context, local_addr=(source, 0), limit=1 << 16
            )

    @property
    def beginning(self) -> bytes:
        """A part of what a peer sends first."""
        return b"\x16\x03\x01\x02\x00\x01" if self.secure else PART

    async def get(self, source: str = "127.0.0.1", path: bytes = b"/") -> bytes:
        reader, writer = await self.open(source)
        try:
            writer.write(GET.replace(b"/ ", path + b" ", 1))
            return await status_of(reader)
        finally:
            await leave(writer)

    def raw(self, source: str = "127.0.0.1", sends: bytes = b"") -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.server.port), timeout=10, source_address=(source, 0))
        opened.sendall(sends)
        return opened


def trusting_anyone() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def status_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    return head.split()[1]


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the server has closed the connection."""
    async with asyncio.timeout(10):
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                pass


async def socket_ended(opened: socket.socket) -> None:
    """Wait until the server has closed a plain socket."""
    opened.setblocking(False)
    async with asyncio.timeout(10):
        with contextlib.suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(opened, 4096):
                pass
    opened.close()


@contextlib.asynccontextmanager
async def serving(folder: Path, *, secure: bool, limits: Limits = FEW) -> AsyncIterator[Env]:
    release = asyncio.Event()
    with (folder / "big").open("wb") as file:
        file.truncate(BIG)

    async def home(request: web.Request) -> web.Response:
        return web.Response(text="home")

    async def wait(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="waited")

    async def big(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / "big") if secure else web.Response(body=bytes(BIG))

    async def refuse(request: web.Request) -> web.Response:
        answer = web.Response(status=413)
        answer.force_close()
        return answer

    app = web.Application(client_max_size=BIG)
    app.router.add_get("/", home)
    app.router.add_get("/wait", wait)

    async def text(request: web.Request) -> web.Response:
        return web.Response(body=bytes(BIG))

    async def take(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    app.router.add_get("/big", big)
    app.router.add_get("/text", text)
    app.router.add_post("/body", take)
    app.router.add_post("/", refuse)
    context = server_context(make_certificate(["localhost"], now=datetime.now(UTC))) if secure else None
    clock = Clock()
    server = LimitedServer(
        app, limits=limits, port=0, context=context, address="127.0.0.1", shutdown_seconds=0.2, clock=clock
    )
    await server.start()
    try:
        yield Env(server, secure, release, clock)
    finally:
        await server.stop()
