"""The kit's receiver answers as the operator's does."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from chorus_api.contract import MAX_BODY_BYTES, MESSAGES_PATH, PROGRESS_PATH
from chorus_conformance.certificate import TrustedServer, trusted_server
from chorus_conformance.observed import Fate
from chorus_conformance.receiver import ExpectedSender, Fault, MessageReceiver
from chorus_operator.messages.authentication import PodIdentity, bearer_token
from chorus_operator.messages.http import make_app
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.pod_senders import DescribePod, TrainingPod, check_describe, check_training
from chorus_operator.messages.refusal_log import RefusalLog
from chorus_operator.messages.runs import Outcome
from chorus_protocol.kubeflow import read_progress
from chorus_protocol.messages import MessageType
from chorus_protocol.parse import parse
from chorus_protocol.refusals import Cause, Refused
from chorus_protocol.sender_limits import Cost, SenderLimits
from message_builders import PLUGIN_ID, PROJECT_ID, message

RUN, PLUGIN, TOKEN = "8f5c8f0a-58d0-4a77-9c3b-0b6c3a6a2f11", "11111111-58d0-4a77-9c3b-0b6c3a6a2f11", "a-token"
TRAINING = TrainingPod("lab", "pod", "pod-uid", "run", RUN, 1, PROJECT_ID, PLUGIN_ID)
DESCRIBING = DescribePod("lab", "pod", "pod-uid", "plugin", PLUGIN, 1)
EVENTS = "application/cloudevents+json"
REPORT = {"id": "x", "name": "x", "type": "x", "description": "x"}


class OperatorInbox:
    """The operator's own checks, without an API server behind them."""

    def __init__(self, pod: TrainingPod | DescribePod) -> None:
        self._pod = pod

    async def identify(self, authorization: str | None, *, peer: str = "") -> PodIdentity:
        if bearer_token(authorization) != TOKEN:
            raise Refused(Cause.BAD_TOKEN, "another token")
        return PodIdentity("lab", "pod", "pod-uid", "chorus-run")

    def admit(self, identity: PodIdentity) -> AbstractContextManager[None]:
        return nullcontext()

    async def take(self, identity: PodIdentity, body: bytes) -> Outcome:
        if isinstance(self._pod, DescribePod):
            check_describe(self._pod, parse(body))
        else:
            check_training(self._pod, parse(body))
        return Outcome.TAKEN

    async def take_progress(self, identity: PodIdentity, body: bytes) -> Outcome:
        if not isinstance(self._pod, TrainingPod):
            raise Refused(Cause.WRONG_POD, "no training pod")
        read_progress(body, project_id=PROJECT_ID, plugin_id=PLUGIN_ID)
        return Outcome.TAKEN


@dataclass(frozen=True)
class Post:
    """A request."""

    name: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    path: str = MESSAGES_PATH
    describing: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "_")

    @property
    def sent_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}", "Content-Type": EVENTS} | self.headers


def start(**changes: Any) -> bytes:
    return message("TRAINING_START", **{"subject": RUN, **changes})


POSTS = (
    Post("a good message", start()),
    Post("no token", start(), {"Authorization": ""}),
    Post("another scheme", start(), {"Authorization": f"Basic {TOKEN}"}),
    Post("another token", start(), {"Authorization": "Bearer another"}),
    Post("plain text", start(), {"Content-Type": "text/plain"}),
    Post("compressed", start(), {"Content-Encoding": "gzip"}),
    Post("too large", b"x" * (MAX_BODY_BYTES + 1)),
    Post("no JSON", b"TRAINING_START"),
    Post("a list", b"[]"),
    Post("no id", start(attributes={"id": None})),
    Post("another version", start(attributes={"specversion": "2.0"})),
    Post("no sequence", start(attributes={"sequence": None})),
    Post("an unknown type", message("TRAINING_STOP", subject=RUN)),
    Post("another run", start(subject=PLUGIN)),
    Post("another attempt", start(attempt=2)),
    Post("ids of others", start(ids={"project_id": 1, "plugin_id": 2})),
    Post("no ids", start(ids={})),
    Post("too much percent", message("progress", subject=RUN, percent=101)),
    Post("a number that is none", message("progress", subject=RUN, percent=1, loss=float("nan"))),
    Post("a message of a prepare Job", message("FRAME_FAILED", subject=RUN, prepare_key="k", reason="r", detail="d")),
    Post("a report by a training", message("ONLINE_REPORT", subject=RUN, **REPORT)),
    Post("a good report", message("ONLINE_REPORT", subject=PLUGIN, attempt=0, **REPORT), describing=True),
    Post("a report of another", message("ONLINE_REPORT", subject=RUN, attempt=0, **REPORT), describing=True),
    Post("training while describing", start(subject=PLUGIN, attempt=0), describing=True),
    Post("Kubeflow's form", b'{"trainerStatus": {"progressPercentage": 5}}', path=PROGRESS_PATH),
    Post("Kubeflow's form with too much", b'{"trainerStatus": {"progressPercentage": 500}}', path=PROGRESS_PATH),
    Post("Kubeflow's form while describing", b'{"trainerStatus": {}}', path=PROGRESS_PATH, describing=True),
)


