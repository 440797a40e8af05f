"""A throw-away certificate authority, and the certificate of a receiver that it signs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chorus_pki.certificates import issue, make_authority
from chorus_pki.tls import server_context

LIFETIME = timedelta(days=1)


@dataclass(frozen=True)
class TrustedServer:
    """A CA's certificate, and a TLS context that serves with a certificate of it."""

    ca: bytes
    context: ssl.SSLContext = field(repr=False)


def trusted_server(hosts: tuple[str, ...], *, now: datetime) -> TrustedServer:
    """Make a CA and a server certificate for these host names and addresses; the keys are kept nowhere."""
    authority = make_authority("chorus-plugin-check", now=now, lifetime=LIFETIME)
    certificate = issue(authority, "chorus-messages", hosts=hosts, now=now, lifetime=LIFETIME)
    return TrustedServer(authority.certificate, server_context(certificate))
