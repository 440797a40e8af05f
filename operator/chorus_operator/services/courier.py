"""Carry letters to services beside the reconciles, which do not wait for a slow service.

A letter is never sent twice at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from chorus_operator.rules.delivery import Delivery
from chorus_operator.services.client import Letter

log = structlog.get_logger()

REMEMBERED = 4096
AT_ONCE = 16


class Poster(Protocol):
    """Sends one letter, once."""

    async def post(self, letter: Letter) -> str | None:
        """Give None when it was taken, else why it was not."""


class Courier:
    """Remembers what became of each letter, by what it is about. Belongs to one event loop."""

    def __init__(self, client: Poster, *, clock: Callable[[], datetime]):
        self._client = client
        self._clock = clock
        self._known: OrderedDict[str, Delivery] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(AT_ONCE)

    def known(self, about: str) -> Delivery:
        """Tell how it stands with the letters about something."""
        return self._known.get(about, Delivery())

    def send(self, letter: Letter, *, then: Callable[[], None]) -> None:
        """Try once, unless a try is under way; `then` is called when it has ended."""
        before = self.known(letter.about)
        if before.under_way:
            return
        self._remember(letter.about, replace(before, under_way=True))
        task = asyncio.get_running_loop().create_task(self._carry(letter, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fail(self, about: str, error: str) -> None:
        """Take in that a letter could not even be written: a try like any other."""
        tries = self.known(about).tries + 1
        self._remember(about, Delivery(tries=tries, error=error, time=self._clock()))

    def forget(self, about: str) -> None:
        """Begin anew with letters about something."""
        self._known.pop(about, None)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, letter: Letter, then: Callable[[], None]) -> None:
        try:
            async with self._free:
                error = await self._client.post(letter)
        except Exception as unexpected:
            log.exception("a message to a service could not be sent", about=letter.about)
            error = f"internal error: {type(unexpected).__name__}"
        tries = self.known(letter.about).tries + 1
        delivery = Delivery(tries=tries, delivered=error is None, error=error or "", time=self._clock())
        self._remember(letter.about, delivery)
        if error is not None and (tries in (1, 2, 4) or tries % 10 == 0):
            log.warning("a message to a service was not taken", about=letter.about, tries=tries, error=error)
        then()

    def _remember(self, about: str, delivery: Delivery) -> None:
        self._known[about] = delivery
        self._known.move_to_end(about)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
