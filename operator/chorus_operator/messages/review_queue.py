"""How many tokens the API server is asked about at once, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chorus_net.fair_queue import FairQueue
from chorus_protocol.refusals import Cause, Refused

AT_ONCE = 8
"""A TokenReview takes some 5 ms, so this is more than a thousand a second; the reconciler has the same API server."""
WAITING = 64


class ReviewQueue:
    """A few reviews at once, a few that wait, in turn between peers. Belongs to one event loop."""

    def __init__(self, *, at_once: int = AT_ONCE, waiting: int = WAITING):
        self._free = at_once
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(size=waiting)

    @asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it; Refused (unavailable) when too many others wait as well."""
        await self._acquire(peer)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, peer: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        displaced = self._waiting.put(turn, peer=peer)
        if displaced is not None:
            displaced.set_exception(Refused(Cause.UNAVAILABLE, "too many new tokens at once; send the message again"))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release()  # it was given the turn, and then did not want it any more
            self._waiting.discard(turn, peer=peer)
            raise

    def _release(self) -> None:
        if len(self._waiting):
            self._waiting.take().set_result(None)
        else:
            self._free += 1
