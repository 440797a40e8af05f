"""Send messages to services beside the reconciles, which do not wait for a slow service.

Which is next is decided by `rules.dispatch`. No message is sent twice at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from chorus_kube.errors import KubeError
from chorus_operator.decisions.delivery import Deliveries, Delivery
from chorus_operator.decisions.dispatch import DispatchQueue, Limits, Outgoing
from chorus_operator.services.client import OutboundMessage

log = structlog.get_logger()

WRITE_SECONDS = 10.0
"""How long the certificates may take that a message is written with."""


class CannotWrite(Exception):
    """A message cannot be written; the text says what the user can do."""


Write = Callable[[], Awaitable[OutboundMessage]]
"""Writes a message when its turn has come, so that what waits takes no room and no token grows old. Raises CannotWrite
or KubeError."""


class Poster(Protocol):
    """Sends one message, once."""

    async def post(self, outbound: OutboundMessage) -> str | None:
        """Give None when it was taken, else why it was not."""


class WebhookDispatcher:
    """Sends messages in their turn, and remembers what became of each. Belongs to one event loop."""

    def __init__(self, client: Poster, *, clock: Callable[[], datetime], limits: Limits | None = None):
        self._client = client
        self._clock = clock
        self._deliveries = Deliveries()
        self._limits = limits or Limits()
        self._queue = DispatchQueue(self._limits)
        self._waiting: dict[Outgoing, tuple[Write, Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, about: str, *, namespace: str) -> Delivery:
        """Tell how it stands with the message about something."""
        return self._deliveries.known(namespace, about)

    def send(self, message: Outgoing, write: Write, *, then: Callable[[], None]) -> None:
        """Try once when its turn comes, unless a try is under way; `then` is called when it has ended.

        When too many messages of the namespace wait, that is told as the error, and it may be tried again later.
        """
        before = self.known(message.about, namespace=message.namespace)
        if before.under_way:
            return
        if not self._queue.add(message):
            error = f"{self._limits.waiting} messages of type {message.kind} of this namespace wait already"
            self._record(message, Delivery(failures=before.failures, error=error, time=self._clock()))
            return
        self._waiting[message] = (write, then)
        self._record(message, replace(before, under_way=True, queued=True))
        self._start()

    async def close(self) -> None:
        """Give up what waits and what is being sent."""
        self._waiting.clear()
        self._queue = DispatchQueue(self._limits)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        """Start all that may be sent now."""
        while (message := self._queue.next()) is not None:
            write, then = self._waiting.pop(message)
            before = self.known(message.about, namespace=message.namespace)
            self._record(message, replace(before, queued=False))
            task = asyncio.get_running_loop().create_task(self._carry(message, write, then))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, message: Outgoing, write: Write, then: Callable[[], None]) -> None:
        queue = self._queue
        try:
            error = await self._try(message, write)
        finally:
            queue.finish(message)
        failures = 0 if error is None else self.known(message.about, namespace=message.namespace).failures + 1
        delivery = Delivery(failures=failures, delivered=error is None, error=error or "", time=self._clock())
        self._record(message, delivery)
        if error is not None and (failures in (1, 2, 4) or failures % 10 == 0):
            log.warning("a message to a service was not taken", about=message.about, tries=failures, error=error)
        self._start()
        then()

    async def _try(self, message: Outgoing, write: Write) -> str | None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                outbound = await write()
            return await self._client.post(outbound)
        except CannotWrite as error:
            return str(error)
        except KubeError as error:
            return f"the message could not be written: {error}"[:500]
        except TimeoutError:
            return f"the message could not be written: the API server did not answer within {WRITE_SECONDS:g} s"
        except Exception as unexpected:
            log.exception("a message to a service could not be sent", about=message.about)
            return f"internal error: {type(unexpected).__name__}"

    def _record(self, message: Outgoing, delivery: Delivery) -> None:
        self._deliveries.record(message.namespace, message.about, delivery)
