"""The receiver's HTTP side: limits on what is read, and the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from chorus_api.contract import MESSAGES_PATH, PROGRESS_PATH
from chorus_operator.messages.authentication import Identity
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.refusal_log import RefusalLog
from chorus_operator.messages.runs import Outcome
from chorus_protocol.http import check_head, read_body, refusal_response
from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

HANDLE_SECONDS = 30.0
RETRY_AFTER_SECONDS = 2
_BROKEN_OFF = (ConnectionError, web.RequestPayloadError, aiohttp.ClientPayloadError, BadHttpMessage)
"""What aiohttp raises while a body is read from who hangs up, or whose chunks are none."""
_STATUS = {Outcome.TAKEN: 202, Outcome.KNOWN: 204}


def make_app(inbox: Inbox, *, refusals: RefusalLog) -> web.Application:
    """Build the application: POST /v1/messages, and progress in Kubeflow Trainer's wire form at /v1/progress."""

    async def messages(request: web.Request) -> web.Response:
        return await answer(request, inbox.take, _STATUS)

    async def progress(request: web.Request) -> web.Response:
        return await answer(request, inbox.take_progress, dict.fromkeys(Outcome, 200))

    async def answer(
        request: web.Request, take: Callable[[Identity, bytes], Awaitable[Outcome]], status: dict[Outcome, int]
    ) -> web.Response:
        sender = request.remote or "?"
        try:
            check_head(request)
            async with asyncio.timeout(HANDLE_SECONDS):
                identity = await inbox.identify(request.headers.get("Authorization"), peer=sender)
                sender = f"{identity.namespace}/{identity.name}"
                with inbox.admit(identity):
                    body = await _read(request)
                    return web.Response(status=status[await take(identity, body)])
        except Refused as refused:
            return _answer(refused, refusals, sender)
        except TimeoutError:
            return _answer(Refused(Cause.UNAVAILABLE, f"not done within {HANDLE_SECONDS:g} s"), refusals, sender)
        except Exception as error:
            log.exception("a message could not be handled", sender=sender)
            return _answer(Refused(Cause.UNAVAILABLE, f"internal error: {type(error).__name__}"), refusals, sender)

    app = web.Application()
    app.router.add_post(MESSAGES_PATH, messages)
    app.router.add_post(PROGRESS_PATH, progress)
    return app


async def _read(request: web.Request) -> bytes:
    try:
        return await read_body(request)
    except _BROKEN_OFF as error:
        raise Refused(Cause.INCOMPLETE, f"the body broke off: {type(error).__name__}: {error}"[:300]) from None


def _answer(refused: Refused, refusals: RefusalLog, sender: str) -> web.Response:
    refusals.add(refused, sender=sender)
    return refusal_response(refused, retry_after=RETRY_AFTER_SECONDS)
