"""Send a pod's messages to the control plane, in order and without ever holding up or failing the work.

A background thread delivers. Messages that must arrive wait in a queue and are tried again until they are acknowledged,
refused for good, or the deadline of `close` is over; of progress only the newest is kept.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cloudevents.core.v1.event import CloudEvent

from chorus_api.run_config import Messaging
from chorus_client.transport import Answer, HttpTransport, Transport
from chorus_protocol.messages import PAYLOADS, TYPE_PREFIX, MessageType, Payload, ProgressReport

LOG = logging.getLogger(__name__)
_TYPES = {payload: message for message, payload in PAYLOADS.items()}


class Pace(NamedTuple):
    """How fast a sender tries, in seconds."""

    first_backoff: float = 0.5
    longest_backoff: float = 30.0
    longest_backoff_closing: float = 1.0
    progress_every: float = 5.0
    """At most one progress message in so many seconds; the last one is sent when the sender closes. More seconds pass
    when the receiver asks for them."""


@dataclass(frozen=True)
class Undelivered:
    """A message that must arrive and did not."""

    type: str
    id: str
    sequence: int
    error: str
    refused: bool
    """True: the receiver refused it for good. False: it could not be delivered in time."""


@dataclass
class _Queued:
    type: str
    event: CloudEvent
    sequence: int
    tries: int = 0
    error: str = "not tried yet"


@dataclass
class _State:
    """What both threads touch; guarded by the sender's condition."""

    queue: deque[_Queued] = field(default_factory=deque)
    progress: tuple[Mapping[str, Any], int | None] | None = None  # with its number, if it has one of its own
    progress_due: float = float("-inf")
    sequence: int = 0
    closing: bool = False
    stopped: bool = False
    refused: list[Undelivered] = field(default_factory=list)


