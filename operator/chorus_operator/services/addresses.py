"""Hold each connection to a service against the addresses where none may be: at the socket, where names have ended."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

from chorus_operator.rules.service_address import Address, address_problem, host_problem, nothing

API_SERVER_NAME = "kubernetes.default.svc"
KNOWN_SECONDS = 60.0
RESOLVE_SECONDS = 5.0


class AddressRefused(OSError):
    """A service is where none may be; `strerror` says why."""

    def __init__(self, problem: str):
        super().__init__(errno.EACCES, problem)


class AddressGuard:
    """Checks hosts by name, and each address at the moment of its connection. Belongs to one event loop."""

    def __init__(
        self,
        *,
        api_hosts: Collection[str] = (),
        allows: Callable[[Address], bool] = nothing,
        seconds: Callable[[], float] = time.monotonic,
    ):
        """`api_hosts`: names or addresses of the API server, beside the cluster's own name for it.

        `allows`: addresses that are taken although they would be refused: a test's services are on this machine.
        """
        self._api_hosts = frozenset({API_SERVER_NAME, *api_hosts})
        self._allows = allows
        self._seconds = seconds
        self._api_server: frozenset[Address] = frozenset()
        self._until = float("-inf")

    async def prepare(self, host: str) -> None:
        """Check a host's name, and learn where the API server is; AddressRefused."""
        problem = host_problem(host, allows=self._allows)
        if problem is not None:
            raise AddressRefused(problem)
        if self._seconds() >= self._until:
            found = await asyncio.gather(*(_resolve(name) for name in self._api_hosts))
            # What does not resolve for a moment is still where it was.
            self._api_server = frozenset().union(*found) or self._api_server
            self._until = self._seconds() + KNOWN_SECONDS

    def open(self, info: tuple[Any, Any, Any, str, tuple[Any, ...]]) -> socket.socket:
        """Open the socket for a resolved address; AddressRefused. For `aiohttp.TCPConnector(socket_factory=…)`."""
        family, kind, protocol, _, where = info
        problem = address_problem(str(where[0]), api_server=self._api_server, allows=self._allows)
        if problem is not None:
            raise AddressRefused(problem)
        return socket.socket(family, kind, protocol)


async def _resolve(host: str) -> frozenset[Address]:
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return frozenset()
    return frozenset(ipaddress.ip_address(info[4][0]) for info in found)
