"""Messages on their way: in turn between namespaces, never twice at once, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from chorus_kube.errors import Unavailable
from chorus_operator.decisions.delivery import LONGEST_BACKOFF, Deliveries, Delivery
from chorus_operator.decisions.dispatch import Kind, Limits, Outgoing
from chorus_operator.services.client import POST_SECONDS, OutboundMessage
from chorus_operator.services.dispatcher import WRITE_SECONDS, CannotWrite, WebhookDispatcher
from chorus_protocol.messages import MessageType
from simulated_time import simulate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATA, INQUIRY = MessageType.TRAINING_DATA, MessageType.ONLINE_INQUIRY


def outgoing(about: str = "run-1", *, kind: Kind = DATA, namespace: str = "team", host: str = "far:80") -> Outgoing:
    return Outgoing(namespace=namespace, about=about, kind=kind, host=host)


async def write(message: Outgoing) -> OutboundMessage:
    return OutboundMessage(message.namespace, message.about, f"http://{message.host}/", b"{}")


def send(dispatcher: WebhookDispatcher, message: Outgoing, then: Callable[[], None] = lambda: None) -> None:
    dispatcher.send(message, lambda: write(message), then=then)


class Post:
    """A client whose answers the test scripts."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.sent: list[str] = []

    async def post(self, outbound: OutboundMessage) -> str | None:
        self.sent.append(outbound.id)
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Silence:
    """Services that never answer, but those of `answering`; and when each message was sent."""

    def __init__(self, *answering: str) -> None:
        self.answering = {f"http://{host}/" for host in answering}
        self.begun: dict[str, float] = {}

    async def post(self, outbound: OutboundMessage) -> str | None:
        self.begun[outbound.id] = asyncio.get_running_loop().time()
        if outbound.url in self.answering:
            return None
        await asyncio.sleep(POST_SECONDS)
        return f"it did not answer within {POST_SECONDS:g} s"


async def carried(dispatcher: WebhookDispatcher, post: Post, about: str = "run-1") -> Delivery:
    done = asyncio.Event()
    send(dispatcher, outgoing(about), done.set)
    post.gate.set()
    async with asyncio.timeout(5):
        await done.wait()
    return dispatcher.known(about, namespace="team")


def dispatcher_of(post: Post | Silence, limits: Limits | None = None) -> WebhookDispatcher:
    return WebhookDispatcher(post, clock=lambda: NOW, limits=limits)


async def test_a_letter_that_is_taken_is_delivered() -> None:
    post = Post(None)
    assert await carried(dispatcher_of(post), post) == Delivery(delivered=True, time=NOW)


async def test_failures_in_a_row_are_counted_and_the_last_error_is_known() -> None:
    post = Post("it answered 503", "it answered 500", None, "it answered 503")
    dispatcher = dispatcher_of(post)
    assert await carried(dispatcher, post) == Delivery(failures=1, error="it answered 503", time=NOW)
    assert await carried(dispatcher, post) == Delivery(failures=2, error="it answered 500", time=NOW)
    assert (await carried(dispatcher, post)).delivered
    assert (await carried(dispatcher, post)).failures == 1


async def test_while_a_letter_is_on_its_way_it_is_not_sent_again() -> None:
    post = Post(None)
    dispatcher = dispatcher_of(post)
    for _ in range(3):
        send(dispatcher, outgoing())
        await asyncio.sleep(0)
    assert dispatcher.known("run-1", namespace="team").under_way
    assert not dispatcher.known("run-1", namespace="team").queued
    assert post.sent == ["run-1"]
    await dispatcher.close()


