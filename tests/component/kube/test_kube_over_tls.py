"""The client against a server of its own with TLS: who it is, whom it trusts, and watches over a real connection."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.config import incluster_config

from chorus_kube import client, login
from chorus_kube.client import Kube
from chorus_kube.errors import Forbidden, Gone, Unavailable
from chorus_kube.resources import JOBS, TRAINING_RUNS
from harness.client import load_pair
from harness.pki import Authority

RUN = {"apiVersion": "chorus.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": "run", "namespace": "ns"}}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ApiServer:
    """Lets in who has the token, and answers as told."""

    url: str
    folder: Path
    token: str = "first"
    tokens: list[str] = field(default_factory=list)
    """Those that were shown, in order."""
    connections: set[object] = field(default_factory=set)
    answer: Answer | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        shown = request.headers.get("Authorization", "").partition(" ")[2]
        self.tokens.append(shown)
        await request.read()
        if shown != self.token:
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response(RUN)

    def kubeconfig(self, user: dict[str, Any], **cluster: Any) -> str:
        described = {"server": self.url, "certificate-authority": str(self.folder / "ca.crt"), **cluster}
        config = {
            "clusters": [{"name": "c", "cluster": described}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        return str(path)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    authority = Authority("test")
    (tmp_path / "ca.crt").write_bytes(authority.pair.certificate)
    (tmp_path / "token").write_text("first")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair = authority.server("api", hosts=("127.0.0.1", "kubernetes"))
    load_pair(context, certificate=pair.certificate, key=pair.key)
    running = ApiServer("", tmp_path)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.handle)
    listening = TestServer(app, host="127.0.0.1", scheme="https")
    await listening.start_server(ssl=context)
    running.url = f"https://127.0.0.1:{listening.port}"
    yield running
    await listening.close()


@pytest.fixture
async def in_pod(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    """The client of a pod of that API server."""
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(server.folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(server.folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    async with await Kube.connect(deadline=5) as kube:
        yield kube


async def get_run(kube: Kube) -> Any:
    return await kube.get(TRAINING_RUNS, namespace="ns", name="run")


def rotate(server: ApiServer, token: str) -> None:
    (server.folder / "token").write_text(token)
    server.token = token


# Tokens


async def test_a_rotated_token_is_read_within_a_minute(
    server: ApiServer, in_pod: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    await get_run(in_pod)
    (server.folder / "token").write_text("second")
    await get_run(in_pod)
    later = SimpleNamespace(now=lambda: datetime.datetime.now() + datetime.timedelta(seconds=61))
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=later, timedelta=datetime.timedelta))
    server.token = "second"
    assert await get_run(in_pod) == RUN
    assert server.tokens == ["first", "first", "second"]


async def test_a_token_that_is_refused_is_read_anew_at_once_also_for_a_creation(
    server: ApiServer, in_pod: Kube
) -> None:
    await get_run(in_pod)
    rotate(server, "second")
    assert await in_pod.create(RUN) == RUN
    assert server.tokens == ["first", "first", "second"]
    assert in_pod.requests["create", "trainingruns", 401] == 1


async def test_requests_that_are_refused_together_read_the_token_once(
    server: ApiServer, in_pod: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[None] = []
    real = login.load_incluster_config

    def counting(**how: Any) -> None:
        reads.append(None)
        real(**how)

    monkeypatch.setattr(login, "load_incluster_config", counting)
    rotate(server, "second")
    assert await asyncio.gather(*(get_run(in_pod) for _ in range(10))) == [RUN] * 10
    assert len(reads) == 1


async def test_without_another_token_a_refusal_stands(server: ApiServer, in_pod: Kube) -> None:
    server.token = "somebody else's"
    with pytest.raises(Forbidden, match="Unauthorized"):
        await get_run(in_pod)
    assert server.tokens == ["first"]


async def test_a_token_file_of_a_kubeconfig_is_read_anew_when_its_token_is_refused(server: ApiServer) -> None:
    path = server.kubeconfig({"tokenFile": str(server.folder / "token")})
    async with await Kube.connect(path, deadline=5) as kube:
        await get_run(kube)
        rotate(server, "second")
        assert await get_run(kube) == RUN
        assert (await kube.credentials()).token == "second"


async def test_a_token_file_of_a_kubeconfig_is_read_once_a_minute(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = server.kubeconfig({"tokenFile": str(server.folder / "token")})
    async with await Kube.connect(path, deadline=5) as kube:
        (server.folder / "token").write_text("second")
        assert (await kube.credentials()).token == "first"
        loop = asyncio.get_running_loop()
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now + login.REREAD_SECONDS)
        assert (await kube.credentials()).token == "second"


async def test_the_program_of_a_kubeconfig_is_run_again_when_its_token_is_refused(server: ApiServer) -> None:
    script = server.folder / "login"
    script.write_text(
        "#!/bin/sh\n"
        'printf \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",\'\n'
        f'printf \'"status": {{"token": "%s"}}}}\' "$(cat {server.folder}/token)"\n'
    )
    script.chmod(0o755)
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}
    async with await Kube.connect(server.kubeconfig({"exec": program}), deadline=5) as kube:
        await get_run(kube)
        rotate(server, "second")
        assert await get_run(kube) == RUN
    assert server.tokens == ["first", "first", "second"]


# TLS


async def test_a_server_that_another_authority_signed_is_not_spoken_to(server: ApiServer) -> None:
    (server.folder / "other.crt").write_bytes(Authority("other").pair.certificate)
    path = server.kubeconfig({"token": "first"}, **{"certificate-authority": str(server.folder / "other.crt")})
    async with await Kube.connect(path, deadline=0.5) as kube:
        with pytest.raises(Unavailable, match="certificate"):
            await get_run(kube)
    assert server.tokens == []


async def test_a_server_is_known_by_the_name_that_the_kubeconfig_gives(server: ApiServer) -> None:
    for name, error in (("kubernetes", False), ("elsewhere", True)):
        path = server.kubeconfig({"token": "first"}, **{"tls-server-name": name})
        async with await Kube.connect(path, deadline=0.5) as kube:
            if error:
                with pytest.raises(Unavailable, match="elsewhere"):
                    await get_run(kube)
            else:
                assert await get_run(kube) == RUN


async def test_a_certificate_is_not_checked_where_the_kubeconfig_says_so(server: ApiServer) -> None:
    (server.folder / "other.crt").write_bytes(Authority("other").pair.certificate)
    other = {"certificate-authority": str(server.folder / "other.crt"), "insecure-skip-tls-verify": True}
    async with await Kube.connect(server.kubeconfig({"token": "first"}, **other), deadline=5) as kube:
        assert await get_run(kube) == RUN


async def test_connections_are_used_again(server: ApiServer, in_pod: Kube) -> None:
    for _ in range(5):
        await get_run(in_pod)
    assert len(server.connections) == 1


async def test_the_proxy_of_the_environment_is_used_unless_it_is_ruled_out(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = server.kubeconfig({"token": "first"})
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    async with await Kube.connect(path, deadline=0.5) as kube:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
            await get_run(kube)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with await Kube.connect(path, deadline=5) as kube:
        assert await get_run(kube) == RUN


# Watches


def event(kind: str, name: str, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"name": name}, **more}}).encode() + b"\n"


def sends(*chunks: bytes, asked: list[dict[str, str]] | None = None, stay: bool = False) -> Answer:
    """Answer with these chunks, and end, or stay until the client goes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if asked is not None:
            asked.append(dict(request.query))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if stay:
            await until_left()
        return response

    return answer


