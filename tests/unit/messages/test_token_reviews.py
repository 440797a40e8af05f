"""TokenReviews: few at once, none for a token that the published keys show to be bad, and no good one left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from chorus_kube.errors import Forbidden
from chorus_operator.messages import published_keys
from chorus_operator.messages.authentication import BAD_TOKENS, PodIdentity, TokenReviews
from chorus_operator.messages.published_keys import (
    FETCH_PAUSE_SECONDS,
    FILTER_LEEWAY_SECONDS,
    KEYS_SECONDS,
    PublishedKeys,
)
from chorus_operator.messages.review_queue import AT_ONCE, WAITING
from chorus_protocol.refusals import Cause, Refused
from fakes import Call, FakeKube
from token_builders import HOUR, NOW, Signer, discovery, pod_claims, unsigned_token

SIGNER = Signer("key-1", "RS256")
STRANGER = Signer("key-1", "RS256")
ELSEWHERE = Signer("key-of-another-issuer", "RS256")
POD = PodIdentity("default", "pod-1", "pod-uid", "chorus-run")
GOOD: dict[str, Any] = {
    "authenticated": True,
    "audiences": ["chorus"],
    "user": {
        "username": "system:serviceaccount:default:chorus-run",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["pod-1"],
            "authentication.kubernetes.io/pod-uid": ["pod-uid"],
        },
    },
}


class SlowKube(FakeKube):
    """An API server that answers reviews when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.under_way = self.most_at_once = self.reviews = 0

    async def token_review(self, token: str, *, audiences: Any) -> dict[str, Any]:
        self.reviews += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.answers.wait()
            return await super().token_review(token, audiences=audiences)
        finally:
            self.under_way -= 1


@dataclass
class Env:
    """TokenReviews behind the filter, with a clock."""

    kube: SlowKube = field(default_factory=SlowKube)
    now: float = NOW + 60
    seconds: float = 0.0

    def __post_init__(self) -> None:
        keys = PublishedKeys(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: datetime.fromtimestamp(self.now, UTC),
            seconds=lambda: self.seconds,
        )
        self.reviews = TokenReviews(self.kube, clock=lambda: self.seconds, first=keys)  # type: ignore[arg-type]

    def accepts(self, token: str) -> str:
        self.kube.tokens[token] = GOOD
        return token

    async def cause(self, token: str, peer: str = "192.0.2.9") -> Cause | None:
        try:
            await self.reviews.identify(token, peer=peer)
        except Refused as refused:
            return refused.cause
        return None


@pytest.fixture
async def place() -> Env:
    place = Env()
    place.kube.issuer = discovery(SIGNER)
    await place.reviews.start()
    place.kube.reviews = 0
    return place


@pytest.fixture
async def without_keys() -> Env:
    """The keys may not be read, or no one publishes them."""
    place = Env()
    await place.reviews.start()
    place.kube.reviews = 0
    return place


