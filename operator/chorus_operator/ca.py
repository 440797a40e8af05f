"""The operator's own certificate authority, made once, and the bundle by which pods and services know it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, MANAGED_BY, MANAGED_BY_LABEL, WEBHOOK_KEY
from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists
from chorus_kube.resources import CONFIG_MAPS, SECRETS

CA_SECRET = "chorus-ca"
CA_YEARS = 10
CLOCK_SKEW = timedelta(minutes=10)
_CERTIFICATE, _KEY = "tls.crt", "tls.key"
_LABELS = {MANAGED_BY_LABEL: MANAGED_BY}


class BrokenAuthority(Exception):
    """The stored CA cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def make_authority(*, now: datetime) -> Authority:
    """Make a CA that can sign servers, valid for ten years, and no further CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chorus-ca")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """The key usage of a CA, or of a server."""
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


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key as PKCS 8 PEM without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def load_authority(kube: Kube, *, namespace: str, clock: Callable[[], datetime]) -> Authority:
    """Read the CA from the Secret `chorus-ca` of the operator's namespace; the first operator makes it.

    Creating the Secret is the lock: of two operators that make one at once, both use the one that was stored.
    """
    stored = await kube.get(SECRETS, namespace=namespace, name=CA_SECRET)
    if stored is None:
        made = make_authority(now=clock())
        manifest = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {"name": CA_SECRET, "namespace": namespace, "labels": _LABELS},
            "type": "kubernetes.io/tls",
            "data": {
                _CERTIFICATE: base64.b64encode(made.certificate).decode(),
                _KEY: base64.b64encode(made.key).decode(),
            },
        }
        try:
            stored = await kube.create(manifest)
        except AlreadyExists:
            stored = await kube.get(SECRETS, namespace=namespace, name=CA_SECRET)
    return _read(stored or {}, namespace=namespace, now=clock())


def _read(secret: dict[str, object], *, namespace: str, now: datetime) -> Authority:
    remedy = f"delete Secret {namespace}/{CA_SECRET} and restart the operator: it makes a new CA"
    try:
        data = secret["data"]
        assert isinstance(data, dict)
        authority = Authority(base64.b64decode(data[_CERTIFICATE]), base64.b64decode(data[_KEY]))
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key, password=None)
        matches = key.public_key() == certificate.public_key()
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise BrokenAuthority(f"the stored CA cannot be read ({type(error).__name__}): {remedy}") from error
    if not matches or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BrokenAuthority(f"the stored CA's key does not fit its certificate: {remedy}")
    if certificate.not_valid_after_utc <= now:
        raise BrokenAuthority(f"the stored CA expired at {certificate.not_valid_after_utc}: {remedy}")
    return authority


class CaBundle:
    """Puts what a namespace knows the operator by into its ConfigMap `chorus-ca`."""

    def __init__(self, kube: Kube, *, authority: Authority):
        self._kube = kube
        self._certificate = authority.certificate.decode()

    async def ensure(self, namespace: str, *, webhook_key: str) -> None:
        """Make the ConfigMap right; `webhook_key`: the namespace's public key of what services are sent.

        Raises KubeError.
        """
        data = {CA_KEY: self._certificate, WEBHOOK_KEY: webhook_key}
        stored = await self._kube.get(CONFIG_MAPS, namespace=namespace, name=CA_CONFIG_MAP)
        if stored is not None and stored.get("data") == data:
            return
        await self._kube.apply(
            {
                "apiVersion": CONFIG_MAPS.api_version,
                "kind": CONFIG_MAPS.kind,
                "metadata": {"name": CA_CONFIG_MAP, "namespace": namespace, "labels": _LABELS},
                "data": data,
            }
        )