async def until_left() -> None:
    """Wait until the client has gone, and the server cancels this."""
    await asyncio.Event().wait()


async def names(kube: Kube, *, version: str | None = None) -> list[str]:
    found = []
    async for each in kube.watch(JOBS, namespace="ns", labels={"a": "b"}, resource_version=version):
        assert each["object"]["kind"] == "Job"
        found.append(f"{each['type']} {each['object']['metadata']['name']}")
    return found


async def test_events_come_whole_however_they_are_sent(server: ApiServer, in_pod: Kube) -> None:
    text = event("ADDED", "ä" * 50) + event("MODIFIED", "b", data="x" * 3_000_000) + event("BOOKMARK", "c")
    for size in (1_000_000, 65_536, len(text)):
        server.answer = sends(*(text[start : start + size] for start in range(0, len(text), size)))
        assert await names(in_pod) == ["ADDED " + "ä" * 50, "MODIFIED b", "BOOKMARK c"]
    server.answer = sends(*(bytes([each]) for each in event("ADDED", "ä")))
    assert await names(in_pod) == ["ADDED ä"]


async def test_without_a_version_what_is_there_is_streamed_first(server: ApiServer, in_pod: Kube) -> None:
    asked: list[dict[str, str]] = []
    server.answer = sends(asked=asked)
    assert await names(in_pod) == []
    assert await names(in_pod, version="7") == []
    seconds = [int(each.pop("timeoutSeconds")) for each in asked]
    both = {"watch": "true", "allowWatchBookmarks": "true", "labelSelector": "a=b"}
    assert asked == [
        both | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"},
        both | {"resourceVersion": "7"},
    ]
    assert all(client.WATCH_SECONDS * 0.9 <= each <= client.WATCH_SECONDS for each in seconds)
    assert in_pod.requests == {("watch", "jobs", 200): 2}