async def several(place: Env, tokens: list[str], *, peer: Callable[[int], str]) -> list[asyncio.Task[Cause | None]]:
    tasks = [asyncio.create_task(place.cause(token, peer(number))) for number, token in enumerate(tokens)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


BAD: dict[str, Callable[[], str]] = {
    "no token at all": lambda: "forged",
    "a stranger's key under a known id": lambda: STRANGER.token(),
    "no signature": lambda: unsigned_token("none", key_id="key-1"),
    "no key id": lambda: SIGNER.token(kid=None),
    "another audience": lambda: SIGNER.token(pod_claims(aud=["https://kubernetes.default.svc"])),
    "no audience": lambda: SIGNER.token(pod_claims(aud=None)),
    "long expired": lambda: SIGNER.token(pod_claims(exp=NOW + 59 - FILTER_LEEWAY_SECONDS)),
    "no end": lambda: SIGNER.token(pod_claims(exp=None)),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_token_that_the_published_keys_show_to_be_bad_costs_no_review(place: Env, name: str) -> None:
    assert await place.cause(place.accepts(BAD[name]())) is Cause.BAD_TOKEN
    assert place.kube.reviews == 0


UNDECIDED: dict[str, Callable[[], str]] = {
    "good": lambda: SIGNER.token(),
    "of another issuer with a published key": lambda: SIGNER.token(pod_claims(iss="https://old.example.com")),
    "of another issuer whose keys are not published here": lambda: ELSEWHERE.token(),
    "without a beginning": lambda: SIGNER.token(pod_claims(nbf=None)),
    "of a clock that differs by minutes": lambda: SIGNER.token(pod_claims(iat=NOW + 300, nbf=NOW + 300)),
    "expired a minute ago by our clock": lambda: SIGNER.token(pod_claims(exp=NOW)),
}


@pytest.mark.parametrize("name", UNDECIDED)
async def test_what_the_published_keys_do_not_show_to_be_bad_is_for_the_api_server_to_decide(
    place: Env, name: str
) -> None:
    token = UNDECIDED[name]()
    assert await place.cause(token) is Cause.BAD_TOKEN  # this API server does not know it
    place.seconds = HOUR
    assert await place.cause(place.accepts(token)) is None
    assert place.kube.reviews == 2


@pytest.mark.parametrize("token", ["not a token in three parts", STRANGER.token(), ELSEWHERE.token()])
async def test_without_published_keys_every_token_is_reviewed(without_keys: Env, token: str) -> None:
    assert await without_keys.cause(without_keys.accepts(token)) is None


async def test_an_operator_that_may_not_read_the_keys_starts_and_reviews() -> None:
    place = Env()

    def refuse(call: Call) -> None:
        if call.verb == "token_keys":
            raise Forbidden("no", status=403, reason="Forbidden")

    place.kube.issuer = discovery(SIGNER)
    place.kube.before = refuse
    await place.reviews.start()
    assert await place.cause(place.accepts(SIGNER.token())) is None


async def test_keys_that_appear_later_are_used_then(without_keys: Env) -> None:
    without_keys.kube.issuer = discovery(SIGNER)
    without_keys.seconds = FETCH_PAUSE_SECONDS
    assert await without_keys.cause(SIGNER.token()) is Cause.BAD_TOKEN
    for _ in range(5):
        await asyncio.sleep(0)  # the keys are fetched in the background
    before = without_keys.kube.reviews
    assert await without_keys.cause(STRANGER.token()) is Cause.BAD_TOKEN
    assert without_keys.kube.reviews == before


async def test_good_tokens_do_not_wait_for_keys_that_do_not_come(place: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery hangs when the keys are old: what is known of them still refuses, and the rest is reviewed."""
    monkeypatch.setattr(published_keys, "REFRESH_SECONDS", 0.05)
    asked = 0

    async def hang() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return {}

    place.kube.token_issuer = hang  # type: ignore[method-assign]
    place.seconds = KEYS_SECONDS + 1
    async with asyncio.timeout(5):
        for number in range(5):
            token = SIGNER.token(pod_claims(jti=f"token-{number}"))
            assert await place.cause(place.accepts(token)) is None
        assert await place.cause(STRANGER.token()) is Cause.BAD_TOKEN
    assert place.kube.reviews == 5
    assert asked == 1


async def test_four_hundred_made_up_tokens_are_reviewed_eight_at_once_and_most_are_told_to_come_again(
    without_keys: Env,
) -> None:
    place = without_keys
    place.kube.answers.clear()
    tasks = await several(place, [f"made-up-{number}" for number in range(400)], peer=lambda n: f"192.0.2.{n % 200}")
    assert sum(task.done() for task in tasks) == 400 - AT_ONCE - WAITING
    place.kube.answers.set()
    causes = await asyncio.gather(*tasks)
    assert place.kube.most_at_once == AT_ONCE
    assert causes.count(Cause.UNAVAILABLE) == 400 - AT_ONCE - WAITING
    assert causes.count(Cause.BAD_TOKEN) == AT_ONCE + WAITING


@pytest.mark.parametrize("address", ["192.0.2.1", "its own"])
async def test_a_good_token_behind_a_flood_of_made_up_ones_is_reviewed_next(without_keys: Env, address: str) -> None:
    place = without_keys
    place.kube.answers.clear()
    flood = await several(place, [f"made-up-{number}" for number in range(400)], peer=lambda n: "192.0.2.1")
    (good,) = await several(place, [place.accepts("good")], peer=lambda n: address)
    before = place.kube.reviews
    place.kube.answers.set()
    assert await good is None
    assert place.kube.reviews - before <= AT_ONCE * 2
    await asyncio.gather(*flood)


async def test_who_gives_up_while_waiting_leaves_the_turn_to_others(without_keys: Env) -> None:
    place = without_keys
    place.kube.answers.clear()
    tasks = await several(place, [f"made-up-{number}" for number in range(AT_ONCE + 20)], peer=lambda n: "192.0.2.1")
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks[::2], return_exceptions=True)
    place.kube.answers.set()
    await asyncio.gather(*tasks[1::2])
    place.kube.most_at_once = 0
    tasks = await several(place, [f"later-{number}" for number in range(AT_ONCE + 20)], peer=lambda n: "192.0.2.1")
    assert await asyncio.gather(*tasks) == [Cause.BAD_TOKEN] * (AT_ONCE + 20)
    assert place.kube.most_at_once <= AT_ONCE


async def test_a_turn_that_was_given_to_who_has_just_given_up_goes_to_the_next(without_keys: Env) -> None:
    place = without_keys
    place.kube.answers.clear()
    tasks = await several(place, [f"made-up-{number}" for number in range(AT_ONCE + 2)], peer=lambda n: "192.0.2.1")
    place.kube.answers.set()
    await asyncio.wait([tasks[0]])
    for task in tasks[AT_ONCE:]:
        task.cancel()  # at most one of them has the turn already
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks = await several(place, [f"later-{number}" for number in range(AT_ONCE)], peer=lambda n: "192.0.2.1")
    assert await asyncio.gather(*tasks) == [Cause.BAD_TOKEN] * AT_ONCE


async def test_bad_tokens_do_not_push_good_ones_out_of_memory(without_keys: Env) -> None:
    place = without_keys
    assert await place.cause(place.accepts("good")) is None
    for number in range(BAD_TOKENS * 5):
        await place.cause(f"made-up-{number}")
    before = place.kube.reviews
    assert await place.cause("good") is None
    assert place.kube.reviews == before


async def test_a_bad_token_is_looked_into_once_in_a_while_only(without_keys: Env) -> None:
    for _ in range(20):
        assert await without_keys.cause("made-up") is Cause.BAD_TOKEN
    assert without_keys.kube.reviews == 1


async def test_who_was_told_to_come_again_is_heard_when_there_is_room(without_keys: Env) -> None:
    place = without_keys
    place.kube.answers.clear()
    good = await several(place, [place.accepts("good-0")], peer=lambda n: "192.0.2.1")
    rest = [place.accepts(f"good-{number}") for number in range(1, 400)]
    good += await several(place, rest, peer=lambda n: "192.0.2.1")
    place.kube.answers.set()
    causes = await asyncio.gather(*good)
    again = ["good-0", *rest][causes.index(Cause.UNAVAILABLE)]
    assert await place.cause(again) is None
