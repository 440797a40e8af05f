"""Tokens of services: what each grants, when it ends, and what a forger brings."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from chorus_operator.services.tokens import (
    ISSUER,
    TYPE,
    Grant,
    InvalidToken,
    PluginGrant,
    RunGrant,
    ServiceTokens,
    is_ours,
    token_hash,
)
from token_builders import Signer, encode, hmac_token, pod_claims, signing_input, unsigned_token

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
TOKENS = ServiceTokens(b"k" * 32)
RUN = RunGrant(namespace="lab", name="home-far-1", uid="uid-1", attempt=2, project_id=4095123, plugin_id=77)
PLUGIN = PluginGrant(namespace="lab", name="far", uid="uid-2", generation=3, plugin_id=77)


@pytest.mark.parametrize("grant", [RUN, PLUGIN])
def test_a_token_says_what_it_was_made_for_until_it_ends(grant: Grant) -> None:
    token = TOKENS.issue(grant, expires=LATER)
    assert is_ours(token)
    assert TOKENS.read(token, now=NOW) == grant
    with pytest.raises(InvalidToken):
        TOKENS.read(token, now=LATER + timedelta(seconds=1))


def test_the_token_of_the_same_thing_is_the_same_in_every_process() -> None:
    again = ServiceTokens(b"k" * 32).issue(RUN.model_copy(), expires=LATER)
    assert again == TOKENS.issue(RUN, expires=LATER)
    assert token_hash(again) == token_hash(TOKENS.issue(RUN, expires=LATER))
    assert TOKENS.issue(RUN.model_copy(update={"attempt": 3}), expires=LATER) != again


def parts(token: str) -> list[str]:
    return token.split(".")


def resigned(key: bytes, **claims: object) -> str:
    """Sign claims by hand, with a key of ours or not."""
    import hashlib
    import hmac

    text = signing_input({"alg": "HS256", "typ": TYPE}, claims)
    return f"{text}.{encode(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def forged() -> dict[str, str]:
    token, other = TOKENS.issue(RUN, expires=LATER), ServiceTokens(b"x" * 32).issue(RUN, expires=LATER)
    claims = {"iss": ISSUER, "exp": int(LATER.timestamp()), **RUN.model_dump(mode="json")}
    changed = encode(json.dumps(claims | {"attempt": 3}).encode())
    return {
        "another key": other,
        "changed claims": ".".join((parts(token)[0], changed, parts(token)[2])),
        "no signature": token.rpartition(".")[0] + ".",
        "alg none": signing_input({"alg": "none", "typ": TYPE}, claims) + ".",
        "another algorithm": signing_input({"alg": "HS512", "typ": TYPE}, claims) + "." + parts(token)[2],
        "an empty key": resigned(b"", **claims),
        "another issuer": resigned(b"k" * 32, **claims | {"iss": "somebody"}),
        "no end": resigned(b"k" * 32, **{key: value for key, value in claims.items() if key != "exp"}),
        "another kind": resigned(b"k" * 32, **claims | {"kind": "all"}),
        "an attempt that is no number": resigned(b"k" * 32, **claims | {"attempt": "2"}),
        "nothing": "..",
        "text": "hello",
    }


@pytest.mark.parametrize("name", forged())
def test_a_forged_token_grants_nothing(name: str) -> None:
    with pytest.raises(InvalidToken):
        TOKENS.read(forged()[name], now=NOW)


@pytest.mark.parametrize(
    "token",
    [
        Signer().token(),
        hmac_token(b"k" * 32, key_id="key-1"),
        unsigned_token("none", key_id="key-1"),
        Signer().token(pod_claims(iss=ISSUER)),
        "hello",
        "",
    ],
)
def test_tokens_of_others_are_left_to_those_who_know_them(token: str) -> None:
    assert not is_ours(token)


def test_a_token_of_another_type_is_not_one_of_a_service_though_it_has_the_key() -> None:
    import hashlib
    import hmac

    claims = {"iss": ISSUER, "exp": int(LATER.timestamp()), **RUN.model_dump(mode="json")}
    text = signing_input({"alg": "HS256"}, claims)
    with pytest.raises(InvalidToken, match="something else"):
        TOKENS.read(f"{text}.{encode(hmac.new(b'k' * 32, text.encode(), hashlib.sha256).digest())}", now=NOW)
