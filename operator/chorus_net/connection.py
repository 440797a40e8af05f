"""One accepted connection: bytes before TLS, the TLS layer, and HTTP above it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from chorus_net.limits import CLOSE_SECONDS, HEAD_BYTES, HEAD_SECONDS, HELLO_BYTES, MAX_HEADERS
from chorus_net.stall import Answer, Unsent

_HANDSHAKE_RECORD = 22
_RECORD_HEAD = 5
LINGER_SECONDS = 2.0
"""How long to read on after an answer that did not need the whole body."""


class Watcher(Protocol):
    """Who is told what becomes of a connection."""

    clock: Callable[[], float]

    def first_bytes_arrived(self, connection: Connection) -> None:
        """Enough has come to begin: a whole ClientHello, or without TLS a whole request head."""

    def head_arrived(self, connection: Connection) -> None:
        """A whole request head has come. Its body may be still to come."""

    def request_arrived(self, connection: Connection) -> None:
        """The rest of the body has come too, or is not waited for: the request is worked on."""

    def awaits_peer(self, connection: Connection) -> None:
        """The handler has given its answer, or the answer has been written: the peer has to do something next."""

    def gone(self, connection: Connection) -> None:
        """The connection has ended. Called once or more often."""


class Connection:
    """A peer's connection from accept to its end.

    Until its first bytes are whole it is a socket and what came: no TLS object, no task. So whoever opens connections
    and sends nothing, or a part of a ClientHello, costs next to nothing; without TLS that holds for a part of a head.
    """

    def __init__(self, number: int, *, accepted: socket.socket, peer: str, secure: bool, watcher: Watcher):
        """`secure`: the peer must begin with a TLS handshake."""
        self.number = number
        self.peer = peer
        self.unsent = Unsent()
        self.closing = False
        self.answer: Answer | None = None
        """The last answer, from when its handler gave it until the next request's head has come."""
        self._missing = missing_of_hello if secure else missing_of_head
        self._room = HELLO_BYTES if secure else HEAD_BYTES
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = accepted
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._http: HttpProtocol | None = None
        self._aborted = False
        self._loop.add_reader(accepted.fileno(), self._read_first_bytes)

    @property
    def speaks_http(self) -> bool:
        """Whether HTTP has begun: with TLS after the handshake, without it at the first whole head."""
        return self._http is not None and self._http.transport is not None

    @property
    def awaits_head(self) -> bool:
        """Whether no request is under way."""
        return self._http is None or self._http.awaits_head

    @property
    def unsent_bytes(self) -> int:
        """How many bytes of an answer the peer has not taken, beyond what the kernel holds."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    async def serve(self, http: HttpProtocol, context: ssl.SSLContext | None) -> None:
        """Hand the socket with what it has sent to the protocols; with a context, by a TLS handshake first."""
        accepted, self._socket = self._socket, None
        if accepted is None:
            return
        self._http = http
        received = bytes(self._received)
        self._received.clear()
        protocol: asyncio.BaseProtocol
        if context is None:
            protocol = _PlainProtocol(self, http, received=received)
        else:
            protocol = _TlsProtocol(self, http, context, received=received)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            self.lost()

    def close(self) -> None:
        """End it in an orderly way where that is possible: after an answer, as TLS wants it."""
        if self._http is not None and self.speaks_http and not self._http.in_head:
            self.closing = True
            self._http.force_close()
        else:
            self.abort()

    def abort(self) -> None:
        """End it at once, whatever is under way."""
        self._aborted = self.closing = True
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self.lost()
        elif self._transport is not None:
            self._transport.abort()

    # What the protocols tell

    def made(self, transport: asyncio.Transport) -> None:
        """The socket has a transport."""
        self._transport = transport
        if self._aborted:
            transport.abort()

    def lost(self) -> None:
        """It has ended."""
        self._watcher.gone(self)

    def head_arrived(self) -> None:
        """A whole request head has come."""
        self.answer = None
        self._watcher.head_arrived(self)

    def request_arrived(self) -> None:
        """A whole request has come."""
        self._watcher.request_arrived(self)

    def answers(self, response: web.StreamResponse) -> None:
        """A handler has given its answer. Only a file that is sent keeps the connection from being closed for others.

        Whoever has no token for files could ask for other answers without reading them.
        """
        self.answer = Answer(response, begun=self._watcher.clock())
        if not isinstance(response, web.FileResponse):
            self._watcher.awaits_peer(self)

    def answered(self) -> None:
        """A request has been answered."""
        self._watcher.awaits_peer(self)

    def _read_first_bytes(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(self._room - len(self._received))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._received += data
        missing = self._missing(self._received)
        if not data or missing is None:
            self.abort()
        elif missing == 0:
            self._loop.remove_reader(self._socket.fileno())
            self._watcher.first_bytes_arrived(self)


def missing_of_hello(received: bytes | bytearray) -> int | None:
    """Tell how many bytes of a TLS ClientHello's record are still to come; None when it cannot become one."""
    if received[:1] and received[0] != _HANDSHAKE_RECORD:
        return None
    if len(received) < _RECORD_HEAD:
        return _RECORD_HEAD - len(received)
    whole = _RECORD_HEAD + int.from_bytes(received[3:_RECORD_HEAD], "big")
    return max(0, whole - len(received)) if whole <= HELLO_BYTES else None


