"""A server that sends a byte now and then, which no client takes for a silent one, holds no Job up."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chorus_api.project import UriSource
from chorus_api.reasons import Reason
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.errors import DataError
from chorus_dataset.sources.background import in_background
from chorus_dataset.sources.download import Limits, download
from chorus_dataset.sources.secret import SourceSecret
from local_sources import local_egress
from message_receiver import write_certificate
from source_builders import secret_files

LONGEST = 15
"""Seconds after which the server gives up, so that a test ends that should fail."""
BEGINNINGS = {
    "the header": b"HTTP/1.1 200 OK\r\nX-Pad: ",
    "the body": b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 900\r\nConnection: close\r\n\r\n",
}


@dataclass
class Drip:
    """Answers each connection with a beginning, and then with a byte ten times a second."""

    folder: Path
    beginning: bytes = b""
    asked: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.certificate, key = write_certificate(self.folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            self._threads.append(threading.Thread(target=self._answer, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                if connection.recv(1, socket.MSG_PEEK) == b"\x16":
                    connection = self._tls.wrap_socket(connection, server_side=True)
                head = connection.recv(4096).startswith(b"HEAD")
                connection.sendall(self.beginning)
                if head and self.beginning.endswith(b"\r\n\r\n"):
                    return
                self.asked.set()
                for _ in range(LONGEST * 10):
                    if self.ended.wait(0.1):
                        break
                    connection.sendall(b"a")
            except OSError:
                pass  # the client has gone
            finally:
                connection.close()


@pytest.fixture
def drip(tmp_path: Path) -> Iterator[Drip]:
    (tmp_path / "drip").mkdir()
    server = Drip(tmp_path / "drip")
    yield server
    server.close()
    # A call that was given up keeps its limits on connections until it returns: other tests have limits of their own.
    for thread in threading.enumerate():
        if thread.name == "in-background":
            thread.join(60)
            assert not thread.is_alive()


def fetch(drip: Drip, folder: Path, *, scheme: str, seconds: float, check: Callable[[], None]) -> None:
    if scheme == "https":
        url, keys = f"https://127.0.0.1:{drip.port}/a.csv", {"ca.crt": drip.certificate.read_text()}
    else:
        url, keys = f"{scheme}://rooms/a.csv", {"endpoint_url": f"http://127.0.0.1:{drip.port}", "region": "eu"}
    download(
        UriSource(url=url),
        secret=SourceSecret(secret_files(folder / "secret", **keys), name="reader"),
        target=folder / "a.csv",
        egress=local_egress(),
        limits=Limits(bytes=1000, seconds=seconds),
        check=check,
    )


@pytest.mark.parametrize(("scheme", "part"), [("https", "the header"), ("https", "the body"), ("s3", "the header")])
def test_the_time_limit_of_a_fetch_holds_inside_one_call(drip: Drip, tmp_path: Path, scheme: str, part: str) -> None:
    drip.beginning = BEGINNINGS[part]
    checks: list[float] = []
    since = time.monotonic()
    with pytest.raises(DataError) as caught:
        fetch(drip, tmp_path, scheme=scheme, seconds=1, check=lambda: checks.append(time.monotonic()))
    assert time.monotonic() - since < 1 + 5
    assert caught.value.reason is Reason.SOURCE_TIMEOUT
    assert "took more than 1 s" in caught.value.message
    assert len(checks) > 3


@pytest.mark.parametrize("part", BEGINNINGS)
def test_a_signal_to_stop_is_heard_while_a_server_is_slow(drip: Drip, tmp_path: Path, part: str) -> None:
    drip.beginning = BEGINNINGS[part]
    stop = StopFlag()

    def check() -> None:
        if drip.asked.is_set():
            stop.request()
        stop.check()

    since = time.monotonic()
    with pytest.raises(Stopped):
        fetch(drip, tmp_path, scheme="https", seconds=600, check=check)
    assert time.monotonic() - since < LONGEST - 5


def test_what_is_given_up_is_closed_in_its_thread_when_its_call_returns() -> None:
    answered, closed = threading.Event(), threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield 1
            answered.wait(30)
            yield 2
        finally:
            closed.set()

    class GivenUp(Exception):
        pass

    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise GivenUp

    running = in_background(items(), check=check)
    assert next(running) == 1
    given_up.set()
    with pytest.raises(GivenUp):
        next(running)
    assert not closed.is_set()
    answered.set()
    assert closed.wait(10)


def test_items_and_an_error_come_in_their_order() -> None:
    def items() -> Generator[int, None, None]:
        yield from range(100)
        raise ValueError("the end")

    running = in_background(items(), check=lambda: None)
    assert [next(running) for _ in range(100)] == list(range(100))
    with pytest.raises(ValueError, match="the end"):
        next(running)


def test_a_caller_that_takes_no_more_items_ends_the_thread() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from range(1 << 30)
        finally:
            closed.set()

    running = in_background(items(), check=lambda: None)
    assert next(running) == 0
    running.close()
    assert closed.wait(10)
