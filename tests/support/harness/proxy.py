"""A proxy before the API server that sees every request, and can refuse it, cut it off, or hold it.

A `hook` is asked twice about each request: `before` it goes on to the API server, and `after` the API server has done
it but the client does not know yet. It may record, wait (the request waits too), and return a fault:

    async def hook(request: ApiRequest, stage: Moment) -> Fault | None:
        if stage == "after" and request.verb == "create" and request.resource == "jobs":
            return Cut()

    async with FaultProxy(control_plane, hook=hook) as proxy:
        kubeconfig = await control_plane.kubeconfig_for("chorus-operator", namespace="chorus-system", server=proxy.url)
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web

from harness.apiserver import HOST, ControlPlane
from harness.client import hang_up, load_pair

Moment = Literal["before", "after"]

# Belong to one connection, or are written anew by the next one.
_OWN_HEADERS = {"host", "connection", "transfer-encoding", "content-length", "keep-alive", "upgrade"}
_REASONS = {
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class ApiRequest:
    """A request as the API server's authoriser sees it. `number` counts from 1, in order of arrival."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    user_agent: str
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part) or self.path
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return " ".join(part for part in (f"{self.number}:", self.verb, what, where) if part)


@dataclass(frozen=True)
class Refuse:
    """Answer with this HTTP status, and a Kubernetes Status as body; `retry_after` in seconds."""

    status: int
    message: str = "refused by the test's proxy"
    retry_after: int | None = None


@dataclass(frozen=True)
class Cut:
    """Close the connection without an answer."""


Fault = Refuse | Cut
Hook = Callable[[ApiRequest, Moment], Awaitable[Fault | None]]


async def _let_pass(request: ApiRequest, stage: Moment) -> Fault | None:
    return None


class FaultProxy:
    """Passes requests on to a control plane, watches too. `requests` holds all of them, in order.

    `statuses` holds what the API server answered, by the number of the request; what never got to it has none.

    It speaks TLS with a certificate of the control plane's authority, so a kubeconfig needs another `server` and
    nothing else. It does not pass client certificates on: clients use tokens. A client may repeat a cut GET, PUT or
    DELETE of its own accord, as aiohttp does on a connection that it used before.
    """

    def __init__(self, control_plane: ControlPlane, *, hook: Hook = _let_pass) -> None:
        self.hook = hook
        self.requests: list[ApiRequest] = []
        self.statuses: dict[int, int] = {}
        self.url = ""
        self._control_plane = control_plane
        self._open_watches: list[web.Request] = []

    async def __aenter__(self) -> Self:
        authority = self._control_plane.authority
        pair = authority.server("fault-proxy", hosts=(HOST, "localhost"))
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_pair(serving, certificate=pair.certificate, key=pair.key)
        trusting = ssl.create_default_context(cadata=authority.pair.certificate.decode())
        self._session = aiohttp.ClientSession(
            self._control_plane.url,
            connector=aiohttp.TCPConnector(ssl=trusting, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0, ssl_context=serving)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"https://{HOST}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_watches()
        await self._runner.cleanup()
        await self._session.close()

    def cut_watches(self) -> int:
        """Close every open watch as a broken network would; return how many there were."""
        cut = list(self._open_watches)
        for request in cut:
            _abort(request)
        return len(cut)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if "Upgrade" in request.headers:
            return _status(Refuse(501, "the proxy passes no upgraded connections on"))
        seen = describe(
            len(self.requests) + 1,
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=await request.read(),
            user_agent=request.headers.get("User-Agent", ""),
        )
        self.requests.append(seen)
        if fault := await self.hook(seen, "before"):
            return _strike(request, fault)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _OWN_HEADERS}
        async with self._session.request(
            request.method, request.raw_path, headers=headers, data=seen.body or None, allow_redirects=False
        ) as answer:
            self.statuses[seen.number] = answer.status
            body = None if seen.verb == "watch" else await answer.read()
            if fault := await self.hook(seen, "after"):
                return _strike(request, fault)
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _OWN_HEADERS}
            if body is not None:
                return web.Response(status=answer.status, headers=kept, body=body)
            return await self._stream(request, answer, kept)

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._open_watches.append(request)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError):
            _abort(request)  # one side is gone: the other must not take it for the end of the stream
        finally:
            self._open_watches.remove(request)
            hang_up(answer)
        return response


def describe(
    number: int, *, method: str, path: str, query: Mapping[str, str], body: bytes, user_agent: str
) -> ApiRequest:
    """Tell verb, resource and namespace from a request's method and path, by the API server's own rules."""
    parts = [part for part in path.split("/") if part]
    basic = ApiRequest(number, method, path, query, body, user_agent, verb=method.lower())
    if parts[:1] == ["api"] and len(parts) > 2:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return basic
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3] if len(rest) < 3 else (rest[0], rest[1], "/".join(rest[2:]))
    if resource == "namespaces":
        namespace = name  # so a Role in a namespace can give the right to read that namespace
    if method == "GET":
        verb = "watch" if query.get("watch") in {"1", "true", "True"} else "get" if name else "list"
    else:
        verb = _VERBS.get(method, method.lower())
        if verb == "delete" and not name:
            verb = "deletecollection"
    return ApiRequest(
        number, method, path, query, body, user_agent, verb, group, resource, subresource, namespace, name
    )


def _strike(request: web.Request, fault: Fault) -> web.Response:
    if isinstance(fault, Refuse):
        return _status(fault)
    _abort(request)
    return web.Response()  # goes nowhere


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _status(fault: Refuse) -> web.Response:
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": _REASONS.get(fault.status, ""),
        "message": fault.message,
        "code": fault.status,
    }
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.json_response(body, status=fault.status, headers=headers)
