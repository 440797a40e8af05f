"""A plugin that is a service, as somebody else would write it: real sockets, and nothing of Chorus but its protocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WEIGHTS = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "
REPORT = {"id": "far", "name": "Far", "type": "classifier", "description": "", "parameters": {"depth": 3}}
Event = dict[str, Any]


@dataclass
class FarService:
    """Answers inquiries, and trains. `dies_after`: the message after which nothing more comes of it."""

    ports: Mapping[str, int]
    """Ports of exchanges on this machine, by their hosts: there is no cluster's name service here."""
    dies_after: str = ""
    refuses: int = 0
    """How many times it answers TRAINING_DATA with 503 first."""
    port: int = 0
    got: list[tuple[dict[str, str], Event]] = field(default_factory=list)
    answers: list[tuple[str, int]] = field(default_factory=list)
    """What it said, and the status that came of it."""
    frame: bytes = b""
    account_token: str = ""
    """Of its pod's service account: what it shows with messages in place of the token that it was told."""
    on_data: Callable[[], None] = lambda: None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    raw: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/chorus"

    def of(self, kind: str) -> list[tuple[dict[str, str], Event]]:
        """The messages of a type that it got."""
        return [each for each in self.got if each[1]["type"] == f"dev.chorus.{kind}"]

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        event = json.loads(body)
        self.got.append(({key.lower(): value for key, value in request.headers.items()}, event))
        self.raw.append(body)
        is_data = event["type"] == "dev.chorus.TRAINING_DATA"
        if is_data and self.refuses:
            self.refuses -= 1
            return web.Response(status=503)
        work = self.train(event) if is_data else self.report(event)
        task = asyncio.create_task(work)
        self.tasks.add(task)
        return web.Response(status=202)

    async def report(self, event: Event) -> None:
        await self.say(event, "ONLINE_REPORT", 1, **REPORT)

    async def train(self, event: Event) -> None:
        self.on_data()
        data = event["data"]
        ids = {"project_id": data["project_id"], "plugin_id": data["plugin_id"]}
        messages: list[tuple[str, Event]] = [
            ("DATA_REPORT", {"applicable": True}),
            ("TRAINING_START", {}),
            ("progress", {"percent": 100}),
            ("MODEL_NAME", {"model_name": "far-model", "metrics": {"f1": 0.9}}),
        ]
        for number, (kind, told) in enumerate(messages, start=1):
            if kind == "progress":
                self.frame = await self.exchange(event, "GET", "train.parquet")
                await self.exchange(event, "PUT", "model.safetensors", WEIGHTS)
            await self.say(event, kind, number, **ids, **told)
            if kind == self.dies_after:
                return

    async def say(self, event: Event, kind: str, sequence: int, **data: Any) -> int:
        """Send a message, again while the operator is away; the status."""
        body = {
            "specversion": "1.0",
            "id": f"{kind}-{sequence}",
            "source": "/far",
            "type": f"dev.chorus.{kind}",
            "subject": event["subject"],
            "subjectuid": event["subjectuid"],
            "attempt": event["attempt"],
            "sequence": str(sequence),
            "data": data,
        }
        told = event["data"]
        token = self.account_token or told["token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents+json"}
        context = ssl.create_default_context(cadata=told["messages_ca"])
        status = 0
        for _ in range(200):
            try:
                async with aiohttp.ClientSession() as session:
                    url = told["messages_url"]
                    async with session.post(url, data=json.dumps(body), headers=headers, ssl=context) as answer:
                        status = answer.status
            except aiohttp.ClientError:
                status = 0
            if status and status < 500:
                break
            await asyncio.sleep(0.1)
        self.answers.append((kind, status))
        return status

    async def exchange(self, event: Event, method: str, name: str, content: bytes | None = None) -> bytes:
        """Ask the exchange, by the name and the certificate that were told."""
        told = event["data"]
        url = told["location"] if method == "GET" else told["exchange_url"]
        headers = {"Authorization": f"Bearer {told['token']}"}
        if content is not None:
            headers["X-Content-SHA256"] = hashlib.sha256(content).hexdigest()
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cadata=told["exchange_ca"]), resolver=_Here(self.ports)
        )
        async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:
            async with session.request(method, url + name, data=content, headers=headers) as answer:
                return await answer.read()


class _Here(AbstractResolver):
    """Finds exchanges on this machine."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=self._ports[host], family=2, proto=6, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def far_service(ports: Mapping[str, int], **how: Any) -> AsyncIterator[FarService]:
    """Run a service on this machine; what went wrong in it is raised at the end."""
    service = FarService(ports, **how)
    app = web.Application()
    app.router.add_post("/chorus", service.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.port = runner.addresses[0][1]
    try:
        yield service
        for task in service.tasks:
            if task.done():
                task.result()
    finally:
        for task in service.tasks:
            task.cancel()
        await asyncio.gather(*service.tasks, return_exceptions=True)
        await runner.cleanup()


def check_signature(public_key: str, headers: Mapping[str, str], body: bytes) -> None:
    """Check a message as Standard Webhooks has it; InvalidSignature when it is not from who has the other key."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
    public.verify(signature, f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body)
