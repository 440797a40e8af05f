"""Letters on their way: never twice at once, and what became of each."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from chorus_operator.rules.delivery import LONGEST_BACKOFF, Delivery
from chorus_operator.services.client import Letter
from chorus_operator.services.courier import Courier

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Post:
    """A client whose answers the test scripts."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.sent: list[str] = []

    async def post(self, letter: Letter) -> str | None:
        self.sent.append(letter.id)
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def carried(courier: Courier, post: Post, about: str = "run-1") -> Delivery:
    done = asyncio.Event()
    courier.send(Letter(about, f"{about}-id", "https://far.example.org", b"{}"), then=done.set)
    post.gate.set()
    async with asyncio.timeout(5):
        await done.wait()
    return courier.known(about)


def courier_of(post: Post) -> Courier:
    return Courier(post, clock=lambda: NOW)


async def test_a_letter_that_is_taken_is_delivered() -> None:
    post = Post(None)
    assert await carried(courier_of(post), post) == Delivery(tries=1, delivered=True, time=NOW)


async def test_tries_are_counted_and_the_last_error_is_known() -> None:
    post = Post("it answered 503", "it answered 500", None)
    courier = courier_of(post)
    assert await carried(courier, post) == Delivery(tries=1, error="it answered 503", time=NOW)
    assert await carried(courier, post) == Delivery(tries=2, error="it answered 500", time=NOW)
    assert (await carried(courier, post)).delivered


async def test_while_a_letter_is_on_its_way_it_is_not_sent_again() -> None:
    post = Post(None)
    courier = courier_of(post)
    for _ in range(3):
        courier.send(Letter("run-1", "a", "https://far.example.org", b"{}"), then=lambda: None)
        await asyncio.sleep(0)
    assert courier.known("run-1").under_way
    assert post.sent == ["a"]
    await courier.close()


async def test_an_error_of_ours_is_an_answer_too() -> None:
    post = Post(RuntimeError("bug"))
    known = await carried(courier_of(post), post)
    assert known.error == "internal error: RuntimeError"


async def test_what_is_forgotten_begins_anew() -> None:
    post = Post(None)
    courier = courier_of(post)
    await carried(courier, post)
    courier.forget("run-1")
    assert courier.known("run-1") == Delivery()


def test_pauses_grow_to_half_a_minute() -> None:
    pauses = [Delivery(tries=tries, time=NOW).seconds_until_due(NOW) for tries in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 16, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert Delivery(tries=3, time=NOW).seconds_until_due(NOW + timedelta(seconds=3)) == 1
    assert Delivery().seconds_until_due(NOW) == 0
