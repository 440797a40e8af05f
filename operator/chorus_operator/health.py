"""Probes, alive while every loop turns, ready while messages are received; and the metrics beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

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
        self._metrics = metrics
        self._port = port
        self._address = address
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Open the socket."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        stale = {name: round(beat(), 1) for name, beat in self._beats.items() if beat() > STALE_SECONDS}
        if stale:
            return web.json_response({"stuck": stale}, status=503)
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if not self._is_ready():
            return web.json_response({"status": "not receiving messages"}, status=503)
        return web.json_response({"status": "ok"})
