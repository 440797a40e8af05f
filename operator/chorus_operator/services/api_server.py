"""Where the API server is, found and kept for a while: services and sources of data may not be there."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import structlog

from chorus_kube.client import Kube
from chorus_kube.errors import KubeError
from chorus_kube.resources import ENDPOINT_SLICES
from chorus_net.addresses import UNKNOWN, ApiServer, pair, split_port

log = structlog.get_logger()

SERVICE_NAME = "kubernetes.default.svc"
HTTPS_PORT = 443
KNOWN_SECONDS = 60.0
ASK_SECONDS = 5.0


class ApiServerFinder:
    """Asks each source that there is, at most once a minute. Belongs to one event loop.

    The Service `kubernetes` is refused at every port, what stands behind it at its own. A source that does not answer
    keeps what it told before.
    """

    def __init__(self, kube: Kube, *, reads_slice: bool, seconds: Callable[[], float] = time.monotonic):
        """`reads_slice`: whether the operator may read the EndpointSlice `kubernetes` of the namespace `default`.

        Without it, of several API servers only the one that answers is known, beside the Service.
        """
        sources = [self._from_service, self._from_client, self._from_discovery]
        self._sources = [*sources, self._from_slice] if reads_slice else sources
        self._kube = kube
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._known = [UNKNOWN for _ in self._sources]
        self._until = float("-inf")

    async def known(self) -> ApiServer:
        """Say where the API server is, as it was known at most a minute ago."""
        async with self._lock:
            if self._seconds() >= self._until:
                asked = (self._ask(source, before) for source, before in zip(self._sources, self._known, strict=True))
                self._known = await asyncio.gather(*asked)
                self._until = self._seconds() + KNOWN_SECONDS
        found = UNKNOWN
        for each in self._known:
            found |= each
        return found

    async def _ask(self, source: Callable[[], Awaitable[ApiServer]], before: ApiServer) -> ApiServer:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await source()
        except (KubeError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            # Without a cluster's DNS its own name is unknown, which is no trouble.
            log.debug("where the API server is was not told", source=source.__name__, error=str(error)[:300])
            return before

    async def _from_service(self) -> ApiServer:
        return ApiServer(frozenset(await _resolve(SERVICE_NAME)))

    async def _from_client(self) -> ApiServer:
        """Of the address that the operator itself uses: that of the Service in a pod, another outside."""
        server = urlsplit((await self._kube.credentials()).server)
        return await _endpoint(server.hostname or "", server.port)

    async def _from_discovery(self) -> ApiServer:
        """Of what every account may read: the address that the answering API server gives as its own."""
        found = UNKNOWN
        for text in await self._kube.server_addresses():
            found |= await _endpoint(*split_port(text))
        return found

    async def _from_slice(self) -> ApiServer:
        stored = await self._kube.get(ENDPOINT_SLICES, namespace="default", name="kubernetes") or {}
        addresses = [address for endpoint in stored.get("endpoints") or () for address in endpoint["addresses"]]
        ports = [port["port"] for port in stored.get("ports") or () if port.get("port")]
        return ApiServer.parse([pair(address, port) for address in addresses for port in ports])


async def _endpoint(host: str, port: int | None) -> ApiServer:
    return ApiServer.parse([pair(address, port or HTTPS_PORT) for address in await _resolve(host)])


async def _resolve(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return [str(info[4][0]).partition("%")[0] for info in found]
