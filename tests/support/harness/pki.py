"""A certificate authority for one test cluster: EC keys, made in memory in a few milliseconds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chorus_pki.certificates import Certificate, Use, issue, make_authority

LIFETIME = timedelta(days=2)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates for two days."""

    def __init__(self, name: str) -> None:
        self._authority = make_authority(name, now=datetime.now(UTC), lifetime=LIFETIME)
        self.pair = KeyPair(self._authority.certificate, self._authority.key)

    def server(self, name: str, *, hosts: Sequence[str]) -> KeyPair:
        """Issue a server certificate for host names and addresses."""
        return _pair(issue(self._authority, name, hosts=hosts, now=datetime.now(UTC), lifetime=LIFETIME))

    def client(self, user: str, *, groups: Sequence[str] = ()) -> KeyPair:
        """Issue a client certificate: the API server takes the common name as user, organisations as groups."""
        now = datetime.now(UTC)
        return _pair(issue(self._authority, user, groups=groups, use=Use.CLIENT, now=now, lifetime=LIFETIME))


def service_account_keys() -> KeyPair:
    """Make the key pair that signs service-account tokens; `certificate` holds the public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(public, private)


def _pair(certificate: Certificate) -> KeyPair:
    return KeyPair(certificate.chain, certificate.key)
