"""Keys of services: the same in every replica, another for each namespace, and telling nothing of the CA."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chorus_operator.ca import make_ca
from chorus_operator.services.keys import KNOWN_SECONDS, WebhookKeys, service_keys
from chorus_pki.certificates import Authority
from chorus_protocol.webhook_signature import public_key, signed_headers
from fakes import FakeKube
from far_service import check_signature

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
    authority = make_ca(now=NOW)
    first, second = service_keys(authority), service_keys(rewritten(authority))
    assert first.tokens == second.tokens
    assert public_key(first.webhook_key("uid-a")) == public_key(second.webhook_key("uid-a"))


def test_another_ca_has_other_keys() -> None:
    first, second = (
        service_keys(make_ca(now=NOW)),
        service_keys(make_ca(now=NOW)),
    )
    assert first.tokens != second.tokens
    assert public_key(first.webhook_key("uid-a")) != public_key(second.webhook_key("uid-a"))


def test_the_keys_differ_and_are_not_shown() -> None:
    keys = service_keys(make_ca(now=NOW))
    own = keys.webhook_key("uid-a").private_bytes_raw()
    assert len({keys.tokens, keys.webhooks, own}) == 3
    assert repr(keys) == "ServiceKeys()"


def test_a_message_to_a_service_of_one_namespace_does_not_verify_with_the_key_of_another() -> None:
    keys = service_keys(make_ca(now=NOW))
    ours, theirs = keys.webhook_key("uid-a"), keys.webhook_key("uid-b")
    headers = signed_headers(ours, message_id="1", timestamp=1767225600, body=b"{}")
    check_signature(public_key(ours), headers, b"{}")
    with pytest.raises(InvalidSignature):
        check_signature(public_key(theirs), headers, b"{}")


def test_a_namespace_without_a_uid_has_no_key() -> None:
    with pytest.raises(ValueError, match="uid"):
        service_keys(make_ca(now=NOW)).webhook_key("")


async def test_the_key_of_a_namespace_follows_its_uid_and_is_read_once_a_minute() -> None:
    kube, keys, clock = FakeKube(), service_keys(make_ca(now=NOW)), [0.0]
    webhook_keys = WebhookKeys(kube, keys, seconds=lambda: clock[0])  # type: ignore[arg-type]

    async def published() -> str:
        return public_key(await webhook_keys.of("team"))

    first = await published()
    assert first == public_key(keys.webhook_key("uid-of-team"))
    kube.namespace_uids["team"] = "made-anew"
    assert await published() == first
    assert len(kube.calls) == 1
    clock[0] += KNOWN_SECONDS
    assert await published() == public_key(keys.webhook_key("made-anew"))
    kube.namespace_uids["team"] = "and-again"
    assert public_key(await webhook_keys.read("team")) == await published() == public_key(keys.webhook_key("and-again"))
