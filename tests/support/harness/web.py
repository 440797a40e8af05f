"""An HTTPS server for tests, whose answers a test sets; every request is kept."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.pki import Authority


@dataclass(frozen=True)
class Answer:
    """What a path answers; `announce` is the length it claims, if that is not the truth."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    announce: int | None = None


@dataclass
class Web:
    """The server: paths and their answers, or a function that answers all of them."""

    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Method and path, and the Authorization header, of each request."""
    answer: Callable[[str], Answer | None] = lambda path: None
    url: str = ""
    host: str = ""
    """Host and port of `url`."""
    authority: str = ""
    """The certificate of its authority, in PEM."""


@contextmanager
def serving_web(folder: Path, *, tls: bool = True) -> Iterator[Web]:
    """Serve on a loopback port. `folder` gets the server's key pair."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else a body, written after its headers, waits 40 ms for the client to acknowledge them.
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self.reply(with_body=False)

        def do_GET(self) -> None:
            self.reply(with_body=True)

        def reply(self, *, with_body: bool) -> None:
            web.requests.append((f"{self.command} {self.path}", self.headers["authorization"]))
            answer = web.answers.get(self.path.partition("?")[0]) or web.answer(self.path) or Answer(404)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(answer.announce or len(answer.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if with_body:
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: tests read what was asked from `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        authority = Authority("web")
        pair = authority.server("web", hosts=("127.0.0.1", "localhost"))
        (folder / "web.crt").write_bytes(pair.certificate)
        (folder / "web.key").write_bytes(pair.key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "web.crt", folder / "web.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        web.authority = authority.pair.certificate.decode()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    web.host = f"127.0.0.1:{server.server_address[1]}"
    web.url = f"{'https' if tls else 'http'}://{web.host}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