@pytest.fixture(scope="module")
def trusted() -> TrustedServer:
    return trusted_server(("127.0.0.1",), now=datetime.now(UTC))


@pytest.fixture
async def client(trusted: TrustedServer) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cadata=trusted.ca.decode())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session


def a_postbox(*, describing: bool = False) -> MessageReceiver:
    expected_sender = ExpectedSender(PLUGIN, 0, None) if describing else ExpectedSender(RUN, 1, (PROJECT_ID, PLUGIN_ID))
    return MessageReceiver(expected_sender, token=TOKEN)


async def answer_of(response: aiohttp.ClientResponse) -> tuple[int, str | None]:
    body = await response.read()
    return response.status, (await response.json())["cause"] if body else None


@pytest.mark.parametrize("post", POSTS, ids=str)
async def test_the_answer_is_the_operators(post: Post, trusted: TrustedServer, client: aiohttp.ClientSession) -> None:
    inbox = cast(Inbox, OperatorInbox(DESCRIBING if post.describing else TRAINING))
    app = make_app(inbox, refusals=RefusalLog(clock=monotonic))
    async with TestClient(TestServer(app)) as operator:
        theirs = await answer_of(await operator.post(post.path, data=post.body, headers=post.sent_headers))
    receiver = a_postbox(describing=post.describing)
    await receiver.open(trusted)
    try:
        address = f"https://127.0.0.1:{receiver.port}{post.path}"
        ours = await answer_of(await client.post(address, data=post.body, headers=post.sent_headers))
    finally:
        await receiver.close()
    assert ours == theirs
    assert [entry.refused.cause if entry.refused else None for entry in receiver.received] == [theirs[1]]


async def test_a_message_that_comes_again_is_known() -> None:
    receiver = a_postbox()
    assert [await receiver.take(start()) for _ in range(2)] == [Fate.TAKEN, Fate.KNOWN]
    assert await receiver.take(start(attributes={"instance": "another"})) is Fate.TAKEN


async def test_who_sends_as_much_as_the_operator_refuses_is_told_to_wait(
    trusted: TrustedServer, client: aiohttp.ClientSession
) -> None:
    receiver = a_postbox()
    receiver.limits = SenderLimits(seconds=lambda: 0.0)
    await receiver.open(trusted)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": EVENTS}
    burst = Cost.REPORT.value[0].burst
    try:
        answers = []
        for number in range(1, burst + 2):
            body = start(sequence=number)
            async with client.post(receiver.url, data=body, headers=headers) as response:
                answers.append((response.status, response.headers.get("Retry-After")))
    finally:
        await receiver.close()
    assert answers == [(202, None)] * burst + [(429, "1")]
    assert await receiver.take(start(sequence=burst + 2)) is Fate.TAKEN, "the sidecar that sends a file waits"


async def test_a_lost_answer_spares_progress_and_counts_the_message() -> None:
    receiver = a_postbox()
    receiver.faults = deque([Fault.NO_ANSWER])
    progress = message("progress", subject=RUN, sequence=1, percent=1)
    fates = [await receiver.take(body) for body in (progress, start(sequence=2), start(sequence=2))]
    assert fates == [Fate.TAKEN, Fate.UNANSWERED, Fate.KNOWN]
    assert [entry.kind for entry in receiver.received if entry.accepted] == [
        MessageType.PROGRESS,
        MessageType.TRAINING_START,
    ]


async def test_after_the_token_was_replaced_the_old_one_is_refused(
    trusted: TrustedServer, client: aiohttp.ClientSession
) -> None:
    receiver = a_postbox()
    fresh = receiver.replace_token()
    await receiver.open(trusted)
    try:
        answers = [
            await answer_of(
                await client.post(
                    receiver.url, data=start(), headers={"Authorization": f"Bearer {token}", "Content-Type": EVENTS}
                )
            )
            for token in (TOKEN, fresh)
        ]
    finally:
        await receiver.close()
    assert answers == [(401, "badToken"), (202, None)]
