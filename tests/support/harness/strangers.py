"""Strangers that attack servers, as a process of their own: `python -m harness.strangers '<Attack as JSON>'`.

It writes one line of JSON when everything is under way, and holds it until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from harness.binaries import REPOSITORY

AT_ONCE = 24
TRIES = 5
SECONDS = 20.0
PART_OF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
PART_OF_HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Filler: "


@dataclass(frozen=True)
class Attack:
    """`kind`: heads, handshakes, trickle or tokens; the ports, and how many connections go to each."""

    kind: str
    secure_ports: list[int]
    plain_ports: list[int]
    connections: int
    addresses: int
    token: str
    """A good token, to forge others from."""

    def source(self, number: int) -> str:
        """The address that a connection comes from."""
        return f"127.0.1.{number % self.addresses + 1}"

    def run(self) -> None:
        """Do it, say so, and wait to be ended."""
        os.nice(5)  # strangers have machines of their own: they take no time of those that they attack
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        did: Counter[str] = Counter()
        began = time.monotonic()
        doing: Callable[[int, int], Any] = {
            "heads": lambda port, number: self._head(port, number, PART_OF_HEAD + b"x" * 8000),
            "handshakes": self._handshake,
            "trickle": lambda port, number: self._head(port, number, PART_OF_HEAD),
            "tokens": self._forged,
        }[self.kind]
        held: list[Any] = []

        def one(place: tuple[int, int]) -> None:
            held.append(doing(*place))
            did[str(place[0])] += 1

        ports = [*self.secure_ports, *self.plain_ports]
        places = [(port, number) for number in range(self.connections) for port in ports]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, places))
        print(json.dumps({"seconds": time.monotonic() - began, "did": did}), flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        while not ended.wait(1.0):
            if self.kind == "trickle":
                for opened in held:
                    with contextlib.suppress(OSError):
                        opened.send(b"x")

    def _connect(self, port: int, number: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=(self.source(number), 0))

    def _open(self, port: int, number: int) -> socket.socket:
        """Connect, with a whole TLS handshake where there is TLS."""
        for left in reversed(range(TRIES)):
            opened = self._connect(port, number)
            try:
                return _ANYONE.wrap_socket(opened) if port in self.secure_ports else opened
            except OSError:
                if not left:
                    raise
        raise AssertionError("not reached")

    def _head(self, port: int, number: int, sends: bytes) -> socket.socket:
        opened = self._open(port, number)
        with contextlib.suppress(OSError):
            opened.sendall(sends)
        return opened

    def _handshake(self, port: int, number: int) -> socket.socket:
        opened = self._connect(port, number)
        with contextlib.suppress(OSError):
            opened.sendall(PART_OF_HELLO if port in self.secure_ports else PART_OF_HEAD[:20])
        return opened

    def _forged(self, port: int, number: int) -> None:
        head, claims, signature = self.token.split(".")
        other = "A" if signature[5] != "A" else "B"
        forged = (
            f"made-up-{number}",
            f"{head}.{claims}.{signature[:5]}{other}{number:06}{signature[12:]}",
            f"eyJhbGciOiJSUzI1NiIsImtpZCI6Im90aGVyIn0.{claims}.{number:06}{signature[6:]}",
        )[number % 3]
        request = (
            f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            f"Authorization: Bearer {forged}\r\nConnection: close\r\n\r\n{{}}"
        )
        with self._open(port, number) as opened, contextlib.suppress(OSError):
            opened.sendall(request.encode())
            opened.recv(1000)


def _anyone() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_ANYONE = _anyone()


@asynccontextmanager
async def attacking(attack: Attack) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
    """Let strangers attack; the task ends when everything is under way, with what they did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "harness.strangers",
        json.dumps(asdict(attack)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "tests" / "support")},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def under_way() -> dict[str, Any]:
        assert process.stdout is not None
        said: dict[str, Any] = json.loads(await process.stdout.readline())
        return said

    task = asyncio.create_task(under_way())
    try:
        yield task
    finally:
        task.cancel()
        process.kill()
        await process.wait()


if __name__ == "__main__":
    Attack(**json.loads(sys.argv[1])).run()
