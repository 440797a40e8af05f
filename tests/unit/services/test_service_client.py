"""What a service gets, on a real socket; and where none is reached, by whatever name."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_net.addresses import ApiServer
from chorus_operator.decisions.dispatch import Limits
from chorus_operator.services.addresses import AddressGuard
from chorus_operator.services.client import OutboundMessage, ServiceClient
from chorus_protocol.webhook_signature import public_key
from far_service import check_signature
from message_receiver import write_certificate

KEYS = {name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)) for name in ("team", "another")}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = json.dumps({"specversion": "1.0", "type": "dev.chorus.ONLINE_INQUIRY"}).encode()


@dataclass
class Service:
    """A service whose answers the test scripts."""

    port: int = 0
    status: int = 204
    location: str = ""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append(({key.lower(): value for key, value in request.headers.items()}, await request.read()))
        await self.answers.wait()
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=self.status, text="the secret of another machine", headers=headers)

    def outbound(self, *, scheme: str = "http", host: str = "127.0.0.1", ca: str | None = None) -> OutboundMessage:
        return OutboundMessage("team", "uid-1-1", f"{scheme}://{host}:{self.port}/chorus", BODY, ca)


async def serve(service: Service, context: ssl.SSLContext | None = None) -> web.AppRunner:
    service.answers.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    service.port = runner.addresses[0][1]
    return runner


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    runner = await serve(made)
    yield made
    made.answers.set()
    await runner.cleanup()


def at(*addresses: str) -> Callable[[], Awaitable[ApiServer]]:
    """Where the API server is."""

    async def known() -> ApiServer:
        return ApiServer.parse(addresses)

    return known


def client(*, loopback: bool = True, seconds: float = 5.0) -> ServiceClient:
    guard = AddressGuard(api_server=at(), allows=lambda address: loopback and address.is_loopback)
    return ServiceClient(key_of=key_of, guard=guard, clock=lambda: NOW, seconds=seconds)


async def key_of(namespace: str) -> Ed25519PrivateKey:
    return KEYS[namespace]


async def test_a_service_gets_the_event_with_a_signature(service: Service) -> None:
    assert await client().post(service.outbound()) is None
    headers, body = service.got[0]
    assert body == BODY
    assert headers["content-type"] == "application/cloudevents+json"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("uid-1-1", "1767225600")
    check_signature(public_key(KEYS["team"]), headers, body)


async def test_a_message_to_one_team_does_not_verify_as_one_to_another(service: Service) -> None:
    assert await client().post(service.outbound()) is None
    headers, body = service.got[0]
    with pytest.raises(InvalidSignature):
        check_signature(public_key(KEYS["another"]), headers, body)


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
async def test_another_answer_is_told_by_its_number_and_nothing_else(service: Service, status: int) -> None:
    service.status = status
    assert await client().post(service.outbound()) == f"it answered {status}"


async def test_a_redirect_is_not_followed(service: Service) -> None:
    service.status, service.location = 307, f"http://127.0.0.1:{service.port}/elsewhere"
    problem = await client().post(service.outbound())
    assert problem is not None
    assert "redirects are not followed" in problem
    assert len(service.got) == 1


async def test_a_service_that_does_not_answer_is_not_waited_for(service: Service) -> None:
    service.answers.clear()
    assert await client(seconds=0.2).post(service.outbound()) == "it did not answer within 0.2 s"


async def test_a_service_that_is_not_there_is_named(service: Service) -> None:
    port = service.port
    problem = await client().post(OutboundMessage("team", "i", f"http://127.0.0.1:{1 if port != 1 else 2}/", BODY))
    assert problem is not None
    assert "Cannot connect" in problem


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_this_machine_is_not_connected_to_however_it_is_spelt(service: Service, host: str) -> None:
    problem = await client(loopback=False).post(service.outbound(host=host))
    assert problem is not None
    assert "this machine" in problem
    assert service.got == []


async def test_a_harmless_name_of_a_refused_address_is_refused_when_it_is_resolved(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **how: Any) -> Any:
        return found("127.0.0.1" if host == "trainer.example.org" else host, *rest, **how)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    problem = await client(loopback=False).post(service.outbound(host="trainer.example.org"))
    assert problem is not None
    assert "this machine" in problem
    assert service.got == []


async def test_names_that_are_never_resolved_hold_their_own_places_and_no_thread_of_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, answered = socket.getaddrinfo, threading.Event()
    asked: list[str] = []
    hosts = [f"{number}.silent.example.org" for number in range(Limits().total - 1)]
    loop, all_asked = asyncio.get_running_loop(), asyncio.Event()

    def getaddrinfo(host: str, *rest: Any, **how: Any) -> Any:
        if host.endswith(".silent.example.org"):
            asked.append(host)
            if len(asked) == len(hosts):
                loop.call_soon_threadsafe(all_asked.set)
            assert answered.wait(30)
        if host != "good.example.org":
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return found("127.0.0.1", *rest, **how)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    sender = client(seconds=0.2)
    silent = [asyncio.create_task(sender.post(service.outbound(host=host))) for host in hosts]
    await asyncio.wait_for(all_asked.wait(), 30)
    ended, _ = await asyncio.wait(silent, timeout=0.5)  # longer than a try may take
    assert [task.result() for task in ended] == []
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(int) == 0
    assert await client().post(service.outbound(host="good.example.org")) is None
    answered.set()
    assert set(await asyncio.gather(*silent)) == {"it did not answer within 0.2 s"}


async def test_the_api_server_is_refused_at_the_endpoint_that_the_operator_found(service: Service) -> None:
    guard = AddressGuard(api_server=at(f"192.0.2.10:{service.port}"))
    problem = await ServiceClient(key_of=key_of, guard=guard, clock=lambda: NOW).post(
        service.outbound(host="192.0.2.10")
    )
    assert problem is not None
    assert "API server" in problem


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[Service, str]]:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    made = Service()
    runner = await serve(made, context)
    yield made, certificate.read_text()
    await runner.cleanup()


async def test_a_service_is_known_by_the_certificates_of_its_config_map(secured: tuple[Service, str]) -> None:
    service, ca = secured
    assert await client().post(service.outbound(scheme="https", ca=ca)) is None


async def test_a_service_with_another_certificate_gets_nothing(secured: tuple[Service, str], tmp_path: Path) -> None:
    service, _ = secured
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other")[0].read_text()
    for ca in (None, other):
        problem = await client().post(service.outbound(scheme="https", ca=ca))
        assert problem is not None
        assert "certificate is not trusted (see spec.service.caConfigMap)" in problem
    assert service.got == []


async def test_a_config_map_without_certificates_is_named(secured: tuple[Service, str]) -> None:
    problem = await client().post(secured[0].outbound(scheme="https", ca="no certificate"))
    assert problem is not None
    assert "spec.service.caConfigMap" in problem
