"""A receiver of messages on this machine that takes and refuses what the operator's receiver does, and notes it.

It can also be away, lose an answer, and have the token replaced, as happens in a cluster.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web

from chorus_api.contract import MAX_BODY_BYTES, MESSAGES_PATH, PROGRESS_PATH
from chorus_conformance.certificate import TrustedServer
from chorus_conformance.observed import Fate, ReceivedMessage
from chorus_protocol.http import check_head, read_body, refusal_response
from chorus_protocol.kubeflow import read_progress
from chorus_protocol.messages import Addressed, Envelope, MessageType, OnlineReport, Payload
from chorus_protocol.parse import Message, parse
from chorus_protocol.refusals import Cause, Refused
from chorus_protocol.sender_limits import Cost, SenderLimits

RETRY_AFTER_SECONDS = 1
CLOSE_SECONDS = 1.0


class Fault(Enum):
    """What goes wrong with the next message."""

    UNAVAILABLE = "unavailable"
    """It is answered with 503."""
    NO_ANSWER = "noAnswer"
    """It is taken, and the connection breaks before the answer. Progress is spared: nobody sends it again."""


@dataclass(frozen=True)
class ExpectedSender:
    """Whose messages are taken: one execution of the plugin. Without ids it may only describe itself."""

    subject_uid: str
    attempt: int
    ids: tuple[int, int] | None


def check_sender(expected_sender: ExpectedSender, message: Message) -> None:
    """Check that a message is about the run of the expected sender; Refused as by the operator's receiver."""
    envelope, payload = message.envelope, message.payload
    if isinstance(payload, OnlineReport) != (expected_sender.ids is None) or not isinstance(
        payload, OnlineReport | Addressed
    ):
        raise Refused(Cause.WRONG_POD, f"{envelope.type} is not a message of this role")
    if envelope.subject_uid != expected_sender.subject_uid:
        cause = Cause.WRONG_IDS if expected_sender.ids is None else Cause.WRONG_RUN
        raise Refused(cause, f"subjectuid {envelope.subject_uid} is not {expected_sender.subject_uid}")
    if envelope.attempt != expected_sender.attempt:
        raise Refused(Cause.WRONG_ATTEMPT, f"attempt {envelope.attempt} is not {expected_sender.attempt}")
    if isinstance(payload, Addressed) and (payload.project_id, payload.plugin_id) != expected_sender.ids:
        raise Refused(
            Cause.WRONG_IDS,
            f"project_id {payload.project_id} and plugin_id {payload.plugin_id} are not {expected_sender.ids}",
        )


