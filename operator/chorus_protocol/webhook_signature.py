"""Signatures of what is sent to services, as Standard Webhooks has it: asymmetric, so a service keeps no secret."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
_PUBLIC_PREFIX = "whpk_"
_VERSION = "v1a"


def public_key(key: Ed25519PrivateKey) -> str:
    """Write down the key that signatures are checked with: `whpk_` and base64."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _PUBLIC_PREFIX + base64.b64encode(raw).decode()


def signed_headers(key: Ed25519PrivateKey, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Make the three headers. `message_id` stays the same when a message is sent again; `timestamp`: Unix seconds."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: f"{_VERSION},{base64.b64encode(key.sign(signed)).decode()}",
    }
