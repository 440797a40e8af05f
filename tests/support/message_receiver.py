"""A control plane's receiver for tests of pods: HTTPS on a loopback socket, with answers that the test scripts."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chorus_api.run_config import Messaging
from chorus_pki.certificates import issue_self_signed


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself; return certificate and key."""
    made = issue_self_signed("chorus-test", hosts=["127.0.0.1"], now=datetime.now(UTC), lifetime=timedelta(hours=1))
    certificate_file, key_file = folder / "ca.crt", folder / "tls.key"
    certificate_file.write_bytes(made.chain)
    key_file.write_bytes(made.key)
    return certificate_file, key_file


@dataclass
class Post:
    """One request that the receiver got."""

    headers: dict[str, str]
    event: dict[str, Any]


@dataclass
class Receiver:
    """An HTTPS receiver whose answers the test scripts; 202 when the script is at its end."""

    folder: Path
    answers: deque[tuple[int, dict[str, str], str]] = field(default_factory=deque)
    posts: list[Post] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    gate: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def answer(self, status: int, *, headers: dict[str, str] | None = None, body: str = "") -> None:
        self.answers.append((status, headers or {}, body))

    def messaging(self) -> Messaging:
        return Messaging(
            url=f"https://127.0.0.1:{self.port}/v1/messages",
            token_file=str(self.folder / "token"),
            ca_file=str(self.folder / "ca.crt"),
            subject_uid="5d1c9a52-0000-4000-8000-000000000001",
            source="/namespaces/lab/pods/train",
        )

    def wait_for_posts(self, count: int) -> list[Post]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.posts) >= count, timeout=60), f"only {len(self.posts)} posts"
            return list(self.posts)

    @property
    def types(self) -> list[str]:
        return [post.event["type"].removeprefix("dev.chorus.") for post in self.posts]


@contextmanager
def serving(folder: Path) -> Iterator[Receiver]:
    """Run a receiver on a loopback socket; its CA bundle and a token are files in `folder`."""
    certificate, key = write_certificate(folder)
    (folder / "token").write_text("token-one\n")
    scripted = Receiver(folder=folder)
    scripted.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with scripted.changed:
                scripted.posts.append(Post({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                status, headers, text = scripted.answers.popleft() if scripted.answers else (202, {}, "")
                scripted.changed.notify_all()
            assert scripted.gate.wait(20)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    scripted.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.gate.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
