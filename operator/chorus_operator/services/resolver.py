"""Find the addresses of services in threads of their own, and tell when a look-up has really ended.

A look-up cannot be cancelled: it holds its thread for as long as the name server is silent. In the threads that
everything else shares, the names of one silent domain would stop all look-ups; and if it were left behind, its thread
would be counted for nobody.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import Executor

from aiohttp.abc import AbstractResolver, ResolveResult


class ThreadResolver(AbstractResolver):
    """The resolver of one connection. Belongs to one event loop."""

    def __init__(self, threads: Executor):
        self._threads = threads
        self._lookups: set[asyncio.Future[list[ResolveResult]]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Find the addresses of a host; OSError when there are none."""
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        self._lookups.add(lookup)
        return await asyncio.shield(lookup)

    async def ended(self) -> None:
        """Wait until no look-up holds a thread, also of those that nobody waits for any more.

        The system's resolver sets the time: some ten seconds for each name server and search domain.
        """
        await asyncio.gather(*self._lookups, return_exceptions=True)

    async def close(self) -> None:
        """Release nothing: a look-up ends by itself."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(address[1]),
            family=each,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for each, _, protocol, _, address in found
    ]
