"""The one way to serve, on real sockets: what strangers cost, and that others are served beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from chorus_dataset.exchange_certificate import make_certificate, server_context
from chorus_net import limits as times
from chorus_net.connection import missing_of_hello
from chorus_net.limits import HEAD_BYTES, HELLO_BYTES, Limits
from chorus_net.serve import ClosedFor, LimitedServer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PART = b"GET / HTTP/1.1\r\nX-Filler: "
BIG = 32 << 20
FEW = Limits(connections=8, for_each_address=4)


@dataclass
class Place:
    """A server that runs, and what a peer can do to it."""

    server: LimitedServer
    secure: bool
    release: asyncio.Event

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
async def serving(folder: Path, *, secure: bool, limits: Limits = FEW) -> AsyncIterator[Place]:
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

    app = web.Application()
    app.router.add_get("/", home)
    app.router.add_get("/wait", wait)
    app.router.add_get("/big", big)
    app.router.add_post("/", refuse)
    context = server_context(*make_certificate(["localhost"], now=datetime.now(UTC))) if secure else None
    server = LimitedServer(app, limits=limits, port=0, context=context, address="127.0.0.1", shutdown_seconds=0.2)
    await server.start()
    try:
        yield Place(server, secure, release)
    finally:
        await server.stop()


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with serving(tmp_path, secure=request.param) as running:
        yield running


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(times, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(times, "SWEEP_SECONDS", 0.05)


# A head has its time


@pytest.mark.usefixtures("short_times")
async def test_a_connection_that_begins_nothing_is_closed(place: Place) -> None:
    for number, sent in enumerate((b"", place.beginning), start=1):
        await socket_ended(place.raw(sends=sent))
        assert place.server.closed[ClosedFor.LATE] == number


@pytest.mark.usefixtures("short_times")
async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(place: Place) -> None:
    reader, writer = await place.open()

    async def trickle() -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    writer.write(PART)
    trickling = asyncio.create_task(trickle())
    await ended(reader)
    trickling.cancel()
    await leave(writer)
    assert place.server.closed[ClosedFor.LATE] == 1


@pytest.mark.usefixtures("short_times")
async def test_the_next_head_has_its_time_too_and_no_more(place: Place) -> None:
    reader, writer = await place.open()
    for _ in range(4):
        writer.write(GET)
        assert await status_of(reader) == b"200"
        await reader.readexactly(4)
        await asyncio.sleep(0.1)
    await ended(reader)
    await leave(writer)
    assert place.server.closed[ClosedFor.LATE] == 1


@pytest.mark.usefixtures("short_times")
async def test_a_request_may_take_longer_than_its_head(place: Place) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/wait ", 1))
    asyncio.get_running_loop().call_later(0.8, place.release.set)
    assert await status_of(reader) == b"200"
    await leave(writer)


async def test_a_head_that_grows_and_grows_ends_its_connection(place: Place) -> None:
    reader, writer = await place.open()
    with contextlib.suppress(OSError):
        for number in range(HEAD_BYTES // 1000 * 20):
            writer.write(b"GET / HTTP/1.1\r\n" if number == 0 else b"X-%d: %s\r\n" % (number, b"x" * 990))
            await writer.drain()
            await asyncio.sleep(0)
    await ended(reader)
    await leave(writer)


async def test_a_body_that_was_not_wanted_does_not_cost_its_sender_the_answer(place: Place) -> None:
    reader, writer = await place.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    for _ in range(30):
        writer.write(bytes(100_000))
        await asyncio.sleep(0)
    assert await status_of(reader) == b"413"
    await leave(writer)


# Not more than there is room for


@pytest.mark.parametrize("begins", [False, True])
async def test_who_asks_at_once_is_served_beside_many_who_only_connect(place: Place, begins: bool) -> None:
    held = [place.raw(sends=place.beginning if begins else b"") for _ in range(40)]
    assert await place.get() == b"200"
    assert place.server.closed[ClosedFor.FULL] == 37  # and the last one is gone
    for opened in held:
        opened.close()


@pytest.mark.parametrize("addresses", [1, 40])
async def test_who_asks_at_once_is_served_beside_many_unfinished_heads(place: Place, addresses: int) -> None:
    held = []
    for number in range(40):
        _, writer = await place.open(f"127.0.1.{number % addresses + 1}")
        writer.write(PART + b"x" * 8000)
        held.append(writer)
    assert await place.get("127.0.1.1") == b"200"
    assert await place.get("127.0.2.1") == b"200"
    assert place.server.closed[ClosedFor.FULL] >= 40 - FEW.connections
    for writer in held:
        await leave(writer)


async def test_requests_that_are_under_way_are_not_closed_for_new_connections(place: Place) -> None:
    held = []
    for _ in range(FEW.for_each_address):
        reader, writer = await place.open()
        writer.write(GET.replace(b"/ ", b"/wait ", 1))
        held.append((reader, writer))
    await until(lambda: place.server.requests_begun == FEW.for_each_address)
    await socket_ended(place.raw())
    assert place.server.closed == {ClosedFor.REFUSED: 1}
    assert await place.get("127.0.1.1") == b"200"
    place.release.set()
    for reader, writer in held:
        assert await status_of(reader) == b"200"
        await leave(writer)


async def test_without_descriptors_it_waits_for_some_and_does_not_ask_again_and_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(times, "OUT_OF_DESCRIPTORS_SECONDS", 0.1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = place.raw(sends=b"" if place.secure else GET)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened.fileno() + 1, before[1]))
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(0.35)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert 1 <= sum("no connection can be accepted" in record.message for record in caplog.records) <= 5
    assert await place.get() == b"200"
    opened.close()


# Answers are taken


@pytest.mark.usefixtures("short_times")
async def test_a_peer_that_takes_nothing_of_its_answer_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "WRITE_SECONDS", 0.5)
    _, writer = await place.open()
    writer.transport.pause_reading()
    writer.write(GET.replace(b"/ ", b"/big ", 1))
    await until(lambda: place.server.closed[ClosedFor.STALLED] == 1)
    await leave(writer)


@pytest.mark.usefixtures("short_times")
async def test_a_slow_peer_gets_its_whole_answer(place: Place) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/big ", 1))
    assert await status_of(reader) == b"200"
    got = 0
    async with asyncio.timeout(60):
        while got < BIG:
            got += len(await reader.read(1 << 16))
            if got % (1 << 21) < 1 << 16:
                await asyncio.sleep(0.06)
    assert got == BIG
    await leave(writer)
    assert place.server.closed[ClosedFor.STALLED] == 0


# The end


async def test_it_ends_whatever_is_open(place: Place) -> None:
    held = [place.raw(), place.raw(sends=place.beginning)]
    reader, writer = await place.open()
    writer.write(GET)
    assert await status_of(reader) == b"200"
    writer.write(PART)
    await place.server.stop()
    await ended(reader)
    await leave(writer)
    for opened in held:
        await socket_ended(opened)


# How a ClientHello begins

HELLO = b"\x16\x03\x01\x00\x10" + bytes(16)


@pytest.mark.parametrize(
    ("received", "missing"),
    [
        (b"", 5),
        (HELLO[:3], 2),
        (HELLO[:5], 16),
        (HELLO[:-1], 1),
        (HELLO, 0),
        (HELLO + b"more", 0),
        (b"GET / HTTP/1.1\r\n", None),
        (b"\x16\x03\x01\xff\xff", None),
        (b"\x16\x03\x01" + (HELLO_BYTES - 5).to_bytes(2, "big"), HELLO_BYTES - 5),
        (b"\x16\x03\x01" + (HELLO_BYTES - 4).to_bytes(2, "big"), None),
    ],
)
def test_a_handshake_begins_when_its_first_record_is_whole(received: bytes, missing: int | None) -> None:
    assert missing_of_hello(received) == missing
