"""Alive while every loop turns; ready while messages are received; metrics whatever happens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from chorus_net.limits import HEALTH
from chorus_net.serve import ClosedFor
from chorus_operator.health import STALE_SECONDS, Health


class Parts:
    beat = 0.0
    ready = True


async def metrics(request: web.Request) -> web.Response:
    return web.Response(text="chorus_leader 1")


@pytest.fixture
async def url_and_parts() -> AsyncIterator[tuple[str, Parts]]:
    parts = Parts()
    health = Health(
        beats={"messages": lambda: parts.beat, "watches": lambda: 0.0},
        is_ready=lambda: parts.ready,
        metrics=metrics,
        port=0,
        address="127.0.0.1",
    )
    await health.start()
    yield f"http://127.0.0.1:{health.port}", parts
    await health.stop()


async def status(url: str) -> tuple[int, str]:
    async with aiohttp.request("GET", url) as response:
        return response.status, await response.text()


async def test_a_loop_that_does_not_turn_is_named(url_and_parts: tuple[str, Parts]) -> None:
    url, parts = url_and_parts
    assert (await status(f"{url}/healthz"))[0] == 200
    parts.beat = STALE_SECONDS + 1
    code, text = await status(f"{url}/healthz")
    assert code == 503
    assert "messages" in text
    assert "watches" not in text


async def test_readiness_is_that_of_the_receiver(url_and_parts: tuple[str, Parts]) -> None:
    url, parts = url_and_parts
    assert (await status(f"{url}/readyz"))[0] == 200
    parts.ready = False
    assert (await status(f"{url}/readyz"))[0] == 503


async def test_metrics_are_beside_the_probes(url_and_parts: tuple[str, Parts]) -> None:
    url, parts = url_and_parts
    parts.ready, parts.beat = False, STALE_SECONDS + 1
    assert await status(f"{url}/metrics") == (200, "chorus_leader 1")


async def test_a_probe_is_answered_while_others_hold_every_place_and_do_not_read() -> None:
    text = bytes(4 << 20)

    async def long(request: web.Request) -> web.Response:
        return web.Response(body=text)

    health = Health(beats={}, is_ready=lambda: True, metrics=long, port=0, address="127.0.0.1")
    await health.start()
    held = [hold(health.port, f"127.0.{number % 2}.1") for number in range(HEALTH.connections)]
    try:
        for source in ("127.0.0.1", "127.0.1.1", "127.0.2.1"):
            async with asyncio.timeout(10):
                connector = aiohttp.TCPConnector(local_addr=(source, 0))
                async with aiohttp.ClientSession(connector=connector) as session:
                    async with session.get(f"http://127.0.0.1:{health.port}/healthz") as response:
                        assert response.status == 200
        assert health.closed_connections[ClosedFor.REFUSED] == 0
    finally:
        for opened in held:
            opened.close()
        await health.stop()


def hold(port: int, source: str) -> socket.socket:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.bind((source, 0))
    opened.connect(("127.0.0.1", port))
    opened.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return opened
