"""Keys that are derived from the operator's CA: nothing more need be stored, and every replica has the same.

Who has the CA's key has these too; from one of them nothing follows about the CA's or the other. A new CA, new keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chorus_operator.kube.ca import Authority

KEY_BYTES = 32
_TOKENS = b"chorus.dev/v1alpha1 tokens of services"
_WEBHOOKS = b"chorus.dev/v1alpha1 signatures of messages to services"


@dataclass(frozen=True)
class ServiceKeys:
    """`tokens`: the secret that services' tokens are signed with; `webhooks`: signs what is sent to services."""

    tokens: bytes = field(repr=False)
    webhooks: Ed25519PrivateKey = field(repr=False)


def service_keys(authority: Authority) -> ServiceKeys:
    """Derive the keys of a CA: the same each time."""
    ca_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # load_authority checked it
    # The number itself: how PEM writes it down may change.
    secret = ca_key.private_numbers().private_value.to_bytes((ca_key.key_size + 7) // 8, "big")
    return ServiceKeys(
        tokens=_derive(secret, _TOKENS),
        webhooks=Ed25519PrivateKey.from_private_bytes(_derive(secret, _WEBHOOKS)),
    )


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
