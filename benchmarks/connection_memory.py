"""What a stranger's TLS connection with an unfinished head costs: aiohttp's own listener beside that of Chorus."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import ssl
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from chorus_dataset.jobs.exchange_certificate import make_certificate
from chorus_net.limits import Limits
from chorus_net.serve import LimitedServer
from chorus_pki.tls import server_context

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Filler: "


def serve(limited: bool, said: Connection) -> None:
    asyncio.run(_serve(limited, said))


async def _serve(limited: bool, said: Connection) -> None:
    context = server_context(make_certificate(["localhost"], now=datetime.now(UTC)))
    app = web.Application()
    if limited:
        server = LimitedServer(app, limits=Limits(100_000, 100_000), port=0, context=context, address="127.0.0.1")
        await server.start()
        said.send(server.port)
    else:
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        said.send(runner.addresses[0][1])
    await asyncio.sleep(600)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def measure(*, limited: bool, connections: int, head: int) -> float:
    """KiB of resident memory for each connection."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(limited, there), daemon=True)
    process.start()
    port = here.recv()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect() -> ssl.SSLSocket:
        opened = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        opened.sendall(HEAD + b"x" * (head - len(HEAD)))
        return opened

    assert process.pid is not None
    warm = [connect() for _ in range(20)]
    before = resident_kib(process.pid)
    held = [connect() for _ in range(connections)]
    after = resident_kib(process.pid)
    for opened in warm + held:
        opened.close()
    process.kill()
    process.join()
    return (after - before) / connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=400)
    parser.add_argument("--head", type=int, default=8000, help="bytes of the unfinished head")
    options = parser.parse_args()
    assert os.sysconf("SC_OPEN_MAX") > options.connections + 100, "raise the limit of open files"
    plain = measure(limited=False, connections=options.connections, head=options.head)
    ours = measure(limited=True, connections=options.connections, head=options.head)
    print(f"aiohttp {plain:.0f} KiB, Chorus {ours:.0f} KiB for each connection: {plain / ours:.1f} to 1")


if __name__ == "__main__":
    main()
