"""Hold each connection to a service against the addresses where none may be: at the socket, where names have ended."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from chorus_net.addresses import UNKNOWN, Address, ApiServer, address_problem, host_problem, nothing, read_address
from chorus_operator.decisions.service_address import no_plugin_at


class AddressRefused(OSError):
    """A service is where none may be; `strerror` says why."""

    def __init__(self, host: str, what: str):
        super().__init__(errno.EACCES, no_plugin_at(host, what))


class AddressGuard:
    """Checks hosts by name, and each address at the moment of its connection. Belongs to one event loop."""

    def __init__(
        self, *, api_server: Callable[[], Awaitable[ApiServer]], allows: Callable[[Address], bool] = nothing
    ) -> None:
        """`api_server`: tells where the API server is.

        `allows`: addresses that are taken although they would be refused: a test's services are on this machine.
        """
        self._find_api_server = api_server
        self._allows = allows
        self._api_server = UNKNOWN

    async def prepare(self, host: str) -> None:
        """Learn where the API server is, and check a host's name; AddressRefused."""
        self._api_server = await self._find_api_server()
        # Without a port, which the address of the connection has, an endpoint would be refused at every one.
        names = ApiServer(self._api_server.hosts)
        problem = host_problem(host, api_server=names, allows=self._allows)
        if problem is not None:
            raise AddressRefused(host, problem)

    def open(self, info: tuple[Any, Any, Any, str, tuple[Any, ...]]) -> socket.socket:
        """Open the socket for a resolved address; AddressRefused. For `aiohttp.TCPConnector(socket_factory=…)`."""
        family, kind, protocol, _, (host, port, *_) = info
        address = read_address(str(host))
        if address is None:
            raise AddressRefused(str(host), "a name that nobody has resolved")
        problem = address_problem(address, port=port, api_server=self._api_server, allows=self._allows)
        if problem is not None:
            raise AddressRefused(str(host), problem)
        return socket.socket(family, kind, protocol)
