"""Tokens checked by the API server's published keys: what a forger, a clock or a rotation can bring."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.contract import AUDIENCE
from chorus_kube.errors import Forbidden, Unavailable
from chorus_operator.messages.authentication import PodIdentity
from chorus_operator.messages.published_keys import (
    ALGORITHMS,
    FETCH_PAUSE_SECONDS,
    KEYS_SECONDS,
    LEEWAY_SECONDS,
    PublishedKeys,
    read_published,
)
from chorus_protocol.refusals import Cause, Refused
from fakes import Call, FakeKube
from token_builders import (
    CURVES,
    HOUR,
    ISSUER,
    NOW,
    Signer,
    discovery,
    encode,
    hmac_token,
    pod_claims,
    signing_input,
    unsigned_token,
)

SIGNER = Signer("key-1", "RS256")
STRANGER = Signer("key-1", "RS256")
POD = PodIdentity("default", "pod-1", "pod-uid", "chorus-run")


@dataclass
class Env:
    """An API server that publishes keys, and a clock."""

    kube: FakeKube = field(default_factory=FakeKube)
    now: float = NOW + 60
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.kube.issuer = discovery(SIGNER)
        self.keys = PublishedKeys(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: datetime.fromtimestamp(self.now, UTC),
            seconds=lambda: self.seconds,
        )

    async def refusal(self, token: str) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.keys.identify(token)
        return caught.value

    @property
    def fetches(self) -> int:
        return sum(call.verb == "token_keys" for call in self.kube.calls)


@pytest.fixture
def place() -> Env:
    return Env()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_pods_token_names_its_pod(place: Env, algorithm: str) -> None:
    signer = Signer("another", algorithm)
    place.kube.issuer = discovery(SIGNER, signer)
    assert await place.keys.identify(signer.token()) == POD


async def test_one_of_several_audiences_is_enough(place: Env) -> None:
    for audience in (AUDIENCE, ["other", AUDIENCE]):
        assert await place.keys.identify(SIGNER.token(pod_claims(aud=audience))) == POD


# Forgers

FORGED: dict[str, Callable[[], str]] = {
    "a stranger's key under a known id": lambda: STRANGER.token(),
    "no signature": lambda: SIGNER.token().rpartition(".")[0] + ".",
    "another token's signature": lambda: (
        SIGNER.token(pod_claims(sub="x")).rpartition(".")[0] + "." + SIGNER.token().rpartition(".")[2]
    ),
    "alg none": lambda: unsigned_token("none", key_id="key-1"),
    "alg None": lambda: unsigned_token("None", key_id="key-1"),
    "alg none, signed": lambda: SIGNER.token(alg="none"),
    "alg missing": lambda: SIGNER.token(alg=None),
    "alg of another type": lambda: SIGNER.token(alg=["RS256"]),
    "the public key as a shared secret": lambda: hmac_token(SIGNER.public_pem, key_id="key-1"),
    "the public key without its last line break": lambda: hmac_token(SIGNER.public_pem.strip(), key_id="key-1"),
    "the published key as a shared secret": lambda: hmac_token(json.dumps(SIGNER.jwk).encode(), key_id="key-1"),
    "an empty shared secret": lambda: hmac_token(b"", key_id="key-1"),
    "no key id": lambda: SIGNER.token(kid=None),
    "a key id of another type": lambda: SIGNER.token(kid={"key-1": 1}),
    "an unknown extension": lambda: SIGNER.token(crit=["exp"], exp=1),
    "an unencoded payload": lambda: SIGNER.token(crit=["b64"], b64=False),
    "a key of its own": lambda: STRANGER.token(jwk=STRANGER.jwk),
    "a key elsewhere": lambda: STRANGER.token(jku="https://192.0.2.1/jwks"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_token_is_refused_and_not_looked_into_twice(place: Env, name: str) -> None:
    refused = await place.refusal(FORGED[name]())
    assert (refused.cause, refused.status) == (Cause.BAD_TOKEN, 401)
    assert place.fetches <= 1


@pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512"])
async def test_an_algorithm_that_the_key_is_not_for_is_refused(place: Env, algorithm: str) -> None:
    text = signing_input({"alg": algorithm, "kid": "key-1"}, pod_claims())
    token = f"{text}.{encode(SIGNER.sign(text.encode(), algorithm))}"
    assert (await place.refusal(token)).cause is Cause.BAD_TOKEN


async def test_a_key_on_one_curve_does_not_speak_for_another(place: Env) -> None:
    signer = Signer("curve", "ES256")
    place.kube.issuer = discovery(signer)
    for algorithm in set(CURVES) - {"ES256"}:
        assert (await place.refusal(signer.token(alg=algorithm))).cause is Cause.BAD_TOKEN


# Claims

WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": ["https://kubernetes.default.svc"]},
    "an audience that only begins like ours": {"aud": [f"{AUDIENCE}x"]},
    "no audience": {"aud": None},
    "an empty audience": {"aud": []},
    "an audience of another type": {"aud": {AUDIENCE: 1}},
    "another issuer": {"iss": "https://example.com"},
    "no issuer": {"iss": None},
    "a list of issuers": {"iss": [ISSUER, "https://example.com"]},
    "expired": {"exp": NOW + 60 - LEEWAY_SECONDS},
    "no end": {"exp": None},
    "an end that is no number": {"exp": "never"},
    "an end beyond all numbers": {"exp": float("nan")},
    "not valid yet": {"nbf": NOW + 61 + LEEWAY_SECONDS},
    "no beginning": {"nbf": None},
    "issued in the future": {"iat": NOW + HOUR},
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_genuine_token_that_is_not_for_us_or_not_for_now_is_refused(place: Env, name: str) -> None:
    refused = await place.refusal(SIGNER.token(pod_claims(**WRONG[name])))
    assert (refused.cause, refused.status) == (Cause.BAD_TOKEN, 401)


async def test_clocks_may_differ_by_half_a_minute(place: Env) -> None:
    for claims in (pod_claims(exp=NOW + 61 - LEEWAY_SECONDS), pod_claims(nbf=NOW + 60 + LEEWAY_SECONDS)):
        assert await place.keys.identify(SIGNER.token(claims)) == POD


async def test_a_token_is_refused_once_it_has_expired_however_often_it_came_before(place: Env) -> None:
    token = SIGNER.token()
    await place.keys.identify(token)
    place.now = NOW + HOUR + LEEWAY_SECONDS
    assert (await place.refusal(token)).cause is Cause.BAD_TOKEN


def bound(**changes: Any) -> dict[str, Any]:
    claim = {**pod_claims()["kubernetes.io"], **changes}
    return {"kubernetes.io": {name: value for name, value in claim.items() if value is not None}}


NOT_A_POD: dict[str, dict[str, Any]] = {
    "no bound object": bound(pod=None),
    "bound to a Secret": bound(pod=None, secret={"name": "s", "uid": "u"}),
    "a pod without uid": bound(pod={"name": "pod-1"}),
    "an empty pod": bound(pod={"name": "", "uid": ""}),
    "a pod of another type": bound(pod="pod-1"),
    "a pod's uid of another type": bound(pod={"name": "pod-1", "uid": 5}),
    "no namespace": bound(namespace=None),
    "another namespace than the subject's": bound(namespace="other"),
    "another service account than the subject's": bound(serviceaccount={"name": "other", "uid": "u"}),
    "no claim of Kubernetes": {"kubernetes.io": None},
    "a subject that is no service account": {"sub": "admin"},
    "no subject": {"sub": None},
}


@pytest.mark.parametrize("name", NOT_A_POD)
async def test_a_genuine_token_that_is_bound_to_no_pod_is_refused(place: Env, name: str) -> None:
    refused = await place.refusal(SIGNER.token(pod_claims(**NOT_A_POD[name])))
    assert (refused.cause, refused.status) == (Cause.NOT_A_POD, 403)


@pytest.mark.parametrize("payload", [[], "text", 5, None, {}])
async def test_a_signed_payload_that_holds_no_claims_is_refused(place: Env, payload: Any) -> None:
    text = signing_input({"alg": "RS256", "kid": "key-1"}, payload)
    token = f"{text}.{encode(SIGNER.sign(text.encode(), 'RS256'))}"
    assert (await place.refusal(token)).cause is Cause.BAD_TOKEN


# No token breaks it

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KNOWN = st.fixed_dictionaries({"alg": st.sampled_from(["RS256", "ES256", "HS256", "none"]), "kid": st.just("key-1")})
SEGMENT = st.one_of(
    st.text(max_size=30),
    (KNOWN | JSON).map(lambda value: encode(json.dumps(value).encode())),
    st.binary(max_size=30).map(encode),
    st.sampled_from(["[" * 400, '{"a":' * 100]).map(lambda text: encode(text.encode())),
)


async def identified(token: str) -> PodIdentity | Refused:
    try:
        return await Env().keys.identify(token)
    except Refused as refused:
        return refused


@settings(max_examples=200, deadline=None)
@given(st.lists(SEGMENT, min_size=1, max_size=5).map(".".join) | st.text(max_size=60))
def test_whatever_comes_as_a_token_is_refused_with_one_reason(token: str) -> None:
    refused = asyncio.run(identified(token))
    assert isinstance(refused, Refused)
    assert refused.cause is Cause.BAD_TOKEN


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(pod_claims())), JSON, min_size=1))
def test_whatever_a_genuine_token_says_it_is_refused_or_names_the_pod_that_it_says(changes: dict[str, Any]) -> None:
    claims = {**pod_claims(), **changes}
    found = asyncio.run(identified(SIGNER.token(claims)))
    if isinstance(found, Refused):
        assert found.cause in {Cause.BAD_TOKEN, Cause.NOT_A_POD}
    else:
        pod = claims["kubernetes.io"]["pod"]
        assert (found.name, found.uid) == (pod["name"], pod["uid"])
        assert claims["iss"] == ISSUER


@settings(max_examples=100, deadline=None)
@given(position=st.integers(min_value=0), character=st.sampled_from("aZ0-_.=+/ é"))
def test_a_token_with_one_changed_character_is_refused(position: int, character: str) -> None:
    token = SIGNER.token()
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    found = asyncio.run(identified(changed))
    assert isinstance(found, Refused) or changed == token


# Keys come and go


async def test_keys_are_fetched_once_for_many_tokens_and_again_after_ten_minutes(place: Env) -> None:
    await asyncio.gather(*(place.keys.identify(SIGNER.token()) for _ in range(20)))
    place.seconds = KEYS_SECONDS - 1
    await place.keys.identify(SIGNER.token())
    assert place.fetches == 1
    place.seconds = KEYS_SECONDS
    await place.keys.identify(SIGNER.token())
    assert place.fetches == 2


async def test_a_key_that_is_new_is_found_at_once(place: Env) -> None:
    await place.keys.identify(SIGNER.token())
    new = Signer("key-2")
    place.kube.issuer = discovery(SIGNER, new)
    place.seconds = FETCH_PAUSE_SECONDS
    assert await place.keys.identify(new.token()) == POD


async def test_a_key_that_is_no_longer_published_counts_for_ten_minutes_at_most(place: Env) -> None:
    await place.keys.identify(SIGNER.token())
    place.kube.issuer = discovery(Signer("key-2"))
    place.seconds = KEYS_SECONDS
    assert (await place.refusal(SIGNER.token())).cause is Cause.BAD_TOKEN


async def test_tokens_with_invented_key_ids_cannot_make_the_operator_ask_and_ask(place: Env) -> None:
    genuine = SIGNER.token()
    for second in range(50):
        place.seconds = second
        for number in range(3):
            await place.refusal(STRANGER.token(kid=f"invented-{second}-{number}"))
        assert await place.keys.identify(genuine) == POD  # and nobody else is kept waiting
    assert place.fetches == 50 / FETCH_PAUSE_SECONDS


async def test_who_comes_with_a_new_key_right_after_a_forger_shall_come_again_and_is_then_heard(
    place: Env,
) -> None:
    """A sender gives up a message that is answered 401."""
    await place.refusal(STRANGER.token(kid="invented"))
    new = Signer("key-2")
    place.kube.issuer = discovery(SIGNER, new)
    place.seconds = 3
    refused = await place.refusal(new.token())
    assert (refused.cause, refused.status) == (Cause.UNAVAILABLE, 503)
    place.seconds = FETCH_PAUSE_SECONDS
    assert await place.keys.identify(new.token()) == POD


async def test_an_api_server_that_is_away_is_not_asked_by_every_message(place: Env) -> None:
    def refuse(call: Call) -> None:
        raise Unavailable("away")

    place.kube.before = refuse
    with pytest.raises(Unavailable):
        await place.keys.identify(SIGNER.token())
    for second in range(int(FETCH_PAUSE_SECONDS)):
        place.seconds = second
        assert (await place.refusal(SIGNER.token())).cause is Cause.UNAVAILABLE
    assert place.fetches == 1
    place.kube.before = lambda call: None
    place.seconds = FETCH_PAUSE_SECONDS
    assert await place.keys.identify(SIGNER.token()) == POD


async def test_a_fetch_that_is_given_up_does_not_hold_up_the_next(place: Env) -> None:
    hanging = asyncio.Event()

    async def hang() -> dict[str, Any]:
        await hanging.wait()
        return {}

    place.kube.token_keys, usual = hang, place.kube.token_keys  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await place.keys.identify(SIGNER.token())
    place.kube.token_keys = usual  # type: ignore[method-assign]
    place.seconds = FETCH_PAUSE_SECONDS
    assert await place.keys.identify(SIGNER.token()) == POD


# What is published


async def test_the_start_fails_where_keys_may_not_be_read(place: Env) -> None:
    def refuse(call: Call) -> None:
        raise Forbidden("forbidden", status=403)

    place.kube.before = refuse
    with pytest.raises(Forbidden):
        await place.keys.start()


def test_keys_that_are_not_for_tokens_of_service_accounts_are_left_out() -> None:
    secret = {"kty": "oct", "kid": "secret", "k": encode(b"x" * 32), "alg": "HS256"}
    strange = {"kty": "AKP", "kid": "new", "alg": "ML-DSA-65", "pub": "AA"}
    without_purpose = {name: value for name, value in Signer("bare").jwk.items() if name != "alg"}
    broken = {**Signer("broken").jwk, "x": "!"}
    nameless = {name: value for name, value in Signer("x").jwk.items() if name != "kid"}
    configuration, _ = discovery()
    entries: list[Any] = [secret, strange, without_purpose, broken, nameless, None, "text", SIGNER.jwk]
    published = read_published(configuration, {"keys": entries})
    assert (published.issuer, set(published.keys)) == (ISSUER, {"key-1"})


@pytest.mark.parametrize(
    ("configuration", "keys"),
    [
        ({}, {"keys": [SIGNER.jwk]}),
        ({"issuer": ""}, {"keys": [SIGNER.jwk]}),
        ({"issuer": 5}, {"keys": [SIGNER.jwk]}),
        ({"issuer": ISSUER}, {}),
        ({"issuer": ISSUER}, {"keys": {}}),
        ({"issuer": ISSUER}, {"keys": []}),
        ({"issuer": ISSUER}, {"keys": [{"kty": "oct"}]}),
    ],
)
def test_a_discovery_that_gives_nothing_to_check_by_is_an_error(configuration: Any, keys: Any) -> None:
    with pytest.raises(Unavailable):
        read_published(configuration, keys)
