"""Ways of leading a running plugin: to its end, to a stop in the middle, through a time without a receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from chorus_conformance.certificate import TrustedServer
from chorus_conformance.execution import Driver
from chorus_conformance.launch import Running
from chorus_conformance.observed import ReceivedMessage
from chorus_conformance.pod_files import PodFiles
from chorus_conformance.receiver import Fault, MessageReceiver
from chorus_protocol.messages import MessageType


def to_the_end(seconds: float) -> Driver:
    """Wait for the end, for at most so many seconds."""

    async def direct(running: Running, receiver: MessageReceiver, pod_files: PodFiles) -> int | None:
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

    async def direct(self, running: Running, receiver: MessageReceiver, pod_files: PodFiles) -> int | None:
        """Lead the plugin to the stop, and wait for its end for at most the grace."""
        moment = asyncio.Event()

        async def on_message(entry: ReceivedMessage) -> None:
            if entry.kind is self.at and not moment.is_set():
                self.signalled = await running.terminate()
                moment.set()

        receiver.on_message = on_message
        async with _ending(running, self.seconds) as end:
            await _first(end, moment.wait())
            if not moment.is_set():
                return await end
            return await running.wait(self.grace_seconds)


def through_an_outage(server: TrustedServer, *, seconds: float, away_seconds: float) -> Driver:
    """Answer the first message with 503, be away, then come back with a new token, and lose the first answer."""

    async def direct(running: Running, receiver: MessageReceiver, pod_files: PodFiles) -> int | None:
        receiver.faults.append(Fault.UNAVAILABLE)
        async with _ending(running, seconds) as end:
            await _first(end, receiver.heard.wait())
            if not end.done():
                await receiver.close()
                await _first(end, asyncio.sleep(away_seconds))
            if not end.done():
                pod_files.write_token(receiver.replace_token())
                receiver.faults.append(Fault.NO_ANSWER)
                await receiver.open(server)
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
