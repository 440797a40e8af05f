"""One request to the API server: its deadline, its repetitions, its errors. Bytes both ways, over one pool."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from yarl import URL

from chorus_kube.bodies import json_body, yaml_body
from chorus_kube.errors import Forbidden, KubeError, Unavailable, from_response
from chorus_kube.login import Credentials, Login
from chorus_kube.resources import Page, Resource
from chorus_kube.watch_events import Lines

Manifest = dict[str, Any]

POOL = 100
CONNECT_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024
BUFFER_BYTES = 2 * 1024 * 1024
READ_SECONDS = 30.0
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
SHORTEST_SECONDS = 0.001

JSON = "application/json"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
"""What `kubectl get` shows: a list without the objects themselves."""
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


async def _read(response: aiohttp.ClientResponse, last_bytes: int | None) -> bytes:
    """Read a body, or its end."""
    if last_bytes is None:
        return await response.read()
    kept = b""
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        kept = (kept + chunk)[-last_bytes:]
    return kept


async def _next(response: aiohttp.ClientResponse, end: float) -> bytes:
    """Read what comes next of a body, b"" at its end. Raises TimeoutError at the time `end` of the loop."""
    async with asyncio.timeout_at(end):
        return await response.content.readany()


class Transport:
    """Sends requests over one pool of connections; idempotent ones again on 429, 5xx and lost connections.

    A request that is turned away with 401 is sent once more when there is another token by now.
    """

    def __init__(self, login: Login, *, deadline: float, jitter: random.Random):
        """`deadline`: seconds that one request may take, repetitions included."""
        self._login = login
        self._route = login.route()
        self._deadline = deadline
        self._jitter = jitter
        self._opened: aiohttp.ClientSession | None = None
        self.sent: Counter[tuple[str, str, int]] = Counter()
        """Requests sent, by verb, plural and HTTP status (0: no answer)."""

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def credentials(self) -> Credentials:
        """Give what the client authenticates with, the token as it is now."""
        return await self._login.credentials()

    async def json(
        self,
        method: str,
        resource: Resource,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        idempotent: bool = True,
    ) -> Manifest:
        """Send a request and read its answer as a JSON object; as `request`."""
        answer = await self.request(
            method,
            resource,
            namespace,
            name,
            subresource,
            query=query,
            body=body,
            content_type=content_type,
            accept=accept,
            idempotent=idempotent,
        )
        try:
            read: Manifest = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            text = f"{method} {resource.path(namespace, name, subresource)}: the answer is no JSON: {answer[:200]!r}"
            raise Unavailable(text, reason="BadAnswer") from error
        return read

    async def request(
        self,
        method: str,
        resource: Resource,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        idempotent: bool = True,
        last_bytes: int | None = None,
    ) -> bytes:
        """Send a request and give the body of its answer; KubeError when that is not 2xx or does not come.

        `last_bytes`: give the end of the body alone, and never hold much more of it.
        """
        path = resource.path(namespace, name, subresource)
        verb = "list" if method == "GET" and resource.kind and name is None else _VERBS[method]
        headers = {"Accept": "*/*" if isinstance(resource, Page) or subresource == "log" else accept}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = yaml_body(body) if content_type == APPLY_PATCH else json_body(body)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline
        backoff = FIRST_BACKOFF
        renewed = False
        while True:
            authorization = await self._login.authorization()
            limits = aiohttp.ClientTimeout(
                total=max(end - loop.time(), SHORTEST_SECONDS), connect=CONNECT_SECONDS, sock_read=READ_SECONDS
            )
            try:
                async with self._answer(
                    method, path, query, data, headers, authorization, counted=(verb, resource.plural), limits=limits
                ) as response:
                    answer = await _read(response, last_bytes)
                    if not 200 <= response.status < 300:
                        raise _refusal(f"{method} {path}", response, answer)
                    return answer
            except Unavailable as error:
                # 429 means that nothing was done; every other failure may hide a success.
                if not (idempotent or error.status == 429) or error.status == 404:
                    raise
                wait = error.retry_after if error.retry_after is not None else backoff * self._jitter.uniform(0.5, 1.5)
                if loop.time() + wait >= end:
                    raise
            except Forbidden as error:
                if error.status != 401 or renewed or not await self._login.renew(authorization):
                    raise
                renewed = True
                continue
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def watch(
        self, resource: Resource, namespace: str | None, *, query: Mapping[str, str], silence: float
    ) -> AsyncGenerator[bytes, None]:
        """Send a watch and give the lines of its answer as they come; ends when the API server ends it.

        `silence`: seconds without a line after which it counts as broken. Raises KubeError; nothing is sent again, but
        for a token that has run out.
        """
        path = resource.path(namespace)
        counted = ("watch", resource.plural)
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=silence)
        headers = {"Accept": JSON}
        loop = asyncio.get_running_loop()
        renewed = False
        while True:
            authorization = await self._login.authorization()
            try:
                async with self._answer(
                    "GET", path, query, None, headers, authorization, counted=counted, limits=limits
                ) as response:
                    if response.status != 200:
                        raise _refusal(f"watch {path}", response, await _read(response, None))
                    lines, end = Lines(), loop.time() + silence
                    while chunk := await _next(response, end):
                        ended = False
                        for line in lines.take(chunk):
                            ended = True
                            yield line
                        if ended:
                            end = loop.time() + silence  # whoever reads the lines may have taken a while
                    if lines.has_part:
                        raise Unavailable(f"watch {path}: ended within a line", reason="NoAnswer")
                    return
            except Forbidden as error:
                if error.status != 401 or renewed or not await self._login.renew(authorization):
                    raise
                renewed = True

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str],
        authorization: str | None,
        *,
        counted: tuple[str, str],
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; what goes wrong with the connection until its answer is read is Unavailable."""
        url = self._route.server + path
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        if authorization is not None:
            headers = {**headers, "Authorization": authorization}
        try:
            status = 0
            try:
                response = await self._session().request(
                    method,
                    URL(url, encoded=True),
                    data=data,
                    headers=headers,
                    timeout=limits,
                    proxy=self._route.proxy,
                    proxy_headers=self._route.proxy_headers,
                    server_hostname=self._route.server_name,
                )
                status = response.status
            finally:
                self.sent[(*counted, status)] += 1
            try:
                yield response
            finally:
                _leave(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"{method} {path}: the API server did not answer: {type(error).__name__} {error}".rstrip()
            raise Unavailable(text, reason="NoAnswer") from error

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=POOL, ssl=self._route.tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "chorus"},
                skip_auto_headers=("Accept-Encoding",),  # to compress costs both sides more than the bytes
                read_bufsize=BUFFER_BYTES,
            )
        return self._opened


def _leave(response: aiohttp.ClientResponse) -> None:
    """Be done with an answer. One that was read to its end has given its connection back to the pool already.

    Another's connection ends at once: a farewell in TLS would wait for the other side.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _refusal(what: str, response: aiohttp.ClientResponse, answer: bytes) -> KubeError:
    return from_response(what, status=response.status, body=answer, retry_after=response.headers.get("Retry-After"))
