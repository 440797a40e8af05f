"""Signatures of Standard Webhooks, checked as a receiver does."""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chorus_protocol.webhook_signature import public_key, signed_headers

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def check(headers: dict[str, str], body: bytes) -> None:
    """What a service does, from the public key alone."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key(KEY).removeprefix("whpk_")))
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    public.verify(base64.b64decode(signature), signed)


def test_a_service_that_knows_the_public_key_believes_a_message() -> None:
    check(signed_headers(KEY, message_id="uid-1-2", timestamp=1767225600, body=b"{}"), b"{}")


@pytest.mark.parametrize(
    ("name", "value"), [("webhook-id", "uid-1-3"), ("webhook-timestamp", "1767225601"), ("body", "[]")]
)
def test_whatever_is_changed_on_the_way_is_noticed(name: str, value: str) -> None:
    headers = signed_headers(KEY, message_id="uid-1-2", timestamp=1767225600, body=b"{}")
    body = value.encode() if name == "body" else b"{}"
    with pytest.raises(InvalidSignature):
        check(headers if name == "body" else headers | {name: value}, body)