@dataclass
class MessageReceiver:
    """Takes the messages of one execution. `on_message` is awaited before a message that counts is answered."""

    expected_sender: ExpectedSender
    host: str = "127.0.0.1"
    """Name or address by which the plugin reaches it."""
    listen: str = "127.0.0.1"
    on_message: Callable[[ReceivedMessage], Awaitable[None]] | None = None
    received: list[ReceivedMessage] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when anything came."""
    token: str = field(default_factory=lambda: f"chorus-check-{secrets.token_hex(16)}", repr=False)
    faults: deque[Fault] = field(default_factory=deque)
    limits: SenderLimits = field(default_factory=lambda: SenderLimits(seconds=time.monotonic))
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where messages are sent."""
        return f"https://{self.host}:{self.port}{MESSAGES_PATH}"

    @property
    def progress_url(self) -> str:
        """Where progress in Kubeflow Trainer's form is sent."""
        return f"https://{self.host}:{self.port}{PROGRESS_PATH}"

    async def open(self, server: TrustedServer) -> None:
        """Serve; at the same port as before when it was open before. Raises OSError."""
        app = web.Application()
        app.router.add_post(MESSAGES_PATH, self._on_message)
        app.router.add_post(PROGRESS_PATH, self._on_progress)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, self.listen, self.port, ssl_context=server.context).start()
        self.port = runner.addresses[0][1]

    async def close(self) -> None:
        """Stop serving: connections are refused."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def replace_token(self) -> str:
        """Take another token from now on, and only that."""
        self.token = f"chorus-check-{secrets.token_hex(16)}"
        return self.token

    async def take(self, body: bytes, *, limited: bool = False) -> Fate:
        """Take one message, whichever way it came, and note it. Refused as by the operator's receiver.

        `limited`: count it against the operator's limits. Who writes a file need not know them: the sidecar waits.
        """
        message: Message | None = None
        try:
            if len(body) > MAX_BODY_BYTES:
                raise Refused(Cause.TOO_LARGE, f"a message is at most {MAX_BODY_BYTES} bytes, not {len(body)}")
            message = parse(body)
            if limited:
                self._charge(stored=message.envelope.type is not MessageType.PROGRESS)
            check_sender(self.expected_sender, message)
            return await self._note(body, message.envelope.type, message.envelope, message.payload)
        except Refused as refused:
            self._refuse(refused, body, message)
            raise

    def _charge(self, *, stored: bool) -> None:
        for cost in (Cost.MESSAGE, Cost.REPORT if stored else Cost.PROGRESS):
            self.limits.charge(cost, sender=self.expected_sender, namespace="")

    async def _note(self, body: bytes, kind: MessageType, envelope: Envelope | None, payload: Payload) -> Fate:
        fault = self._fault(kind)
        if fault is Fault.UNAVAILABLE:
            raise Refused(Cause.UNAVAILABLE, "the receiver is away: send the message again")
        fate = Fate.KNOWN if self._knows(envelope) else Fate.TAKEN
        if fault is Fault.NO_ANSWER and fate is Fate.TAKEN:
            fate = Fate.UNANSWERED
        entry = ReceivedMessage(fate, kind, envelope, payload, body=body)
        self._keep(entry)
        if entry.accepted and self.on_message is not None:
            await self.on_message(entry)
        return fate

    def _fault(self, kind: MessageType) -> Fault | None:
        if not self.faults or (self.faults[0] is Fault.NO_ANSWER and kind is MessageType.PROGRESS):
            return None
        return self.faults.popleft()

    def _knows(self, envelope: Envelope | None) -> bool:
        return envelope is not None and any(
            each.accepted and each.envelope is not None and _is_same(each.envelope, envelope) for each in self.received
        )

    def _refuse(self, refused: Refused, body: bytes, message: Message | None = None) -> None:
        kind = message.envelope.type if message is not None else None
        envelope = message.envelope if message is not None else None
        payload = message.payload if message is not None else None
        self._keep(ReceivedMessage(Fate.REFUSED, kind, envelope, payload, refused=refused, body=body))

    def _keep(self, entry: ReceivedMessage) -> None:
        self.received.append(entry)
        self.heard.set()

    async def _on_message(self, request: web.Request) -> web.Response:
        try:
            body = await self._body(request)
        except Refused as refused:
            self._refuse(refused, b"")
            return refusal_response(refused, retry_after=RETRY_AFTER_SECONDS)
        try:
            return self._acknowledge(request, await self.take(body, limited=True))
        except Refused as refused:
            return refusal_response(refused, retry_after=RETRY_AFTER_SECONDS)

    async def _on_progress(self, request: web.Request) -> web.Response:
        body = b""
        try:
            body = await self._body(request)
            self._charge(stored=False)
            if self.expected_sender.ids is None:
                raise Refused(Cause.WRONG_POD, "progress is not a message of this role")
            payload = read_progress(body, project_id=self.expected_sender.ids[0], plugin_id=self.expected_sender.ids[1])
            await self._note(body, MessageType.PROGRESS, None, payload)
        except Refused as refused:
            self._refuse(refused, body)
            return refusal_response(refused, retry_after=RETRY_AFTER_SECONDS)
        return web.Response(status=200)

    def _acknowledge(self, request: web.Request, fate: Fate) -> web.Response:
        if fate is Fate.UNANSWERED and request.transport is not None:
            request.transport.abort()
        return web.Response(status=204 if fate is Fate.KNOWN else 202)

    async def _body(self, request: web.Request) -> bytes:
        """Check the head and read the body, in the order of the operator's receiver."""
        check_head(request)
        self.check_token(request.headers.get("Authorization"))
        return await read_body(request)

    def check_token(self, authorization: str | None) -> None:
        """Refused unless it bears the present token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(Cause.NO_TOKEN, "send the header Authorization: Bearer with the pod's token")
        if not secrets.compare_digest(token.strip().encode(), self.token.encode()):
            raise Refused(Cause.BAD_TOKEN, "this is not the token that $CHORUS_TOKEN_FILE holds now")


def _is_same(one: Envelope, other: Envelope) -> bool:
    return (one.id, one.instance, one.sequence) == (other.id, other.instance, other.sequence)
