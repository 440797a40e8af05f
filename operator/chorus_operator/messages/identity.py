"""The receiver's certificate: signed by the operator's CA, kept in memory, renewed long before it ends."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chorus_operator.ca import CLOCK_SKEW, Authority, key_usage, private_pem

LEAF_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Leaf:
    """A server certificate with its chain, and its key; both PEM."""

    chain: bytes
    key: bytes = field(repr=False)
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
    ca = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # load_authority checked it
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + LEAF_LIFETIME, ca.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chorus-messages")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM) + authority.certificate
    return Leaf(chain, private_pem(key), renew_at=now + (end - now) * 2 / 3)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


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
        # OpenSSL's Python binding reads files only; this one is in memory and nobody else's.
        file = os.memfd_create("chorus-leaf")
        try:
            os.write(file, leaf.chain + leaf.key)
            self.context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return leaf
