"""Check that a request comes from Chorus: a signature as Standard Webhooks has it, with a public key alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_SECONDS = 300.0
"""How far the sender's clock may be from ours; an older request may be one that somebody has recorded."""
_KEY_PREFIX = "whpk_"
_VERSION = "v1a"


class Untrusted(Exception):
    """A request that Chorus did not send, or not now."""


def read_key(text: str) -> Ed25519PublicKey:
    """Read a public key, whpk_ and base64. Raises ValueError for anything else."""
    text = text.strip()
    if not text.startswith(_KEY_PREFIX):
        raise ValueError(f"the key must begin with {_KEY_PREFIX}: take it from the ConfigMap chorus-ca")
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True))


class Signatures:
    """Checks requests with the key that Chorus publishes in the ConfigMap `chorus-ca` of the namespace."""

    def __init__(self, file: Path) -> None:
        """`file`: holds the key. Raises OSError or ValueError when it does not."""
        self._file = file
        self._key = read_key(file.read_text(encoding="ascii"))

    def check(self, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
        """Return the request's id, which is the same when it is sent again; `now`: Unix seconds. Raises Untrusted."""
        identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not identity or not timestamp.isdecimal():
            raise Untrusted("webhook-id and webhook-timestamp are missing")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise Untrusted(f"webhook-timestamp is more than {TOLERANCE_SECONDS:g} s from now")
        signed = b".".join((identity.encode(), timestamp.encode(), body))
        signatures = headers.get("webhook-signature", "").split()
        if not self._any_good(signatures, signed) and not (self._read_again() and self._any_good(signatures, signed)):
            raise Untrusted("webhook-signature is not by the key that this service knows")
        return identity

    def _read_again(self) -> bool:
        """Read the file, which the kubelet changes when Chorus publishes another key; whether it could be read."""
        try:
            self._key = read_key(self._file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return False
        return True

    def _any_good(self, signatures: Sequence[str], signed: bytes) -> bool:
        return any(self._is_good(each, signed) for each in signatures)

    def _is_good(self, signature: str, signed: bytes) -> bool:
        version, _, text = signature.partition(",")
        if version != _VERSION:
            return False
        try:
            self._key.verify(base64.b64decode(text, validate=True), signed)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