class Sender:
    """Sends the messages of one pod; `attempt` is the run's attempt (0 in a prepare Job).

    Sequence numbers start at 1 and rise with each message; they count within `instance`, a random name by default, so
    that a process that is started again is not taken for one that repeats itself. `send` and `progress` return at once
    and never raise for anything that the network or the receiver does.
    """

    def __init__(
        self,
        messaging: Messaging,
        *,
        attempt: int,
        instance: str | None = None,
        transport: Transport | None = None,
        pace: Pace = Pace(),  # noqa: B008 (immutable)
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._messaging = messaging
        self._attempt = attempt
        self._instance = instance or uuid.uuid4().hex
        self._transport = transport or HttpTransport(messaging)
        self._pace = pace
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._state = _State()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="chorus-sender", daemon=True)
        self._thread.start()

    def send(self, payload: Payload) -> None:
        """Queue a message that must arrive. After `close` it is logged and dropped."""
        self.forward(_TYPES[type(payload)], payload.model_dump(mode="json", exclude_none=True))

    def progress(self, payload: ProgressReport) -> None:
        """Offer a progress message; a newer one takes its place while it waits."""
        self.forward(MessageType.PROGRESS, payload.model_dump(mode="json", exclude_none=True))

    def forward(self, kind: str, data: Mapping[str, Any], *, sequence: int | None = None) -> None:
        """Queue a message as somebody else wrote it: what is wrong with it the receiver says.

        `sequence`: its number, above those before; by default the next one, of progress when it is sent.
        """
        with self._changed:
            if self._state.closing:
                LOG.error("the message %s came after the sender was closed and is dropped", kind)
                return
            if kind == MessageType.PROGRESS:
                self._state.progress = (data, sequence)
            else:
                self._state.queue.append(self._queued(kind, data, sequence))
            self._changed.notify_all()

    def flush(self, deadline_seconds: float) -> bool:
        """Wait until no message that must arrive is waiting; False if the deadline came first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._state.queue, timeout=deadline_seconds)

    def close(self, deadline_seconds: float) -> list[Undelivered]:
        """Deliver what waits, for at most `deadline_seconds`, and end; return the messages that did not arrive."""
        with self._changed:
            self._state.closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._state.stopped, timeout=deadline_seconds)
            self._state.stopped = True
            self._changed.notify_all()
            lost = [
                Undelivered(queued.type, queued.event.get_id(), queued.sequence, queued.error, refused=False)
                for queued in self._state.queue
            ]
            for message in lost:
                LOG.error("the message %s was not delivered: %s", message.type, message.error)
            return [*self._state.refused, *lost]

    def _queued(self, kind: str, data: Mapping[str, Any], sequence: int | None) -> _Queued:
        if sequence is None:
            sequence = self._state.sequence = self._state.sequence + 1
        event = CloudEvent(
            {
                "id": str(uuid.uuid4()),
                "source": self._messaging.source,
                "type": f"{TYPE_PREFIX}{kind}",
                "time": self._now(),
                "datacontenttype": "application/json",
                "subjectuid": self._messaging.subject_uid,
                "attempt": str(self._attempt),
                "sequence": str(sequence),
                "instance": self._instance,
            },
            dict(data),
        )
        return _Queued(type=kind, event=event, sequence=sequence)

    def _run(self) -> None:
        while True:
            with self._changed:
                queued = self._next()
            if queued is None:
                return
            answer = self._transport.post(queued.event)
            with self._changed:
                self._settle(queued, answer)
                if self._state.stopped:
                    return

    def _next(self) -> _Queued | None:
        """Wait for something to send; None when the sender is to end. Progress goes only when nothing else waits."""
        while True:
            state = self._state
            if state.stopped:
                return None
            if state.queue:
                return state.queue[0]
            due = state.progress_due - self._monotonic()
            if state.progress is not None and (due <= 0 or state.closing):
                (data, sequence), state.progress = state.progress, None
                return self._queued(MessageType.PROGRESS, data, sequence)
            if state.closing:
                state.stopped = True
                self._changed.notify_all()
                return None
            self._changed.wait(timeout=max(due, 0.01) if state.progress is not None else None)

    def _settle(self, queued: _Queued, answer: Answer) -> None:
        if queued.type == MessageType.PROGRESS:
            # A lost progress message is not sent again: the next one says more.
            pause = max(self._pace.progress_every, self._asked_for(answer))
            self._state.progress_due = self._monotonic() + pause
            if not answer.accepted:
                LOG.warning("a progress message was not accepted: %s", answer.error)
            return
        queued.tries += 1
        queued.error = answer.error
        if answer.retry:
            self._back_off(queued, answer)
            return
        self._state.queue.popleft()
        if not answer.accepted:
            LOG.error("the message %s was refused: %s", queued.type, answer.error)
            self._state.refused.append(
                Undelivered(queued.type, queued.event.get_id(), queued.sequence, answer.error, refused=True)
            )
        self._changed.notify_all()

    def pause_after(self, tries: int, answer: Answer) -> float:
        """Seconds to wait after so many tries: doubling, with jitter, and at least what the receiver asked for."""
        pause = min(self._pace.first_backoff * 2.0 ** min(tries - 1, 20), self._pace.longest_backoff)
        pause *= 0.5 + self._jitter() / 2
        return max(pause, self._asked_for(answer))

    def _asked_for(self, answer: Answer) -> float:
        """Seconds that the receiver asked to wait, within bounds."""
        return min(answer.retry_after or 0.0, self._pace.longest_backoff)

    def _back_off(self, queued: _Queued, answer: Answer) -> None:
        pause = self.pause_after(queued.tries, answer)
        level = logging.WARNING if queued.tries in (1, 2, 4) or queued.tries % 10 == 0 else logging.DEBUG
        LOG.log(level, "the message %s was not delivered (try %d): %s", queued.type, queued.tries, answer.error)
        if self._state.closing:
            closing = min(pause, self._pace.longest_backoff_closing)
            self._changed.wait_for(lambda: self._state.stopped, timeout=closing)
        else:
            self._changed.wait_for(lambda: self._state.closing, timeout=pause)