async def test_a_version_that_is_too_old_is_gone_told_either_way(server: ApiServer, in_pod: Kube) -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (7)"}
    server.answer = sends(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
    with pytest.raises(Gone, match="too old"):
        await names(in_pod, version="1")

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response(expired, status=410)

    server.answer = refuse
    with pytest.raises(Gone, match="too old"):
        await names(in_pod, version="1")
    assert in_pod.requests == {("watch", "jobs", 200): 1, ("watch", "jobs", 410): 1}


async def test_a_watch_that_is_turned_away_is_not_sent_again(server: ApiServer, in_pod: Kube) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=429, headers={"Retry-After": "1"})

    server.answer = refuse
    with pytest.raises(Unavailable) as caught:
        await names(in_pod)
    assert (caught.value.retry_after, len(server.tokens)) == (1, 1)


async def test_a_watch_whose_token_has_run_out_goes_on_with_the_new_one(server: ApiServer, in_pod: Kube) -> None:
    server.answer = sends(event("ADDED", "a"))
    await names(in_pod)
    rotate(server, "second")
    assert await names(in_pod) == ["ADDED a"]
    assert server.tokens == ["first", "first", "second"]


async def test_a_watch_that_breaks_off_within_an_event_is_lost(server: ApiServer, in_pod: Kube) -> None:
    server.answer = sends(event("ADDED", "a"), event("ADDED", "b")[:-5])
    with pytest.raises(Unavailable, match="within a line"):
        await names(in_pod)


async def test_a_line_without_an_end_is_not_read_for_ever(server: ApiServer, in_pod: Kube) -> None:
    server.answer = sends(*[b"x" * 1_000_000] * 20, stay=True)
    with pytest.raises(Unavailable, match="bytes"):
        await names(in_pod)


@pytest.mark.parametrize("dripping", [False, True], ids=["nothing", "half a line"])
async def test_a_watch_that_is_silent_is_lost(
    server: ApiServer, in_pod: Kube, monkeypatch: pytest.MonkeyPatch, dripping: bool
) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.2)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("ADDED", "a"))
        while dripping and request.transport is not None and not request.transport.is_closing():
            await response.write(b" ")
            await asyncio.sleep(0.02)
        await until_left()
        return response

    server.answer = drip
    events = in_pod.watch(JOBS, namespace=None, labels=None)
    assert (await anext(events))["type"] == "ADDED"
    with pytest.raises(Unavailable, match="did not answer"):
        await anext(events)


async def test_a_watch_that_is_left_gives_its_connection_back(server: ApiServer, in_pod: Kube) -> None:
    left = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await sends(event("ADDED", "a"), stay=True)(request)
        finally:
            left.set()

    server.answer = answer
    async with aclosing(in_pod.watch(JOBS, namespace=None, labels=None)) as events:
        async for each in events:
            assert each["object"]["metadata"]["name"] == "a"
            break
    async with asyncio.timeout(5):
        await left.wait()
