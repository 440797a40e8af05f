"""Certificate authorities and the certificates that they sign: EC keys on P-256, SHA-256, and PEM."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW = timedelta(minutes=10)
"""Certificates are valid this long before they are made: other machines' clocks may be behind."""


class Use(Enum):
    """What a certificate that is not an authority's may be used for."""

    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


class ForeignKey(ValueError):
    """A private key is not that of the certificate beside it."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """A certificate, followed by its authority's unless it signs itself, and its private key; both PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    not_after: datetime


def make_authority(name: str, *, now: datetime, lifetime: timedelta) -> Authority:
    """Make an authority that can sign certificates, and no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key.public_key(), now=now, end=now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(_pem(certificate), _private_pem(key))


def read_authority(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Parse an authority. Raises ValueError for what is no certificate or no key, ForeignKey for a key of another."""
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ForeignKey("the key is not that of the certificate")
    return certificate, key


def issue(
    authority: Authority,
    name: str,
    *,
    now: datetime,
    lifetime: timedelta,
    hosts: Sequence[str] = (),
    groups: Sequence[str] = (),
    use: Use = Use.SERVER,
) -> Certificate:
    """Sign a certificate.

    `name`: its common name; for a client of the API server the user. `groups`: its organisations; for a client of the
    API server the user's groups. `hosts`: host names and addresses that it stands for. It ends with the authority at
    the latest. Raises ValueError for an authority that cannot be read.
    """
    signer, signing_key = read_authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetime, signer.not_valid_after_utc)
    builder = _leaf(_name(name, groups), signer.subject, key.public_key(), now=now, end=end, hosts=hosts, use=use)
    identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    ).sign(signing_key, hashes.SHA256())
    return Certificate(_pem(certificate) + authority.certificate, _private_pem(key), end)


def issue_self_signed(name: str, *, hosts: Sequence[str], now: datetime, lifetime: timedelta) -> Certificate:
    """Make a server's certificate that signs itself and can sign no other: whoever trusts it trusts nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, end = _name(name), now + lifetime
    builder = _leaf(subject, subject, key.public_key(), now=now, end=end, hosts=hosts, use=Use.SERVER)
    return Certificate(_pem(builder.sign(key, hashes.SHA256())), _private_pem(key), end)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key as PKCS 8 PEM without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str, groups: Sequence[str] = ()) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _leaf(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    end: datetime,
    hosts: Sequence[str],
    use: Use,
) -> x509.CertificateBuilder:
    builder = (
        _builder(subject, issuer, key, now=now, end=end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use.value]), critical=False)
    )
    if not hosts:
        return builder
    return builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
