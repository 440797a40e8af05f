"""The receiver on a real socket: TLS by its own CA, limits on what is read, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from chorus_api.contract import MAX_BODY_BYTES, MESSAGES_PATH
from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.ca import make_ca
from chorus_operator.messages.identity import ServerIdentity, service_hosts
from chorus_operator.messages.receiver import Receiver
from chorus_pki.certificates import Authority
from chorus_protocol import http
from chorus_protocol.refusals import Cause
from chorus_protocol.sender_limits import Cost
from fakes import FakeKube
from message_builders import message, training_pod, training_run


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def authority() -> Authority:
    return make_ca(now=datetime.now(UTC))


def receiver_of(kube: FakeKube, ca: Authority) -> Receiver:
    async def connect() -> Any:
        return kube

    return Receiver(
        connect=connect,
        authority=ca,
        hosts=["localhost", "127.0.0.1"],
        port=0,
        clock=lambda: datetime.now(UTC),
        address="127.0.0.1",
    )


@dataclass
class Line:
    """A training pod's line to a receiver that runs."""

    receiver: Receiver
    kube: FakeKube
    session: aiohttp.ClientSession
    run_uid: str

    @property
    def url(self) -> str:
        return f"https://localhost:{self.receiver.port}{MESSAGES_PATH}"

    def body(self, kind: str = "TRAINING_START", **data: Any) -> bytes:
        return message(kind, subject=self.run_uid, **data)

    async def post(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        given = {"Authorization": "Bearer train", "Content-Type": "application/cloudevents+json", **headers}
        async with self.session.post(self.url, data=body, headers=given) as response:
            return response.status, await response.json(content_type=None) if response.content_length else {}

    async def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are, and read the head of the first answer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.receiver.port, ssl=context)
        try:
            writer.write(sent)
            async with asyncio.timeout(10):
                return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @property
    def under_way(self) -> int:
        """Messages whose sender is known and that are not answered."""
        assert self.receiver.inbox is not None
        return len(self.receiver.inbox.under_way)

    def count(self, cause: Cause) -> int:
        return self.receiver.refusals.counts[cause]


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    kube = FakeKube()
    run = kube.put(training_run())
    pod = kube.put(training_pod(run))
    kube.tokens["train"] = {
        "authenticated": True,
        "audiences": ["chorus"],
        "user": {
            "username": "system:serviceaccount:default:chorus-run",
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod["metadata"]["name"]],
                "authentication.kubernetes.io/pod-uid": [pod["metadata"]["uid"]],
            },
        },
    }
    ca = authority()
    receiver = receiver_of(kube, ca)
    receiver.start()
    await until(lambda: receiver.serving)
    context = ssl.create_default_context(cadata=ca.certificate.decode())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Line(receiver, kube, session, run["metadata"]["uid"])
    receiver.stop()
    await until(receiver.ended.done)
    assert receiver.ended.exception() is None


async def test_a_pod_that_trusts_the_bundle_reports(line: Line) -> None:
    assert await line.post(line.body()) == (202, {})
    assert await line.post(line.body()) == (204, {})
    run = line.kube.find(TRAINING_RUNS, "home-soft-1")
    assert run is not None
    assert "trainingStart" in run["status"]["report"]


async def test_a_pod_that_trusts_another_ca_does_not_connect(line: Line) -> None:
    context = ssl.create_default_context(cadata=authority().certificate.decode())
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await line.session.post(line.url, data=b"{}", ssl=context)


async def test_refusals_say_why_and_are_counted(line: Line) -> None:
    status, answer = await line.post(line.body("progress", percent=500))
    assert status == 422
    assert answer["cause"] == "malformed"
    assert answer["fields"][0]["field"] == "data.percent"
    status, answer = await line.post(line.body(), Authorization="Bearer forged")
    assert (status, answer["cause"]) == (401, "badToken")
    assert (line.count(Cause.MALFORMED), line.count(Cause.BAD_TOKEN)) == (1, 1)


async def test_who_sends_too_much_is_told_how_long_to_wait(line: Line) -> None:
    burst = Cost.REPORT.value[0].burst
    answers = []
    for sequence in range(1, 2 * burst + 1):
        headers = {"Authorization": "Bearer train", "Content-Type": "application/cloudevents+json"}
        body = line.body("ERROR_REPORT", sequence=sequence, detail=f"wrong: {sequence}")
        async with line.session.post(line.url, data=body, headers=headers) as answer:
            answers.append((answer.status, answer.headers.get("Retry-After")))
    assert answers[:burst] == [(202, None)] * burst
    assert (429, "1") in answers[burst:]
    assert line.count(Cause.TOO_MANY_MESSAGES) == answers.count((429, "1"))


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(line: Line) -> None:
    body = line.body()
    assert (await line.post(body + b" " * (MAX_BODY_BYTES - len(body))))[0] == 202
    status, answer = await line.post(body + b" " * (MAX_BODY_BYTES - len(body) + 1))
    assert (status, answer["cause"]) == (413, "tooLarge")


async def test_a_body_in_chunks_is_cut_off_at_the_limit(line: Line) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    assert (await line.post(chunks()))[0] == 413
    assert line.count(Cause.TOO_LARGE) == 1


