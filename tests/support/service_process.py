"""Run a service plugin as a process and be Chorus to it: sign events, keep an exchange and a receiver on loopback."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from message_receiver import Receiver, serving
from plugin_process import PLUGIN_ID, PROJECT_ID, SUBJECT, Frame

TOKEN = "a-token-of-the-run"
START_SECONDS = 60.0


def public_key(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return "whpk_" + base64.b64encode(raw).decode()


def signed(key: Ed25519PrivateKey, body: bytes, *, identity: str, timestamp: int) -> dict[str, str]:
    """The headers of Standard Webhooks."""
    signature = key.sign(b".".join((identity.encode(), str(timestamp).encode(), body)))
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1a,{base64.b64encode(signature).decode()}",
    }


@dataclass
class Exchange:
    """What a service fetched and left."""

    frame: Path
    port: int = 0
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def exchanging(folder: Path, frame: Path) -> Iterator[Exchange]:
    """Serve a frame and take an artefact over HTTPS with the certificate of the receiver in `folder`."""
    exchange = Exchange(frame)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, (frame / Path(self.path).name).read_bytes())

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            exchange.uploads[self.path.removeprefix("/v1/artefact/")] = content
            self._answer(201, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            exchange.asked.append(f"{self.command} {self.path}")
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                status, body = 401, b""
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    exchange.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield exchange
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class ServicePlace:
    """A service that runs, and all that Chorus is to it."""

    url: str
    key: Ed25519PrivateKey
    receiver: Receiver
    exchange: Exchange
    authority: str
    key_file: Path

    def forget(self) -> None:
        """Forget what other tests did; the service itself goes on."""
        self.receiver.posts.clear()
        self.receiver.answers.clear()
        self.exchange.uploads.clear()
        self.exchange.asked.clear()

    def event(self, kind: str, *, subject: str = SUBJECT, attempt: int = 1, **data: Any) -> dict[str, Any]:
        """An event as Chorus posts it, with what is needed to answer it."""
        return {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "/namespaces/lab/trainingruns/run",
            "type": f"dev.chorus.{kind}",
            "datacontenttype": "application/json",
            "recipient": self.url,
            "subject": "run/1" if kind == "ONLINE_INQUIRY" else "run",
            "subjectuid": subject,
            "attempt": str(attempt),
            "data": {
                "messages_url": self.receiver.messaging().url,
                "messages_ca": self.authority,
                "token": TOKEN,
                **data,
            },
        }

    def training_data(self, frame: Frame, *, attempt: int = 1, **more: Any) -> dict[str, Any]:
        """TRAINING_DATA of an attempt."""
        base = f"https://127.0.0.1:{self.exchange.port}"
        told: dict[str, Any] = {
            "project_id": PROJECT_ID,
            "plugin_id": PLUGIN_ID,
            "training_df_name": frame.manifest.name,
            "parameters": {},
            "info": {},
            "location": f"{base}/v1/frame/",
            "exchange_url": f"{base}/v1/artefact/",
            "exchange_ca": self.authority,
        }
        return self.event("TRAINING_DATA", attempt=attempt, **told | more)

    def post(self, event: Mapping[str, Any], **headers: str) -> int:
        """Post an event, signed unless `headers` say otherwise; the HTTP status."""
        body = json.dumps(event).encode()
        made = signed(self.key, body, identity=str(event["id"]), timestamp=int(time.time()))
        return httpx.post(self.url, content=body, headers=made | headers, timeout=20, trust_env=False).status_code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service_place(folder: Path, *, command: Sequence[str], cwd: Path, frame: Path) -> Iterator[ServicePlace]:
    """Start the service, wait until it is ready, and end it by SIGTERM."""
    key, port = Ed25519PrivateKey.generate(), free_port()
    (folder / "webhook.pub").write_text(public_key(key) + "\n", encoding="ascii")
    url = f"http://127.0.0.1:{port}/"
    settings = {
        "CHORUS_WEBHOOK_KEY_FILE": str(folder / "webhook.pub"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "SERVICE_URL": url,
    }
    environment = {"PATH": os.environ["PATH"], **settings}
    with serving(folder) as receiver, exchanging(folder, frame) as exchange, (folder / "log").open("w") as log:
        process = subprocess.Popen(list(command), cwd=cwd, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(url, process, folder / "log")
            authority = (folder / "ca.crt").read_text(encoding="ascii")
            yield ServicePlace(url, key, receiver, exchange, authority, folder / "webhook.pub")
        finally:
            process.terminate()
            assert process.wait(20) == 0, (folder / "log").read_text(encoding="utf-8")


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{url}healthz", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the service is not ready; its log:\n{log.read_text(encoding='utf-8')}")