async def test_an_error_of_ours_is_an_answer_too() -> None:
    post = Post(RuntimeError("bug"))
    known = await carried(dispatcher_of(post), post)
    assert known.error == "internal error: RuntimeError"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (CannotWrite("there is no ConfigMap 'ours'; create it"), "there is no ConfigMap 'ours'; create it"),
        (Unavailable("GET x: HTTP 503"), "the message could not be written: GET x: HTTP 503"),
    ],
)
async def test_a_message_that_cannot_be_written_is_a_try_that_failed(raised: Exception, told: str) -> None:
    async def broken() -> OutboundMessage:
        raise raised

    dispatcher, done = dispatcher_of(Post()), asyncio.Event()
    dispatcher.send(outgoing(), broken, then=done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert dispatcher.known("run-1", namespace="team") == Delivery(failures=1, error=told, time=NOW)


def test_a_message_that_takes_too_long_to_write_gives_its_place_to_the_next() -> None:
    async def main() -> float:
        post = Silence("far:80")
        dispatcher = dispatcher_of(post, Limits(total=1))
        dispatcher.send(
            outgoing("stuck"), lambda: asyncio.sleep(3600, OutboundMessage("", "", "", b"")), then=lambda: None
        )
        done = asyncio.Event()
        send(dispatcher, outgoing("next"), done.set)
        await done.wait()
        assert "the API server did not answer within 10 s" in dispatcher.known("stuck", namespace="team").error
        return post.begun["next"]

    assert simulate(main()) == WRITE_SECONDS


async def test_what_waits_is_known_to_wait_and_is_not_written_before_its_turn() -> None:
    post = Post(None, None)
    dispatcher = dispatcher_of(post, Limits(namespace=1))
    written: list[str] = []

    async def second() -> OutboundMessage:
        written.append("second")
        return await write(outgoing("second"))

    send(dispatcher, outgoing("first"))
    dispatcher.send(outgoing("second"), second, then=lambda: None)
    await asyncio.sleep(0)
    assert dispatcher.known("second", namespace="team") == Delivery(under_way=True, queued=True)
    assert (post.sent, written) == (["first"], [])
    await dispatcher.close()
    assert written == []


async def test_when_too_many_wait_the_next_is_told_so_and_may_be_tried_again() -> None:
    post = Post(None, None, None, None)
    dispatcher = dispatcher_of(post, Limits(namespace=1, waiting=2))
    last = asyncio.Event()
    for number in range(4):
        send(dispatcher, outgoing(f"run-{number}"), last.set if number == 2 else lambda: None)
    refused = dispatcher.known("run-3", namespace="team")
    assert refused.error == "2 messages of type TRAINING_DATA of this namespace wait already"
    assert (refused.failures, refused.under_way, refused.time) == (0, False, NOW)
    send(dispatcher, outgoing("run-3", namespace="another"))
    assert dispatcher.known("run-3", namespace="another").error == ""
    post.gate.set()
    await asyncio.wait_for(last.wait(), 5)
    post.answers.append(None)
    assert (await carried(dispatcher, post, "run-3")).delivered


# Services that do not answer


def silent_plugins(dispatcher: WebhookDispatcher, number: int, *, namespace: str = "silent", hosts: int = 1000) -> None:
    for each in range(number):
        host = f"silent-{each % hosts}.{namespace}:80"
        send(dispatcher, outgoing(f"plugin-{each}", kind=INQUIRY, namespace=namespace, host=host))


def seconds_waited(fill: Callable[[WebhookDispatcher], None], message: Outgoing) -> float:
    """How long a message to a good service waits that comes a second after what `fill` sends."""

    async def main() -> float:
        post = Silence("good:80")
        dispatcher = dispatcher_of(post)
        fill(dispatcher)
        await asyncio.sleep(1)
        done = asyncio.Event()
        send(dispatcher, message, done.set)
        await done.wait()
        await dispatcher.close()
        return post.begun[message.about] - 1

    return simulate(main())


@pytest.mark.parametrize(
    ("namespaces", "hosts", "own"),
    [(1, 1000, "other"), (1, 1000, "silent-0"), (1, 1, "other"), (1, 1, "silent-0"), (100, 10, "other")],
    ids=[
        "of another namespace",
        "of the same namespace",
        "of another namespace, all at one host",
        "of the same namespace, all at one host",
        "of a hundred namespaces",
    ],
)
def test_training_data_goes_out_within_the_time_of_one_try_behind_a_thousand_services_that_never_answer(
    namespaces: int, hosts: int, own: str
) -> None:
    def fill(dispatcher: WebhookDispatcher) -> None:
        for each in range(namespaces):
            silent_plugins(dispatcher, 1000 // namespaces, namespace=f"silent-{each}", hosts=hosts)

    assert seconds_waited(fill, outgoing("run", namespace=own, host="good:80")) <= POST_SECONDS


def test_an_inquiry_of_another_namespace_does_not_wait_for_those_that_are_never_answered() -> None:
    message = outgoing("plugin", kind=INQUIRY, namespace="other", host="good:80")
    assert seconds_waited(lambda dispatcher: silent_plugins(dispatcher, 1000), message) == 0


def test_inquiries_go_on_while_training_data_of_every_namespace_goes_to_services_that_never_answer() -> None:
    def fill(dispatcher: WebhookDispatcher) -> None:
        for each in range(1000):
            send(dispatcher, outgoing(f"run-{each}", namespace=f"team-{each % 50}", host=f"silent-{each}:80"))

    message = outgoing("plugin", kind=INQUIRY, namespace="other", host="good:80")
    assert seconds_waited(fill, message) <= POST_SECONDS


def test_one_host_that_never_answers_leaves_room_for_the_other_services_of_its_namespace() -> None:
    message = outgoing("plugin", kind=INQUIRY, namespace="silent", host="good:80")
    assert seconds_waited(lambda dispatcher: silent_plugins(dispatcher, 1000, hosts=1), message) == 0


# What is remembered


def test_a_namespace_with_many_plugins_makes_nothing_of_another_be_forgotten() -> None:
    deliveries = Deliveries(size=10)
    deliveries.record("small", "run", Delivery(delivered=True))
    for number in range(100):
        deliveries.record("large", f"plugin-{number}", Delivery(failures=1))
    assert deliveries.known("small", "run").delivered
    assert deliveries.known("large", "plugin-0") == Delivery()
    assert [n for n in range(100) if deliveries.known("large", f"plugin-{n}").failures] == list(range(91, 100))


def test_what_is_under_way_is_not_forgotten() -> None:
    deliveries = Deliveries(size=2)
    for number in range(10):
        deliveries.record("team", f"run-{number}", Delivery(under_way=number < 5))
    assert [n for n in range(10) if deliveries.known("team", f"run-{n}").under_way] == list(range(5))


def test_pauses_grow_to_half_a_minute() -> None:
    pauses = [Delivery(failures=failures, time=NOW).seconds_until_due(NOW) for failures in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 16, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert Delivery(failures=3, time=NOW).seconds_until_due(NOW + timedelta(seconds=3)) == 1
    assert Delivery().seconds_until_due(NOW) == 0
