"""The one way to serve, on real sockets: what strangers cost, and that others are served beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from chorus_net import limits as times
from chorus_net.connection import HttpProtocol, missing_of_hello
from chorus_net.limits import ANSWER_BYTES_PER_SECOND, HEAD_BYTES, HEAD_SECONDS, HELLO_BYTES, WRITE_SECONDS
from chorus_net.serve import ClosedFor
from limited_server import BIG, FEW, GET, PART, POST, Env, ended, leave, serving, socket_ended, status_of, until

# A head has its time


async def test_a_connection_that_begins_nothing_is_closed(place: Env) -> None:
    async with place.time_passing():
        for number, sent in enumerate((b"", place.beginning), start=1):
            await socket_ended(place.raw(sends=sent))
            assert place.server.closed[ClosedFor.LATE] == number


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(place: Env) -> None:
    reader, writer = await place.open()

    async def trickle() -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    writer.write(PART)
    trickling = asyncio.create_task(trickle())
    async with place.time_passing():
        await ended(reader)
    trickling.cancel()
    await leave(writer)
    assert place.server.closed[ClosedFor.LATE] == 1


async def test_the_next_head_has_its_time_too_and_no_more(place: Env) -> None:
    reader, writer = await place.open()
    for _ in range(4):
        writer.write(GET)
        assert await status_of(reader) == b"200"
        await reader.readexactly(4)
        place.pass_time(HEAD_SECONDS - 1)
    async with place.time_passing():
        await ended(reader)
    await leave(writer)
    assert place.server.closed[ClosedFor.LATE] == 1


async def test_a_request_may_take_longer_than_its_head(place: Env) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/wait ", 1))
    await until(lambda: place.server.requests_begun == 1)
    place.pass_time(100 * HEAD_SECONDS)
    place.release.set()
    assert await status_of(reader) == b"200"
    await leave(writer)


async def test_a_head_that_grows_and_grows_ends_its_connection(place: Env) -> None:
    reader, writer = await place.open()
    with contextlib.suppress(OSError):
        for number in range(HEAD_BYTES // 1000 * 20):
            writer.write(b"GET / HTTP/1.1\r\n" if number == 0 else b"X-%d: %s\r\n" % (number, b"x" * 990))
            await writer.drain()
            await asyncio.sleep(0)
    await ended(reader)
    await leave(writer)


async def test_a_body_that_was_not_wanted_does_not_cost_its_sender_the_answer(place: Env) -> None:
    reader, writer = await place.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    for _ in range(30):
        writer.write(bytes(100_000))
        await asyncio.sleep(0)
    assert await status_of(reader) == b"413"
    await leave(writer)


# Not more than there is room for


@pytest.mark.parametrize("begins", [False, True])
async def test_who_asks_at_once_is_served_beside_many_who_only_connect(place: Env, begins: bool) -> None:
    held = [place.raw(sends=place.beginning if begins else b"") for _ in range(40)]
    assert await place.get() == b"200"
    assert place.server.closed[ClosedFor.FULL] == 37  # and the last one is gone
    for opened in held:
        opened.close()


@pytest.mark.parametrize("addresses", [1, 40])
async def test_who_asks_at_once_is_served_beside_many_unfinished_heads(place: Env, addresses: int) -> None:
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


async def test_requests_that_are_under_way_are_not_closed_for_new_connections(place: Env) -> None:
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


async def hold_every_place(place: Env, sends: bytes) -> list[asyncio.StreamWriter]:
    """Take all places, from two addresses; each sends a head and takes nothing of an answer."""
    held = []
    for number in range(FEW.connections):
        _, writer = await place.open(f"127.0.{number % 2}.1")
        writer.transport.pause_reading()
        writer.write(sends)
        held.append(writer)
    await until(lambda: place.server.requests_begun == FEW.connections)
    return held


ANYBODYS = ("127.0.0.1", "127.0.1.1", "127.0.2.1")
"""Both addresses of those who hold every place, and another one."""


@pytest.mark.parametrize("source", ANYBODYS)
async def test_who_asks_is_served_beside_many_who_do_not_take_their_answers(place: Env, source: str) -> None:
    held = await hold_every_place(place, GET.replace(b"/ ", b"/text ", 1))
    assert await place.get(source) == b"200"
    for writer in held:
        await leave(writer)


@pytest.mark.parametrize("source", ANYBODYS)
async def test_who_asks_is_served_beside_many_whose_bodies_do_not_come(place: Env, source: str) -> None:
    held = await hold_every_place(place, POST + b"{")
    assert await place.get(source) == b"200"
    for writer in held:
        await leave(writer)


async def test_a_whole_body_is_taken_beside_others_that_do_not_come(place: Env) -> None:
    held = await hold_every_place(place, POST + b"{")
    reader, writer = await place.open()
    writer.write(POST + bytes(1000))
    assert await status_of(reader) == b"200"
    for each in (writer, *held):
        await leave(each)


@pytest.mark.parametrize("sends", [GET.replace(b"/ ", b"/big ", 1), POST + b"{"], ids=["download", "upload"])
async def test_files_are_not_cut_off_for_new_connections(tmp_path: Path, sends: bytes) -> None:
    async with serving(tmp_path, secure=True, limits=replace(FEW, long_bodies=True)) as place:
        held = await hold_every_place(place, sends)
        await socket_ended(place.raw("127.0.2.1"))
        assert place.server.closed == {ClosedFor.REFUSED: 1}
        for writer in held:
            await leave(writer)


# One request at a time


@pytest.mark.parametrize("more", [b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n"], ids=["plain", "upgrade"])
async def test_of_requests_in_a_row_one_is_answered(place: Env, more: bytes) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n") * 2000)
    async with asyncio.timeout(10):
        assert await status_of(reader) == b"200"
    await ended(reader)
    assert place.server.requests_begun == 1
    await leave(writer)


async def test_requests_that_come_while_one_is_handled_end_the_connection(place: Env) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/wait ", 1))
    await until(lambda: place.server.requests_begun == 1)
    writer.write(GET * 2000)
    await place.get("127.0.1.1")  # the loop has turned and read some of them
    place.release.set()
    assert await status_of(reader) == b"200"
    await ended(reader)
    assert place.server.requests_begun == 2
    await leave(writer)


async def test_one_who_asks_again_after_each_answer_keeps_the_connection(place: Env) -> None:
    reader, writer = await place.open()
    for path in (b"/text ", b"/ ") * 3:
        writer.write(GET.replace(b"/ ", path, 1))
        assert await status_of(reader) == b"200"
        await reader.readexactly(BIG if path == b"/text " else 4)
    await leave(writer)


async def test_no_more_than_its_share_is_read_of_a_connection_at_once(
    place: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    take = HttpProtocol.data_received

    def note(self: HttpProtocol, data: bytes) -> None:
        sizes.append(len(data))
        take(self, data)

    monkeypatch.setattr(HttpProtocol, "data_received", note)
    reader, writer = await place.open()
    writer.write(POST.replace(b": 1000", b": 1000000") + bytes(1_000_000))
    assert await status_of(reader) == b"200"
    assert max(sizes) <= 2 * FEW.read_bytes  # of TLS a whole record and the rest of the one before
    await leave(writer)


async def test_without_descriptors_it_waits_for_some_and_does_not_ask_again_and_again(
    place: Env, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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


async def test_a_peer_that_takes_nothing_of_its_answer_is_given_up(place: Env) -> None:
    _, writer = await place.open()
    writer.transport.pause_reading()
    writer.write(GET.replace(b"/ ", b"/big ", 1))
    async with place.time_passing():
        await until(lambda: place.server.closed[ClosedFor.STALLED] == 1)
    assert place.clock.seconds < BIG / ANSWER_BYTES_PER_SECOND
    await leave(writer)


async def test_a_peer_that_takes_its_answer_byte_by_byte_is_given_up(
    place: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "WRITE_SECONDS", math.inf)  # a byte now and then is something
    monkeypatch.setattr(times, "ANSWER_BYTES_PER_SECOND", 1 << 30)
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/big ", 1))
    assert await status_of(reader) == b"200"
    with contextlib.suppress(OSError):
        async with asyncio.timeout(10):
            while place.server.closed[ClosedFor.STALLED] == 0:
                await reader.read(1000)
                place.pass_time(1)
                await asyncio.sleep(0.005)  # for the kernel's buffers to fill
    assert place.server.closed[ClosedFor.STALLED] == 1
    await leave(writer)


async def test_a_slow_peer_gets_its_whole_answer(place: Env) -> None:
    reader, writer = await place.open()
    writer.write(GET.replace(b"/ ", b"/big ", 1))
    assert await status_of(reader) == b"200"
    got = 0
    async with asyncio.timeout(60):
        while got < BIG:
            got += len(await reader.read(1 << 16))
            if got % (1 << 21) < 1 << 16:
                place.pass_time(WRITE_SECONDS / 10)
    assert got == BIG
    assert place.clock.seconds > WRITE_SECONDS
    await leave(writer)
    assert place.server.closed[ClosedFor.STALLED] == 0


# The end


async def test_it_ends_whatever_is_open(place: Env) -> None:
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
