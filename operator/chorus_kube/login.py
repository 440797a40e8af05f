"""Who the client is at the API server, and how it gets there: what `kubernetes.aio` finds in a kubeconfig or a pod.

Tokens are rotated. That of a service account is read from its file once a minute, and so is what a kubeconfig names: a
token file, or what its program prints when that has run out. A token that the API server refuses is read anew at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import structlog
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigLoader

from chorus_kube.errors import Unavailable

log = structlog.get_logger()

REREAD_SECONDS = 60.0
RENEW_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server, for another client library."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    insecure: bool
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class Route:
    """How connections to the API server are made."""

    server: str
    """URL without a slash at its end."""
    tls: SSLContext = field(repr=False)
    server_name: str | None
    """The name that the server's certificate must have; None: that of the URL."""
    proxy: str | None = field(repr=False)
    proxy_headers: Mapping[str, str] | None = field(repr=False)


class Login:
    """The credentials of one client. Belongs to one event loop."""

    def __init__(self, configuration: Configuration):
        """Use what the configuration holds; only its own hook renews the token."""
        self._configuration = configuration
        self._kubeconfig: str | None = None
        self._in_pod = False
        self._loader: KubeConfigLoader | None = None
        self._reread = 0.0
        self._renewable = float("-inf")
        self._renewing = asyncio.Lock()

    @classmethod
    async def find(cls, kubeconfig: str | None) -> Login:
        """Read the kubeconfig file when given, else the pod's service account; ConfigException when there is none."""
        login = cls(Configuration())
        login._kubeconfig, login._in_pod = kubeconfig, not kubeconfig
        await login._read()
        return login

    def route(self) -> Route:
        """Give how connections are made. Raises OSError when a certificate cannot be read."""
        configuration = self._configuration
        server = str(configuration.host).rstrip("/")
        return Route(
            server=server,
            tls=RESTClientObject(configuration).ssl_context,
            server_name=configuration.tls_server_name,
            proxy=configuration.proxy or _proxy_of_environment(server),
            proxy_headers=configuration.proxy_headers,
        )

    async def authorization(self) -> str | None:
        """Give the Authorization header as it is now; None without a token. Raises Unavailable."""
        if self._loader is not None and (now := asyncio.get_running_loop().time()) >= self._reread:
            self._reread = now + REREAD_SECONDS
            try:
                await self._loader.load_and_set(self._configuration)
            except (OSError, ConfigException) as error:
                log.warning("the kubeconfig could not be read again", error=str(error))
        try:
            found = (await self._configuration.auth_settings()).get("BearerToken")
        except (OSError, ConfigException) as error:
            raise Unavailable(f"the service account's token cannot be read: {error}", reason="NoToken") from error
        return str(found["value"]).strip() if found and found["value"] else None

    async def renew(self, refused: str | None) -> bool:
        """Read a token anew that the API server has refused; tells whether there is another one now."""
        async with self._renewing:
            if await self.authorization() != refused:
                return True  # renewed meanwhile, for another request
            now = asyncio.get_running_loop().time()
            if now < self._renewable:
                return False
            self._renewable = now + RENEW_PAUSE_SECONDS
            try:
                await self._read()
            except (OSError, ConfigException) as error:
                log.warning("a refused token could not be renewed", error=str(error))
                return False
            return await self.authorization() != refused

    async def credentials(self) -> Credentials:
        """Give what the client authenticates with, the token as it is now."""
        configuration, authorization = self._configuration, await self.authorization()
        return Credentials(
            server=configuration.host,
            ca_file=configuration.ssl_ca_cert,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            insecure=not configuration.verify_ssl,
            token=authorization.partition(" ")[2] if authorization else None,
        )

    async def _read(self) -> None:
        if self._in_pod:
            load_incluster_config(client_configuration=self._configuration)
        elif self._kubeconfig is not None:
            self._loader = await load_kube_config(
                config_file=self._kubeconfig, client_configuration=self._configuration, persist_config=False
            )
            self._reread = asyncio.get_running_loop().time() + REREAD_SECONDS


def _proxy_of_environment(server: str) -> str | None:
    """Read the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for the server: once, not for every request."""
    url = urlsplit(server)
    if proxy_bypass(url.hostname or ""):
        return None
    return getproxies().get(url.scheme)
