"""Keys that are derived from the operator's CA: nothing more need be stored, and every replica has the same.

Who has the CA's key has these too; from one of them nothing follows about the CA's or another. A new CA, new keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chorus_kube.cache import Cache
from chorus_kube.client import Kube
from chorus_pki.certificates import Authority

KEY_BYTES = 32
KNOWN_NAMESPACES = 4096
KNOWN_SECONDS = 60.0
_TOKENS = b"chorus.dev/v1alpha1 tokens of services"
_WEBHOOKS = b"chorus.dev/v1alpha1 signatures of messages to services of a namespace"


@dataclass(frozen=True)
class ServiceKeys:
    """`tokens`: the secret that services' tokens are signed with; `webhooks`: from it follow namespaces' keys."""

    tokens: bytes = field(repr=False)
    webhooks: bytes = field(repr=False)

    def webhook_key(self, namespace_uid: str) -> Ed25519PrivateKey:
        """Derive the key that signs what services of a namespace are sent.

        By the uid: a namespace that is made anew under the same name has another key.
        """
        if not namespace_uid:
            raise ValueError("the uid of a namespace must not be empty")
        info = _WEBHOOKS + b" " + namespace_uid.encode()
        return Ed25519PrivateKey.from_private_bytes(_derive(self.webhooks, info))


def service_keys(authority: Authority) -> ServiceKeys:
    """Derive the keys of a CA: the same each time."""
    ca_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # load_authority checked it
    # The number itself: how PEM writes it down may change.
    secret = ca_key.private_numbers().private_value.to_bytes((ca_key.key_size + 7) // 8, "big")
    return ServiceKeys(tokens=_derive(secret, _TOKENS), webhooks=_derive(secret, _WEBHOOKS))


class WebhookKeys:
    """Gives the key of each namespace, whose uid it reads. Belongs to one event loop."""

    def __init__(self, kube: Kube, keys: ServiceKeys, *, seconds: Callable[[], float] = time.monotonic):
        """`seconds`: a clock that only rises."""
        self._kube = kube
        self._keys = keys
        self._known: Cache[str, Ed25519PrivateKey] = Cache(size=KNOWN_NAMESPACES, clock=seconds)

    async def of(self, namespace: str) -> Ed25519PrivateKey:
        """Give the key of a namespace as it was within the last minute. Raises KubeError."""
        return self._known.get(namespace) or await self.read(namespace)

    async def read(self, namespace: str) -> Ed25519PrivateKey:
        """Give the key of a namespace as it is now. Raises KubeError, NotFound when it is not there."""
        key = self._keys.webhook_key(await self._kube.namespace_uid(namespace))
        self._known.put(namespace, key, seconds=KNOWN_SECONDS)
        return key


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
