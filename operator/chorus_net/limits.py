"""What a server of Chorus gives to strangers: how many connections, for how long, and how much of each it reads."""

from __future__ import annotations

import resource
from collections.abc import Collection
from dataclasses import dataclass, replace

HEAD_SECONDS = 10.0
"""From accept, TLS handshake included, to a whole request head; and from an answer to the next head."""
WRITE_SECONDS = 60.0
"""How long a peer may take nothing of an answer that waits for it."""
ANSWER_SECONDS = 10.0
"""For the whole of an answer, and besides as long as it takes at this rate:"""
ANSWER_BYTES_PER_SECOND = 64 * 1024
CLOSE_SECONDS = 2.0
"""How long a peer may take to close its side of a TLS connection that is closed."""
SWEEP_SECONDS = 0.5
"""How often the times above are checked, so each may last this much longer."""
HELLO_BYTES = 8 * 1024
"""What is read before a TLS handshake begins: a ClientHello with post-quantum keys has 2 kB."""
HEAD_BYTES = 16 * 1024
"""A head that is longer than this and still not whole ends its connection. A pod's token has 1 to 2 kB."""
MAX_HEADERS = 64
HANDSHAKES_AT_ONCE = 4
"""TLS handshakes begun before the loop turns again: each keeps the CPU for about a millisecond."""
ACCEPTS_AT_ONCE = 32
"""Connections accepted before the loop turns again: each takes about 0.05 ms."""
BACKLOG = 4096
"""Connections that the kernel holds until they are accepted. One that finds no place there tries again after 1 s."""
OUT_OF_DESCRIPTORS_SECONDS = 0.5
"""How long nothing is accepted after the system has refused a descriptor."""


@dataclass(frozen=True)
class Limits:
    """How many connections a server holds, in total and for each address of a peer.

    A node's source NAT may give many pods one address, so an address may have many. Over TLS a connection with an
    unfinished head of 8 kB costs 60 KiB (`benchmarks/connection_memory.py`), one with a request up to 32 KiB of its
    body more.
    """

    connections: int
    for_each_address: int
    read_bytes: int = 16 * 1024
    """What is read at once, a TLS record by default. asyncio's own buffer of 256 KiB would be most of what a connection
    costs; large bodies take more CPU with a small one."""

    long_bodies: bool = False
    """Whether a request whose body is still to come keeps its place, as one that is worked on does. The handler must
    then bound how long it waits for each piece, and ask for a token first."""

    def within(self, descriptors: int, *, beside: Collection[Limits] = ()) -> Limits:
        """Give the limits under which at least half of so many file descriptors stay free for everything else.

        `beside`: those of the process's other servers. All have the same part of what they may have at most.
        """
        together = self.connections + sum(other.connections for other in beside)
        connections = max(1, min(self.connections, descriptors // 2 * self.connections // together))
        for_each = min(self.for_each_address, connections)
        return replace(self, connections=connections, for_each_address=for_each)


RECEIVER = Limits(connections=512, for_each_address=128)
"""A sender has one connection and keeps it for some 20 ms, so 512 are enough for many thousand runs."""
HEALTH = Limits(connections=128, for_each_address=64)
"""Kubelets and Prometheus have a few. It shares its loop with the reconciler, so nobody shall have many. But at least
as many for an address as are accepted in two turns of the loop: else a flood from it pushes out what came just now."""
EXCHANGE = Limits(connections=256, for_each_address=64, read_bytes=64 * 1024, long_bodies=True)
"""One service asks, from a few pods, and sends and fetches files of gigabytes."""


def descriptors() -> int:
    """Read how many file descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
