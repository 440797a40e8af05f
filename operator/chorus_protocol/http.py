"""How a message comes over HTTP, and how a refusal is answered: the same for every receiver. Needs aiohttp."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from chorus_api.contract import MAX_BODY_BYTES
from chorus_protocol.refusals import Cause, Refused

READ_SECONDS = 10.0
_CONTENT_TYPES = frozenset({"application/cloudevents+json", "application/json"})
_UNREAD = frozenset({Cause.TOO_LARGE, Cause.TOO_SLOW, Cause.INCOMPLETE})


def check_head(request: web.Request) -> None:
    """Refuse by its headers what need not be read. Raises Refused (tooLarge, wrongContentType)."""
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise Refused(Cause.TOO_LARGE, f"a message is at most {MAX_BODY_BYTES} bytes, not {request.content_length}")
    if request.content_type not in _CONTENT_TYPES:
        raise Refused(Cause.WRONG_CONTENT_TYPE, f"send application/cloudevents+json, not {request.content_type[:100]}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(Cause.WRONG_CONTENT_TYPE, "send the body without Content-Encoding")


async def read_body(request: web.Request) -> bytes:
    """Read the body, whatever its Content-Length says, up to the limit and for 10 seconds at most.

    Raises Refused (tooLarge, tooSlow), and what aiohttp raises for a body that breaks off.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(Cause.TOO_LARGE, f"a message is at most {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise Refused(Cause.TOO_SLOW, f"the body did not come within {READ_SECONDS:g} s") from None
    return bytes(body)


def refusal_response(refused: Refused, *, retry_after: float) -> web.Response:
    """Answer a refusal. `retry_after`: seconds to wait before another try, where the refusal does not say."""
    fields = [{"field": problem.field, "problem": problem.problem} for problem in refused.fields]
    answer = {"cause": refused.cause.value, "error": refused.detail} | ({"fields": fields} if fields else {})
    response = web.json_response(answer, status=refused.status)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refused.status in (429, 503):
        response.headers["Retry-After"] = str(math.ceil(refused.retry_after or retry_after))
    if refused.cause in _UNREAD:
        response.force_close()  # the rest of the body is not read
    return response
