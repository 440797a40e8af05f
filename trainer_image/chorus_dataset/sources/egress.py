"""Keep a prepare or fetch pod from being sent to where only the cluster's own programs should go.

Users say where data is fetched from, and servers may redirect. What counts is therefore not the URL but the address of
every connection that Python opens, whichever library opens it, after names are resolved.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_net.addresses import Address, ApiServer, address_problem, host_problem, nothing, read_address

_HINT = "name a server that holds data; this machine, metadata services and the API server are never asked"
_PORTS = {"http": 80, "https": 443}


class AddressRefused(PermissionError):
    """A connection to a refused address was about to be opened."""


class Egress:
    """Refuses connections to where nothing of Chorus connects to (`chorus_net.addresses`), while it is entered.

    `api_server`: where the API server is, as `ApiServer.parse` reads it. `allows`: addresses that are taken although
    they would be refused, for tests. It works by an audit hook of the interpreter, which sees every `connect` of a
    Python socket. Libraries in C that open sockets themselves must be given addresses that `resolve` let pass.
    """

    def __init__(self, *, api_server: Collection[str] = (), allows: Callable[[Address], bool] = nothing) -> None:
        self._api_server = ApiServer.parse(api_server)
        self._allows = allows
        self.refused: str | None = None
        """What was refused last, for people: libraries wrap the error or try again."""

    def __enter__(self) -> Self:
        _audited.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _audited.leave(self)

    def check_url(self, url: str) -> None:
        """Raise `SourceRefused` for a URL whose host alone says that it is refused."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
        except ValueError as error:
            raise DataError(Reason.BAD_CONFIGURATION, f"not a URL: {error}", hint="correct the address") from error
        if problem := self._problem(host, port):
            raise refusal(problem)

    def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of a host, none of them refused. Raises `SourceRefused`; OSError if there are none."""
        if problem := self._problem(host, port):
            raise refusal(problem)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if problem := self._problem(address, port):
                raise refusal(f"{host}, which stands for {problem}" if host != address else problem)
        return addresses

    def check_connection(self, address: object) -> None:
        """Raise `AddressRefused` for what a socket was told to connect to, if it is refused."""
        if not isinstance(address, tuple):
            return  # a socket of the file system
        if problem := self._problem_of_connection(str(address[0]), int(address[1])):
            self.refused = problem
            raise AddressRefused(f"connections to {problem} are refused")

    def _problem_of_connection(self, host: str, port: int) -> str | None:
        if (address := read_address(host)) is None:
            # The system has resolved it, or will, and the hook is not told to what.
            return self._problem(host, port) or f"{host}, a name that was not resolved before"
        what = address_problem(address, port=port, api_server=self._api_server, allows=self._allows)
        return f"{host}, {what}" if what else None

    def _problem(self, host: str, port: int | None) -> str | None:
        what = host_problem(host, port=port, api_server=self._api_server, allows=self._allows)
        return f"{host}, {what}" if what else None


class _Audited:
    """The instances that are entered, and the one hook that asks them.

    The interpreter calls every hook at each audited event, `id` and `marshal.loads` among them, and has no way to take
    one out again: a hook for each instance would slow the process down with every file that was fetched.
    """

    def __init__(self) -> None:
        self._entered: tuple[Egress, ...] = ()
        self._hooked = False
        self._lock = threading.Lock()

    def enter(self, egress: Egress) -> None:
        with self._lock:
            self._entered = (*self._entered, egress)
            if not self._hooked:
                self._hooked = True
                sys.addaudithook(self._hook)

    def leave(self, egress: Egress) -> None:
        with self._lock:
            self._entered = tuple(other for other in self._entered if other is not egress)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            for egress in self._entered:
                egress.check_connection(arguments[1])


_audited = _Audited()


def refusal(what: str) -> DataError:
    """Say that a source is where none may be."""
    return DataError(Reason.SOURCE_REFUSED, f"the data may not come from {what}", hint=_HINT)
