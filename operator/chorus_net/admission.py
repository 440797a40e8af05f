"""Which connections a server keeps: a decision over counts and times, without a socket or a clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from chorus_net.limits import Limits


@dataclass(frozen=True)
class Admitted:
    """Whether a new connection may stay, and which other one is closed for it."""

    accepted: bool
    closed: int | None = None


@dataclass
class _Peer:
    connections: int = 0
    waiting: dict[int, float] = field(default_factory=dict)
    """Its connections that wait for their peer, and since when; in this order."""


class Admission:
    """Counts a server's connections. Each is either waiting for its peer, or at work on a request.

    It waits for the peer to send a whole request, or to take an answer.

    When there are as many as the limits allow, the connection that has waited longest is closed and the new one stays:
    who sends a request at once is served, however many hold connections open. With the limit of the new one's address
    it is the longest waiting of that address. With the limit in total it is the longest waiting of the address that
    has most of those that wait, so many addresses with many connections do not push out one with few. A new one is
    refused when none waits.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._peers: dict[str, _Peer] = {}
        self._peer_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._peer_of)

    def admit(self, connection: int, *, peer: str, now: float) -> Admitted:
        """Decide on a new connection. It is counted when it is accepted, and who is closed for it no more."""
        holder = self._peers.get(peer)
        closed = None
        if holder is not None and holder.connections >= self._limits.for_each_address:
            closed = next(iter(holder.waiting), None)
        elif len(self._peer_of) >= self._limits.connections:
            closed = self._longest_waiting()
        else:
            return self._accept(connection, peer=peer, now=now)
        if closed is None:
            return Admitted(accepted=False)
        self.gone(closed)
        return self._accept(connection, peer=peer, now=now, closed=closed)

    def works(self, connection: int) -> None:
        """Note that a whole request came: the connection is closed for nobody while it is worked on."""
        if (peer := self._peer_of.get(connection)) is not None:
            self._peers[peer].waiting.pop(connection, None)

    def awaits_peer(self, connection: int, *, now: float) -> None:
        """Note that the connection waits from now on: for a body, for its answer to be taken, or the next head."""
        if (peer := self._peer_of.get(connection)) is not None:
            self._peers[peer].waiting.pop(connection, None)
            self._peers[peer].waiting[connection] = now

    def gone(self, connection: int) -> None:
        """Forget a connection; nothing when it is not known."""
        peer = self._peer_of.pop(connection, None)
        if peer is None:
            return
        holder = self._peers[peer]
        holder.waiting.pop(connection, None)
        holder.connections -= 1
        if not holder.connections:
            del self._peers[peer]

    def waiting_since(self, before: float) -> list[int]:
        """Name the connections that have waited since this time or longer."""
        found = []
        for holder in self._peers.values():
            for connection, since in holder.waiting.items():
                if since > before:
                    break  # they are in order
                found.append(connection)
        return found

    def _accept(self, connection: int, *, peer: str, now: float, closed: int | None = None) -> Admitted:
        holder = self._peers.setdefault(peer, _Peer())
        holder.connections += 1
        holder.waiting[connection] = now
        self._peer_of[connection] = peer
        return Admitted(accepted=True, closed=closed)

    def _longest_waiting(self) -> int | None:
        best: tuple[int, float] | None = None
        chosen = None
        for holder in self._peers.values():
            if not holder.waiting:
                continue
            connection, since = next(iter(holder.waiting.items()))
            if best is None or (len(holder.waiting), -since) > best:
                best, chosen = (len(holder.waiting), -since), connection
        return chosen
