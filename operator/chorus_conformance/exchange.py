"""The exchange of a service's run: it serves the frame by HTTPS and takes the artefact, with the run's token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aiohttp import web

from chorus_conformance.certificate import TrustedServer
from chorus_protocol.refusals import Refused

FRAME_PATH = "/v1/frame/"
ARTEFACT_PATH = "/v1/artefact/"
MAX_FILE_BYTES = 1 << 30
CLOSE_SECONDS = 1.0


@dataclass
class Exchange:
    """Serves one run. `check` raises Refused unless an Authorization header is right."""

    data: Path
    out: Path
    check: Callable[[str | None], None]
    host: str
    listen: str
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def frame_url(self) -> str:
        """Where the frame's files are."""
        return f"https://{self.host}:{self.port}{FRAME_PATH}"

    @property
    def artefact_url(self) -> str:
        """Where the artefact's files go."""
        return f"https://{self.host}:{self.port}{ARTEFACT_PATH}"

    async def open(self, server: TrustedServer) -> None:
        """Serve. Raises OSError."""
        app = web.Application(client_max_size=MAX_FILE_BYTES)
        app.router.add_get(FRAME_PATH + "{name}", self._frame)
        app.router.add_put(ARTEFACT_PATH + "{name:.+}", self._put)
        app.router.add_delete(ARTEFACT_PATH + "{name:.+}", self._delete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.listen, self.port, ssl_context=server.context).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _frame(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        name = request.match_info["name"]
        known = [path.name for path in self.data.iterdir()]
        return web.FileResponse(self.data / name) if name in known else _error(404, f"there are {', '.join(known)}")

    async def _put(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        path = self._path(request)
        if path is None:
            return _error(422, "the name leaves the artefact")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.write_bytes(await request.read())
        return web.json_response({"bytes": path.stat().st_size}, status=201 if new else 200)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        path = self._path(request)
        if path is None or not path.is_file():
            return _error(404, "there is no such file")
        path.unlink()
        return web.Response(status=204)

    def _path(self, request: web.Request) -> Path | None:
        name = PurePosixPath(request.match_info["name"])
        return None if name.is_absolute() or ".." in name.parts else self.out / name

    def _refusal(self, request: web.Request) -> web.Response | None:
        try:
            self.check(request.headers.get("Authorization"))
        except Refused as refused:
            return _error(refused.status, refused.detail)
        return None


def _error(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)
