"""The receiver's HTTP side: limits on what is read, and the answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import aiohttp
import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from chorus_api.contract import MAX_BODY_BYTES, MESSAGES_PATH, PROGRESS_PATH
from chorus_operator.messages.authentication import Identity
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.refusal_log import RefusalLog
from chorus_operator.messages.runs import Outcome
from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

READ_SECONDS = 10.0
HANDLE_SECONDS = 30.0
RETRY_AFTER_SECONDS = 2
_CONTENT_TYPES = {"application/cloudevents+json", "application/json"}
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
            _check_head(request)
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


def _check_head(request: web.Request) -> None:
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise Refused(Cause.TOO_LARGE, f"a message is at most {MAX_BODY_BYTES} bytes, not {request.content_length}")
    if request.content_type not in _CONTENT_TYPES:
        raise Refused(Cause.WRONG_CONTENT_TYPE, f"send application/cloudevents+json, not {request.content_type[:100]}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(Cause.WRONG_CONTENT_TYPE, "send the body without Content-Encoding")


async def _read(request: web.Request) -> bytes:
    """Read the body, whatever its Content-Length says, up to the limit and not for ever."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(Cause.TOO_LARGE, f"a message is at most {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise Refused(Cause.TOO_SLOW, f"the body did not come within {READ_SECONDS:g} s") from None
    except _BROKEN_OFF as error:
        raise Refused(Cause.INCOMPLETE, f"the body broke off: {type(error).__name__}: {error}"[:300]) from None
    return bytes(body)


def _answer(refused: Refused, refusals: RefusalLog, sender: str) -> web.Response:
    refusals.add(refused, sender=sender)
    answer = {"cause": refused.cause.value, "error": refused.detail}
    fields = [{"field": problem.field, "problem": problem.problem} for problem in refused.fields]
    response = web.json_response({**answer, "fields": fields} if fields else answer, status=refused.status)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refused.status in (429, 503):
        response.headers["Retry-After"] = str(math.ceil(refused.retry_after or RETRY_AFTER_SECONDS))
    if refused.cause in {Cause.TOO_LARGE, Cause.TOO_SLOW, Cause.INCOMPLETE}:
        response.force_close()  # the rest of the body is not read
    return response
