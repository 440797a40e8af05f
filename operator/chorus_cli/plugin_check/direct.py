"""Ways of leading a running plugin: to its end, to a stop in the middle, through a time without a receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from chorus_cli.plugin_check.certificate import TrustedServer
from chorus_cli.plugin_check.launch import Running
from chorus_cli.plugin_check.observed import Letter
from chorus_cli.plugin_check.place import Place
from chorus_cli.plugin_check.play import Director
from chorus_cli.plugin_check.postbox import Fault, Postbox
from chorus_protocol.messages import MessageType


def to_the_end(seconds: float) -> Director:
    """Wait for the end, for at most so many seconds."""

    async def direct(running: Running, postbox: Postbox, place: Place) -> int | None:
        return await running.wait(seconds)

    return direct


@dataclass
class Stop:
    """Sends SIGTERM when the training has come to its middle: with its first message of the kind `at`.

    That message is answered after the signal, so that also a plugin that is quick is stopped in its work.
    """

    at: MessageType
    seconds: float
    grace_seconds: float
    signalled: bool = False
    """Whether it was still running then."""

    async def direct(self, running: Running, postbox: Postbox, place: Place) -> int | None:
        """Lead the plugin to the stop, and wait for its end for at most the grace."""
        moment = asyncio.Event()

        async def on_letter(letter: Letter) -> None:
            if letter.kind is self.at and not moment.is_set():
                self.signalled = await running.terminate()
                moment.set()

        postbox.on_letter = on_letter
        async with _ending(running, self.seconds) as end:
            await _first(end, moment.wait())
            if not moment.is_set():
                return await end
            return await running.wait(self.grace_seconds)


def through_an_outage(server: TrustedServer, *, seconds: float, away_seconds: float) -> Director:
    """Answer the first message with 503, be away, then come back with a new token, and lose the first answer."""

    async def direct(running: Running, postbox: Postbox, place: Place) -> int | None:
        postbox.faults.append(Fault.UNAVAILABLE)
        async with _ending(running, seconds) as end:
            await _first(end, postbox.heard.wait())
            if not end.done():
                await postbox.close()
                await _first(end, asyncio.sleep(away_seconds))
            if not end.done():
                place.write_token(postbox.replace_token())
                postbox.faults.append(Fault.NO_ANSWER)
                await postbox.open(server)
            return await end

    return direct


@asynccontextmanager
async def _ending(running: Running, seconds: float) -> AsyncIterator[asyncio.Task[int | None]]:
    """Wait for the plugin's end beside what else happens."""
    end = asyncio.create_task(running.wait(seconds))
    try:
        yield end
    finally:
        end.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await end


async def _first(end: asyncio.Task[int | None], other: Coroutine[Any, Any, object]) -> None:
    """Wait for whichever comes first."""
    waiting = asyncio.ensure_future(other)
    try:
        await asyncio.wait({end, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