async def test_a_length_that_promises_more_than_the_limit_is_refused_unread(line: Line) -> None:
    head = f"POST {MESSAGES_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = await line.raw(f"{head}Authorization: Bearer train\r\nContent-Length: 99999999\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_length_that_promises_more_than_comes_is_not_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "READ_SECONDS", 0.2)
    head = f"POST {MESSAGES_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = await line.raw(f"{head}Authorization: Bearer train\r\nContent-Length: 100\r\n\r\nab".encode())
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("length", "body"),
    [("Content-Length: 100", "{"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")],
    ids=["half a body", "some of its chunks"],
)
async def test_who_hangs_up_before_the_body_is_complete_is_counted_and_logged_once(
    line: Line, capsys: pytest.CaptureFixture[str], length: str, body: str
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = f"POST {MESSAGES_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    count = 5
    for number in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", line.receiver.port, ssl=context)
        writer.write(f"{head}Authorization: Bearer train\r\n{length}\r\n\r\n{body}".encode())
        await writer.drain()
        await until(lambda: line.under_way == 1)
        writer.transport.abort()
        await until(lambda number=number: line.count(Cause.INCOMPLETE) == number + 1)
    assert line.receiver.refusals.counts == {Cause.INCOMPLETE: count}
    logged = capsys.readouterr().out
    assert (logged.count("incomplete"), "Traceback" in logged) == (1, False)


async def test_chunks_that_are_none_are_the_senders_fault(line: Line) -> None:
    head = f"POST {MESSAGES_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    sent = f"{head}Authorization: Bearer train\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nQQQ\r\n"
    assert (await line.raw(sent.encode())).split()[1] == b"400"
    assert line.count(Cause.UNAVAILABLE) == 0


async def test_a_length_that_promises_less_than_comes_yields_no_second_message(line: Line) -> None:
    body = line.body()
    head = f"POST {MESSAGES_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    cut = f"{head}Authorization: Bearer train\r\nContent-Length: {len(body) - 9}\r\n\r\n"
    answer = await line.raw(cut.encode() + body)
    assert answer.split()[1] in {b"400", b"422"}  # whichever of the two pieces is looked at first
    run = line.kube.find(TRAINING_RUNS, "home-soft-1")
    assert run is not None
    assert "report" not in run["status"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/cloudevents-batch+json"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_other_content_is_refused(line: Line, headers: dict[str, str]) -> None:
    status, answer = await line.post(line.body(), **headers)
    assert (status, answer["cause"]) == (415, "wrongContentType")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", MESSAGES_PATH, 405), ("POST", "/", 404)])
async def test_there_is_nothing_else(line: Line, method: str, path: str, status: int) -> None:
    async with line.session.request(method, f"https://localhost:{line.receiver.port}{path}") as response:
        assert response.status == status


async def test_an_error_of_ours_means_come_again(line: Line) -> None:
    def explode(call: object) -> None:
        raise RuntimeError("bug")

    line.kube.before = explode
    status, answer = await line.post(line.body())
    assert (status, answer["cause"]) == (503, "unavailable")
    assert "bug" not in str(answer)


async def test_progress_that_is_not_written_yet_is_written_at_the_end(line: Line) -> None:
    for sequence in (1, 2, 3):
        assert (await line.post(line.body("progress", percent=sequence, sequence=sequence)))[0] == 202
    line.receiver.stop()
    await until(line.receiver.ended.done)
    run = line.kube.find(TRAINING_RUNS, "home-soft-1")
    assert run is not None
    assert run["status"]["progress"]["percent"] == 3
    assert not line.receiver.serving


async def test_a_receiver_that_cannot_start_says_so() -> None:
    async def connect() -> Any:
        raise OSError("no cluster")

    receiver = Receiver(
        connect=connect, authority=authority(), hosts=["localhost"], port=0, clock=lambda: datetime.now(UTC)
    )
    receiver.start()
    await until(receiver.ended.done)
    assert isinstance(receiver.ended.exception(), OSError)
    assert not receiver.serving


async def test_a_receiver_can_be_stopped_before_it_serves() -> None:
    receiver = receiver_of(FakeKube(), authority())
    receiver.start()
    receiver.stop()
    await until(receiver.ended.done)
    assert receiver.ended.exception() is None


# The certificate


def test_a_service_is_named_in_every_form() -> None:
    names = ["chorus.ns", "chorus.ns.svc", "chorus.ns.svc.cluster.local"]
    assert service_hosts("chorus.ns.svc") == names
    assert service_hosts("chorus.ns.svc.cluster.local") == names
    assert service_hosts("messages.example.org") == ["messages.example.org"]


async def test_the_certificate_is_renewed_after_two_thirds_and_new_connections_see_it() -> None:
    now = [datetime.now(UTC)]
    ca = make_ca(now=now[0])
    identity = ServerIdentity(ca, hosts=["localhost"], clock=lambda: now[0])

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(end, "127.0.0.1", 0, ssl=identity.context)
    port = server.sockets[0].getsockname()[1]

    async def certificate() -> bytes:
        context = ssl.create_default_context(cadata=ca.certificate.decode())
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its clock stands still
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return found

    first = await certificate()
    now[0] += timedelta(days=19)
    assert not identity.renew_if_due()
    assert await certificate() == first
    now[0] += timedelta(days=2)
    assert identity.renew_if_due()
    assert await certificate() != first
    server.close()
    await server.wait_closed()
