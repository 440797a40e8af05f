"""Probes, alive while every loop turns, ready while messages are received; and the metrics beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from chorus_net.limits import HEALTH, RECEIVER
from chorus_net.serve import ClosedFor, LimitedServer

STALE_SECONDS = 30.0


class Health:
    """Serves /healthz, /readyz and /metrics. It runs on the main loop, so an answer shows that this one turns."""

    def __init__(
        self,
        *,
        beats: Mapping[str, Callable[[], float]],
        is_ready: Callable[[], bool],
        metrics: Handler,
        port: int,
        address: str | None = None,
    ):
        """`beats`: for each other loop, seconds since it turned last; `address`: every address when None."""
        self._beats = beats
        self._is_ready = is_ready
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", metrics)
        self._server = LimitedServer(app, limits=HEALTH, port=port, address=address, beside=(RECEIVER,))

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    @property
    def closed_connections(self) -> Mapping[ClosedFor, int]:
        """Connections that were closed to keep within the limits, since the start."""
        return self._server.closed

    async def start(self) -> None:
        """Open the socket."""
        await self._server.start()

    async def stop(self) -> None:
        """Close the socket."""
        await self._server.stop()

    async def _healthz(self, request: web.Request) -> web.Response:
        stale = {name: round(beat(), 1) for name, beat in self._beats.items() if beat() > STALE_SECONDS}
        if stale:
            return web.json_response({"stuck": stale}, status=503)
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if not self._is_ready():
            return web.json_response({"status": "not receiving messages"}, status=503)
        return web.json_response({"status": "ok"})
