"""Keep a prepare pod from being sent to where only the cluster's own programs should go.

Users say where data is fetched from, and servers may redirect. What counts is therefore not the URL but the address of
every connection that Python opens, whichever library opens it, after names are resolved.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORBIDDEN = [
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("169.254.0.0/16", "a link-local address: clouds hand out credentials there"),
        ("fe80::/10", "a link-local address"),
        ("fd00:ec2::/32", "the metadata service of a cloud"),
        ("100.100.100.200/32", "the metadata service of a cloud"),
        ("168.63.129.16/32", "the metadata service of a cloud"),
        ("0.0.0.0/8", "no address of a server"),
        ("::/128", "no address of a server"),
    )
]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_API_SERVER_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
_HINT = "name a server that holds data; metadata services and the API server are never asked"


class AddressRefused(PermissionError):
    """A connection to a forbidden address was about to be opened."""


class Egress:
    """Refuses connections to link-local and metadata addresses and to the API server, while it is entered.

    `api_server`: addresses and names of the API server beyond `kubernetes.default`. It works by an audit hook of the
    interpreter, which sees every `connect` of a Python socket; hooks cannot be taken out again, so one that was left
    does nothing. Libraries in C that open sockets themselves must be given addresses that `resolve` let pass.
    """

    def __init__(self, *, api_server: Sequence[str] = ()) -> None:
        self._api_server = frozenset(_plain(name) for name in api_server if name)
        self._entered = False
        self.refused: str | None = None
        """What was refused last, for people: libraries wrap the error or try again."""

    def __enter__(self) -> Self:
        self._entered = True
        sys.addaudithook(self._hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False

    def check_url(self, url: str) -> None:
        """Raise `SourceRefused` for a URL whose host alone says that it is forbidden."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError as error:
            raise DataError(Reason.BAD_CONFIGURATION, f"not a URL: {error}", hint="correct the address") from error
        if problem := self._problem_of_host(host):
            raise refusal(problem)

    def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of a host, none of them forbidden. Raises `SourceRefused`; OSError if there are none."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if problem := self._problem_of_host(address):
                raise refusal(f"{host} stands for {problem}" if host != address else problem)
        return addresses

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._entered or event != "socket.connect":
            return
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a socket of the file system
        if problem := self._problem_of_host(str(address[0])):
            self.refused = problem
            raise AddressRefused(f"connections to {problem} are refused")

    def _problem_of_host(self, host: str) -> str | None:
        name = _plain(host)
        if name in self._api_server or name in _API_SERVER_NAMES or name.startswith("kubernetes.default.svc."):
            return f"{host}, the API server of this cluster"
        if (address := _address(name)) is None:
            return None
        if str(address) in self._api_server:
            return f"{host}, the API server of this cluster"
        return next((f"{host}, {what}" for network, what in _FORBIDDEN if address in network), None)


def refusal(what: str) -> DataError:
    """Say that a source is where none may be."""
    return DataError(Reason.SOURCE_REFUSED, f"the data may not come from {what}", hint=_HINT)


def _plain(host: str) -> str:
    return host.casefold().strip("[]").rstrip(".").partition("%")[0]


def _address(text: str) -> IPAddress | None:
    """Read an address, also one of IPv4 that is packed into IPv6; None for a name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # Systems also take addresses such as 2852039166, 0xa9fea9fe and 127.1, which this module does not.
        if not re.fullmatch(r"[0-9a-fx.]+", text) or not text[0].isdecimal():
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
