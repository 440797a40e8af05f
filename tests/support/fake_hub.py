"""A model hub on a loopback socket: as much of its protocol as fetching a model needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "1f2e3d4c" * 5


@dataclass
class Hub:
    """Models by name, each a dictionary of files; requests are kept."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=lambda: {"main", "v1", COMMIT})
    token: str | None = None
    gated: bool = False
    status: int | None = None
    """Answer everything with this status."""
    damaged: set[str] = field(default_factory=set)
    """Files that arrive with other content than announced."""
    elsewhere: str = ""
    """Redirect files there."""
    xet: bool = False
    """Offer files by Xet, as the real hub does."""
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""

    def refusal(self, model: str, revision: str, authorization: str | None) -> tuple[int, dict[str, str]] | None:
        """Status and headers of a refusal, as the real hub gives them; None if the request is granted."""
        if self.status is not None:
            return self.status, {}
        if self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept the terms"}
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, {"X-Error-Code": "RepoNotFound"}
        if model not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}
        if revision not in self.revisions:
            return 404, {"X-Error-Code": "RevisionNotFound"}
        return None

    def offers(self, model: str, content: bytes) -> dict[str, str]:
        """Headers that offer a file by Xet, if it is."""
        if not self.xet:
            return {}
        route = f"{self.url}/api/models/{model}/xet-read-token/{COMMIT}"
        return {"X-Xet-Hash": hashlib.sha256(content).hexdigest(), "X-Xet-Refresh-Route": route}

    def info(self, model: str) -> dict[str, Any]:
        """What the hub says of a model."""
        siblings = []
        for name, content in self.models[model].items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _etag(content)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            siblings.append(entry)
        return {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """Serve a hub; its address is `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else a body, written after its headers, waits 40 ms for the client to acknowledge them.
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.add(self.headers["authorization"])
            if path.startswith("/api/models/"):
                model, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                name = None
            else:
                model, _, rest = path.removeprefix("/").partition("/resolve/")
                revision, _, name = rest.partition("/")
            refusal = hub.refusal(model, revision or "main", self.headers["authorization"])
            if refusal is not None:
                self.reply(refusal[0], {**refusal[1], "content-type": "application/json"}, b"{}", with_body)
            elif name is None:
                body = json.dumps(hub.info(model)).encode()
                self.reply(200, {"content-type": "application/json"}, body, with_body)
            elif name not in hub.models[model]:
                self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body)
            else:
                content = hub.models[model][name]
                headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT, **hub.offers(model, content)}
                if hub.elsewhere:
                    self.reply(302, {**headers, "Location": hub.elsewhere}, b"", with_body)
                    return
                sent = bytes(len(content)) if name in hub.damaged else content
                self.reply(200, headers, sent, with_body)

        def reply(self, status: int, headers: dict[str, str], body: bytes, with_body: bool) -> None:
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
