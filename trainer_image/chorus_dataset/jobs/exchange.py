"""Serve a run's frame to a plugin that runs elsewhere, and take its artefact: HTTPS with one bearer token.

The pod holds the frame (read-only) and the run's own directory, and nothing else. Its key is made at the start and
never leaves the process; what it is known by, a certificate of its own, it tells the operator by EXCHANGE_READY.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from chorus_api.contract import EXCHANGE_ARTEFACT, EXCHANGE_FRAME
from chorus_api.reasons import Reason
from chorus_api.records import TerminationRecord
from chorus_api.run_config import ExchangeConfig
from chorus_client.sender import Sender
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.errors import DataError
from chorus_dataset.frame.write import EVAL_FILE, TRAIN_FILE
from chorus_dataset.jobs.exchange_certificate import make_certificate
from chorus_dataset.jobs.uploads import Upload, UploadRefused, Uploads
from chorus_dataset.untrusted import Directory
from chorus_net.limits import EXCHANGE
from chorus_net.serve import LimitedServer
from chorus_pki.tls import server_context
from chorus_protocol.messages import ExchangeReady

LOG = logging.getLogger(__name__)

FRAME_FILE = "frame.json"
FILES = (TRAIN_FILE, EVAL_FILE, FRAME_FILE)
MAX_UPLOADS = 8
PIECE_SECONDS = 60.0
BLOCK = 1 << 20
STOP_POLL_SECONDS = 0.05
SHUTDOWN_SECONDS = 5.0
LAST_WORD_SECONDS = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run_exchange(
    config: ExchangeConfig,
    *,
    attempt: int,
    data_dir: Path,
    run_dir: Path,
    stop: StopFlag,
    address: str | None = None,
    serving: Callable[[int], None] = lambda _: None,
    sender: Sender | None = None,
) -> TerminationRecord:
    """Serve until `stop`, then raise `Stopped`; an exchange never ends by itself.

    `address`: what to listen on, every address when None. `serving` is called with the port once the socket is open.
    """
    missing = _missing(data_dir)
    if missing:
        raise DataError(
            Reason.INTERNAL_ERROR, f"the frame lacks {', '.join(missing)}", hint="prepare the Project's data again"
        )
    uploads = Uploads(run_dir, max_bytes=config.max_bytes, max_files=config.max_files)
    uploads.start()
    certificate = make_certificate(config.hosts, now=datetime.now(UTC))
    messages = sender or Sender(config.messaging, attempt=attempt)
    ready = ExchangeReady(
        project_id=config.project_id, plugin_id=config.plugin_id, certificate=certificate.chain.decode()
    )

    def tell(port: int) -> None:
        LOG.info("serving the frame of run %s on port %d", config.run_name, port)
        messages.send(ready)
        serving(port)

    app = make_app(uploads, data_dir=data_dir, token_sha256=config.token_sha256)
    try:
        asyncio.run(
            _serve(app, context=server_context(certificate), address=address, port=config.port, stop=stop, tell=tell)
        )
    finally:
        messages.close(LAST_WORD_SECONDS)
        uploads.end()
    raise Stopped(f"stopped by {stop.signal_name}")


def _missing(data_dir: Path) -> list[str]:
    """Name the files that the frame lacks. It is mounted read-only, and only prepare Jobs write frames."""
    missing = []
    with Directory.at(data_dir) as frame:
        for name in FILES:
            try:
                frame.file(name).close()
            except OSError:
                missing.append(name)
    return missing


async def _serve(
    app: web.Application,
    *,
    context: ssl.SSLContext,
    address: str | None,
    port: int,
    stop: StopFlag,
    tell: Callable[[int], None],
) -> None:
    server = LimitedServer(
        app, limits=EXCHANGE, port=port, context=context, address=address, shutdown_seconds=SHUTDOWN_SECONDS
    )
    try:
        await server.start()
        tell(server.port)
        while not stop.requested:  # noqa: ASYNC110 (it is set by a signal, in no loop)
            await asyncio.sleep(STOP_POLL_SECONDS)
    finally:
        await server.stop()


def make_app(uploads: Uploads, *, data_dir: Path, token_sha256: str) -> web.Application:
    """Build the application: GET of the frame's files, PUT and DELETE of the artefact's, all with the bearer token."""
    under_way = asyncio.Semaphore(MAX_UPLOADS)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_token(request.headers.get("Authorization"), token_sha256):
            answer = _error(401, "the header 'Authorization: Bearer <token of TRAINING_DATA>' is missing or wrong")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        try:
            return await handler(request)
        except UploadRefused as refused:
            answer = _error(refused.status, str(refused))
            answer.force_close()  # the rest of the body is not read
            return answer
        except web.HTTPException as error:
            return _error(error.status, error.reason, headers=error.headers)

    async def frame(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in FILES:
            return _error(404, f"there is no {name[:100]!r}; there are {', '.join(FILES)}")
        return web.FileResponse(data_dir / name)

    async def put(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return _error(415, "send the file without Content-Encoding")
        digest = wanted_digest(request.headers)
        if under_way.locked():
            answer = _error(429, f"at most {MAX_UPLOADS} files are taken at once: send it a little later")
            answer.headers["Retry-After"] = "1"
            answer.force_close()
            return answer
        async with under_way:
            upload = uploads.begin(request.match_info["name"], length=request.content_length)
            try:
                await _receive(request, uploads, upload)
                stored = uploads.finish(upload, sha256=digest)
            except BaseException:
                uploads.abandon(upload)
                raise
        taken = {"name": stored.name, "bytes": stored.bytes, "sha256": stored.sha256}
        return web.json_response(taken, status=201 if stored.new else 200)

    async def delete(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return web.Response(status=204) if uploads.delete(name) else _error(404, f"there is no {name!r}")

    app = web.Application(middlewares=[guard])
    app.router.add_get(EXCHANGE_FRAME + "{name}", frame)
    app.router.add_put(EXCHANGE_ARTEFACT + "{name:.+}", put)
    app.router.add_delete(EXCHANGE_ARTEFACT + "{name:.+}", delete)
    return app


def is_token(authorization: str | None, token_sha256: str) -> bool:
    """Tell whether an Authorization header bears the token of this hash."""
    scheme, _, token = (authorization or "").partition(" ")
    given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.compare_digest(given, token_sha256) and scheme.lower() == "bearer"


_SHA256 = re.compile(r"[0-9a-f]{64}")


def wanted_digest(headers: Mapping[str, str]) -> str | None:
    """Read the SHA-256 that a sender gives, as hex digits; UploadRefused (422) when it cannot be read.

    Known are Content-Digest (RFC 9530), Digest (RFC 3230) and X-Content-SHA256; digests of other kinds are left aside.
    """
    found = []
    if (plain := headers.get("X-Content-SHA256")) is not None:
        found.append(plain.strip().lower())
    for name, wrap in (("Content-Digest", ":"), ("Digest", "")):
        for member in headers.get(name, "").split(","):
            kind, _, value = member.strip().partition("=")
            if kind.lower() == "sha-256":
                found.append(_hex(value.strip().removeprefix(wrap).removesuffix(wrap)))
    if any(not _SHA256.fullmatch(digest) for digest in found) or len(set(found)) > 1:
        raise UploadRefused(
            422, "the digest is not a SHA-256: hex digits in X-Content-SHA256, base64 in Content-Digest"
        )
    return found[0] if found else None


def _hex(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""


async def _receive(request: web.Request, uploads: Uploads, upload: Upload) -> None:
    """Write a body down in large blocks, never more of it than there is room for; UploadRefused (400, 408, 413)."""
    block = bytearray()
    received = 0
    while piece := await _piece(request):
        received += len(piece)
        uploads.reserve(upload, received)
        block += piece
        if len(block) >= BLOCK:
            await asyncio.to_thread(upload.write, bytes(block))
            block.clear()
    if request.content_length is not None and received != request.content_length:
        raise UploadRefused(400, f"{received} bytes came of the {request.content_length} that were promised")
    await asyncio.to_thread(upload.write, bytes(block))


async def _piece(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            return await request.content.readany()
    except TimeoutError:
        raise UploadRefused(408, f"nothing came for {PIECE_SECONDS:g} s") from None


def _error(status: int, error: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    answer = web.json_response({"error": error}, status=status)
    if headers and "Allow" in headers:
        answer.headers["Allow"] = headers["Allow"]
    return answer
