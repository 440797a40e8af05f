"""The receiver's certificate: signed by the operator's CA, kept in memory, renewed long before it ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chorus_pki import tls
from chorus_pki.certificates import Authority, Certificate, issue

LEAF_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Leaf:
    """A server's certificate, and when the next one should take its place."""

    certificate: Certificate
    renew_at: datetime


def service_hosts(host: str) -> list[str]:
    """Name a Service in every form that pods may use; any other host stands for itself."""
    name, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if domain not in {"svc", "svc.cluster.local"}:
        return [host]
    short = f"{name}.{namespace}"
    return [short, f"{short}.svc", f"{short}.svc.cluster.local"]


def make_leaf(authority: Authority, *, hosts: Sequence[str], now: datetime) -> Leaf:
    """Sign a certificate for these host names and addresses, valid for 30 days."""
    certificate = issue(authority, "chorus-messages", hosts=hosts, now=now, lifetime=LEAF_LIFETIME)
    return Leaf(certificate, renew_at=now + (certificate.not_after - now) * 2 / 3)


class ServerIdentity:
    """The TLS context of the receiver; a renewed certificate serves the next connection."""

    def __init__(self, authority: Authority, *, hosts: Sequence[str], clock: Callable[[], datetime]):
        self._authority = authority
        self._hosts = hosts
        self._clock = clock
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._leaf = self._load()

    def renew_if_due(self) -> bool:
        """Put a new certificate in when two thirds of the present one's life are over; True when it did."""
        if self._clock() < self._leaf.renew_at:
            return False
        self._leaf = self._load()
        return True

    def _load(self) -> Leaf:
        leaf = make_leaf(self._authority, hosts=self._hosts, now=self._clock())
        tls.load(self.context, leaf.certificate)
        return leaf