def missing_of_head(received: bytes | bytearray) -> int | None:
    """Tell how many bytes of a request head are still to come, at least; 0 when it is whole."""
    return 0 if b"\r\n\r\n" in received else 1


class _TlsProtocol(SSLProtocol):
    """asyncio's own TLS, with a small buffer instead of one of 256 KiB for each connection."""

    def __init__(self, connection: Connection, http: HttpProtocol, context: ssl.SSLContext, *, received: bytes):
        self.max_size = http.read_bytes  # type: ignore[misc] # the size of the buffer that is made next
        super().__init__(
            asyncio.get_running_loop(),
            http,
            context,
            cast("asyncio.Future[Any]", None),  # nobody waits for the handshake: it has its deadline
            server_side=True,
            ssl_handshake_timeout=int(HEAD_SECONDS),
            ssl_shutdown_timeout=CLOSE_SECONDS,
        )
        self._connection = connection
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.made(cast("asyncio.Transport", transport))
        super().connection_made(transport)
        received, self._received = self._received, b""
        self.get_buffer(len(received))[: len(received)] = received
        self.buffer_updated(len(received))

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._connection.lost()


class _PlainProtocol(asyncio.BufferedProtocol):
    """Hands to HTTP what comes, no more at once than its buffer holds: asyncio would read 256 KiB."""

    def __init__(self, connection: Connection, http: HttpProtocol, *, received: bytes):
        self._connection = connection
        self._http = http
        self._received = received
        self._buffer = bytearray(http.read_bytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        self._connection.made(stream)
        self._http.connection_made(stream)
        received, self._received = self._received, b""
        self._http.data_received(received)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._http.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._http.connection_lost(exc)


class HttpProtocol(web.RequestHandler):
    """aiohttp's own protocol, which also says when it has a whole request, and bounds what is not whole yet.

    A connection has one request at a time. aiohttp would answer those that a peer sends in a row without the loop
    turning in between, on Python 3.12 and newer, so one peer could stop everything else.
    """

    __slots__ = ("_body", "_connection", "_head_bytes", "_waits", "_whole", "read_bytes")

    def __init__(self, server: web.Server, *, connection: Connection, read_bytes: int):
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast("Any", None),
            auto_decompress=False,
            keepalive_timeout=HEAD_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_headers=MAX_HEADERS,
            read_bufsize=read_bytes,
        )
        self.read_bytes = read_bytes
        self._connection = connection
        self._waits = True
        self._whole = False
        self._head_bytes = 0
        self._body: StreamReader | None = None

    @property
    def awaits_head(self) -> bool:
        """Whether no request is under way: the last one's answer is written."""
        return self._waits

    @property
    def in_head(self) -> bool:
        """Whether a part of a head is there and the rest is not."""
        return self._waits and self._head_bytes > 0

    async def start(self) -> None:
        """Handle requests until the end, which may have come before the loop came to this."""
        if self.transport is not None:
            await super().start()

    def data_received(self, data: bytes) -> None:
        """Parse what came; the connection ends when a head grows and grows."""
        # After an answer that did not need the whole body, the rest of the body is read: that is no head.
        if not self._messages and (self._body is None or self._body.is_eof()):
            if self._head_bytes > HEAD_BYTES:
                self._connection.abort()
                return
            self._head_bytes += len(data)
        super().data_received(data)
        self._tell_if_whole()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell that the connection has ended."""
        super().connection_lost(exc)
        self._connection.lost()

    def head_arrived(self, body: StreamReader) -> None:
        """A whole head has come, and this is how its body will be read."""
        self._waits, self._whole, self._head_bytes, self._body = False, False, 0, body
        self._connection.head_arrived()
        self._tell_if_whole()

    def _tell_if_whole(self) -> None:
        if self._waits or self._whole or self._body is None or not self._body.is_eof():
            return
        self._whole = True
        self._connection.request_arrived()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; then the connection waits for the next head, or ends when more was sent meanwhile.

        Clients of Chorus send a request when they have the last one's answer. Others ask what is left again.
        """
        self._whole = True  # what is still to come of the body does not count any more
        if isinstance(resp, web.StreamResponse):
            self._connection.answers(resp)
            if self._messages or self._message_tail:
                resp.force_close()
        try:
            result = await super().finish_response(request, resp, start_time)
        finally:
            self._waits = True
            self._connection.answered()
        await asyncio.sleep(0)  # what came while the answer was written has to wait for everybody else
        return result

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be handled. What a stranger sends wrongly fills no log."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=status, text=message or "")
        answer.force_close()
        return answer


_RequestFactory = Callable[
    [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"], web.BaseRequest
]


def telling_heads(make_request: _RequestFactory) -> _RequestFactory:
    """Make a request factory that tells the protocol first that a whole head has come."""

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if isinstance(protocol, HttpProtocol):
            protocol.head_arrived(payload)
        return make_request(message, payload, protocol, writer, task)

    return make


def peer_of(address: Any) -> str:
    """Name a peer by its address alone, without the port."""
    with contextlib.suppress(TypeError, IndexError):
        return str(address[0])
    return str(address)
