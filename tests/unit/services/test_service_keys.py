"""Keys of services: the same for the same CA in every replica, and telling nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chorus_operator.kube.ca import Authority, make_authority
from chorus_operator.services.keys import service_keys
from chorus_operator.services.signing import public_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rewritten(authority: Authority) -> Authority:
    """The same key, written down in another form."""
    key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return Authority(
        authority.certificate, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )


def test_every_replica_has_the_same_keys_however_the_cas_key_is_written() -> None:
    authority = make_authority(now=NOW)
    first, second = service_keys(authority), service_keys(rewritten(authority))
    assert first.tokens == second.tokens
    assert public_key(first.webhooks) == public_key(second.webhooks)


def test_another_ca_has_other_keys() -> None:
    first, second = service_keys(make_authority(now=NOW)), service_keys(make_authority(now=NOW))
    assert first.tokens != second.tokens
    assert public_key(first.webhooks) != public_key(second.webhooks)


def test_the_two_keys_differ_and_are_not_shown() -> None:
    keys = service_keys(make_authority(now=NOW))
    assert keys.tokens != keys.webhooks.private_bytes_raw()
    assert repr(keys) == "ServiceKeys()"
