"""Which message to a service is sent next.

TRAINING_DATA goes before inquiries, and of each type the namespaces take turns. Limits for each namespace and each host
keep services that do not answer from delaying the messages of others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from chorus_protocol.messages import MessageType

Kind = Literal[MessageType.TRAINING_DATA, MessageType.ONLINE_INQUIRY]
PRIORITY: tuple[Kind, ...] = (MessageType.TRAINING_DATA, MessageType.ONLINE_INQUIRY)
"""Types of messages, the most urgent first."""
_PORTS = {"http": 80, "https": 443}
_Scopes = tuple[tuple[tuple[str, ...], int], ...]


@dataclass(frozen=True)
class Outgoing:
    """A message to a service that is to be sent. `about`: what it is about, once at a time in its namespace."""

    namespace: str
    about: str
    kind: Kind
    host: str
    """`host:port` of the service."""


@dataclass(frozen=True)
class Limits:
    """How many messages are sent at once, and how many wait.

    A type never takes all places, neither in all nor of a namespace: TRAINING_DATA finds a place at once while all
    inquiries go to services that do not answer, and inquiries go on while TRAINING_DATA does.
    """

    total: int = 32
    of_kind: int = 24
    namespace: int = 4
    namespace_kind: int = 3
    host: int = 2
    """Messages of one namespace to one host. Namespaces do not share it: one could keep the other from a host."""
    waiting: int = 1000
    """Messages of one type and namespace that may wait."""


def host_of(url: str) -> str:
    """Give `host:port` of a URL in one spelling."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '').rstrip('.')}:{parts.port or _PORTS.get(parts.scheme, 0)}"


class DispatchQueue:
    """Messages that wait for their turn, and those that are being sent. Knows no time and does no I/O.

    `next` gives, of the most urgent type that has one, the message of the namespace whose turn it is that was added
    first, among those that no limit holds back.
    """

    def __init__(self, limits: Limits | None = None):
        self._limits = limits or Limits()
        self._waiting: dict[Kind, OrderedDict[str, _Waiting]] = {kind: OrderedDict() for kind in PRIORITY}
        self._running: Counter[tuple[str, ...]] = Counter()
        self._added = 0

    def add(self, message: Outgoing) -> bool:
        """Let a message wait for its turn; False when too many of its type and namespace wait already."""
        waiting = self._waiting[message.kind].setdefault(message.namespace, _Waiting())
        if waiting.count >= self._limits.waiting:
            return False
        self._added += 1
        waiting.add(self._added, message)
        return True

    def next(self) -> Outgoing | None:
        """Take out the message that is sent next; None when there is none that may be sent now."""
        for kind in PRIORITY:
            if self._is_full(self._of_all(kind)):
                continue
            for namespace, waiting in self._waiting[kind].items():
                if self._is_full(self._of_namespace(kind, namespace)):
                    continue
                message = waiting.take(partial(self._is_host_full, namespace))
                if message is not None:
                    self._started(message, waiting)
                    return message
        return None

    def finish(self, message: Outgoing) -> None:
        """Take in that a message that `next` gave is no longer being sent."""
        for scope, _ in self._scopes(message):
            self._running[scope] -= 1
            if not self._running[scope]:
                del self._running[scope]

    def _started(self, message: Outgoing, waiting: _Waiting) -> None:
        of_kind = self._waiting[message.kind]
        of_kind.move_to_end(message.namespace)
        if not waiting.count:
            del of_kind[message.namespace]
        for scope, _ in self._scopes(message):
            self._running[scope] += 1

    def _is_host_full(self, namespace: str, host: str) -> bool:
        return self._is_full(self._of_host(namespace, host))

    def _is_full(self, scopes: _Scopes) -> bool:
        return any(self._running[scope] >= limit for scope, limit in scopes)

    def _scopes(self, message: Outgoing) -> _Scopes:
        """What a message that is being sent counts towards, each with its limit."""
        return (
            *self._of_all(message.kind),
            *self._of_namespace(message.kind, message.namespace),
            *self._of_host(message.namespace, message.host),
        )

    def _of_all(self, kind: Kind) -> _Scopes:
        return (("total",), self._limits.total), (("kind", kind), self._limits.of_kind)

    def _of_namespace(self, kind: Kind, namespace: str) -> _Scopes:
        return (
            (("namespace", namespace), self._limits.namespace),
            (("namespace", namespace, kind), self._limits.namespace_kind),
        )

    def _of_host(self, namespace: str, host: str) -> _Scopes:
        return ((("host", namespace, host), self._limits.host),)


class _Waiting:
    """The messages of one type and namespace that wait, by host: one that is at its limit holds up no other."""

    def __init__(self) -> None:
        self.count = 0
        self._by_host: dict[str, deque[tuple[int, Outgoing]]] = {}

    def add(self, number: int, message: Outgoing) -> None:
        self._by_host.setdefault(message.host, deque()).append((number, message))
        self.count += 1

    def take(self, is_full: Callable[[str], bool]) -> Outgoing | None:
        """Take out the first whose host is not full."""
        free = [(messages[0][0], host) for host, messages in self._by_host.items() if not is_full(host)]
        if not free:
            return None
        _, host = min(free)
        _, message = self._by_host[host].popleft()
        if not self._by_host[host]:
            del self._by_host[host]
        self.count -= 1
        return message
