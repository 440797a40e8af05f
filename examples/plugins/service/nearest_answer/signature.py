"""Check that a request comes from Chorus: a signature as Standard Webhooks has it, with a public key alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_SECONDS = 300.0
"""How far the sender's clock may be from ours; an older request may be one that somebody has recorded."""
_KEY_PREFIX = "whpk_"
_VERSION = "v1a"


class Untrusted(Exception):
    """A request that Chorus did not send, or not now."""


class Signatures:
    """Checks requests with the key that Chorus publishes in the ConfigMap `chorus-ca`."""

    def __init__(self, key: str) -> None:
        """`key`: whpk_ and base64. Raises ValueError for anything else."""
        text = key.strip()
        if not text.startswith(_KEY_PREFIX):
            raise ValueError(f"the key must begin with {_KEY_PREFIX}: take it from the ConfigMap chorus-ca")
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True))

    def check(self, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
        """Return the request's id, which is the same when it is sent again; `now`: Unix seconds. Raises Untrusted."""
        identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not identity or not timestamp.isdecimal():
            raise Untrusted("webhook-id and webhook-timestamp are missing")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise Untrusted(f"webhook-timestamp is more than {TOLERANCE_SECONDS:g} s from now")
        signed = b".".join((identity.encode(), timestamp.encode(), body))
        if not any(self._is_good(each, signed) for each in headers.get("webhook-signature", "").split()):
            raise Untrusted("webhook-signature is not by the key that this service knows")
        return identity

    def _is_good(self, signature: str, signed: bytes) -> bool:
        version, _, text = signature.partition(",")
        if version != _VERSION:
            return False
        try:
            self._key.verify(base64.b64decode(text, validate=True), signed)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
