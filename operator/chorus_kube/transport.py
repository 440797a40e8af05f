"""One request to the API server: its deadline, its repetitions, its errors."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.rest import RESTResponse

from chorus_kube.errors import Unavailable, from_response
from chorus_kube.resources import Page, Resource

Manifest = dict[str, Any]

CONNECT_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024
READ_SECONDS = 30.0
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0

JSON = "application/json"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
"""What `kubectl get` shows: a list without the objects themselves."""
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml; charset=utf-8"
"""The parameter keeps the client library from encoding the body itself; the API server drops it."""


_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server, for another client library."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    insecure: bool
    token: str | None = field(repr=False)


_ESCAPES = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|.)")


def yaml_body(manifest: Manifest) -> str:
    """Write a body that is JSON and YAML at once: YAML knows no surrogate pairs, such as JSON makes of an emoji.

    All else stays escaped, for there are characters that YAML takes only so.
    """

    def join(escape: re.Match[str]) -> str:
        high, low = escape.groups()
        if high is None:
            return escape[0]
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)

    return _ESCAPES.sub(join, json.dumps(manifest))


async def _read(response: RESTResponse, last_bytes: int | None) -> bytes:
    """Read a body, or its end."""
    if last_bytes is None:
        body: bytes = await response.read()
        return body
    kept = b""
    async for chunk in response.response.content.iter_chunked(CHUNK_BYTES):
        kept = (kept + chunk)[-last_bytes:]
    return kept


class Transport:
    """Sends requests over one `ApiClient`; idempotent ones again on 429, 5xx and lost connections."""

    def __init__(self, api_client: ApiClient, *, deadline: float, jitter: random.Random):
        """`deadline`: seconds that one request may take, repetitions included."""
        self._api = api_client
        self._api.user_agent = "chorus-operator"
        self._deadline = deadline
        self._jitter = jitter
        self.sent: Counter[tuple[str, str, int]] = Counter()
        """Requests sent, by verb, plural and HTTP status (0: no answer)."""

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def credentials(self) -> Credentials:
        """Give what the client authenticates with, the token as it is now."""
        configuration = self._api.configuration
        bearer = (await configuration.auth_settings()).get("BearerToken")
        return Credentials(
            server=configuration.host,
            ca_file=configuration.ssl_ca_cert,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            insecure=not configuration.verify_ssl,
            token=str(bearer["value"]).partition(" ")[2] if bearer else None,
        )

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
        answer: Manifest = json.loads(
            await self.request(
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
        )
        return answer

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
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline
        backoff = FIRST_BACKOFF
        while True:
            try:
                return await self._once(
                    method,
                    resource,
                    path,
                    query,
                    body,
                    content_type,
                    accept=accept,
                    verb=verb,
                    seconds=end - loop.time(),
                    last_bytes=last_bytes,
                )
            except Unavailable as error:
                # 429 means that nothing was done; every other failure may hide a success.
                if not (idempotent or error.status == 429) or error.status == 404:
                    raise
                wait = error.retry_after if error.retry_after is not None else backoff * self._jitter.uniform(0.5, 1.5)
                if loop.time() + wait >= end:
                    raise
            await asyncio.sleep(wait)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _once(
        self,
        method: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str,
        *,
        accept: str,
        verb: str,
        seconds: float,
        last_bytes: int | None,
    ) -> bytes:
        what = f"{method} {path}"
        timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        accept = "*/*" if isinstance(resource, Page) or path.endswith("/log") else accept
        status = 0
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=yaml_body(body) if body is not None and content_type == APPLY_PATCH else body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=timeout)
            status = response.status
            answer = await _read(response, last_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"{what}: the API server did not answer: {type(error).__name__} {error}".rstrip()
            raise Unavailable(text, reason="NoAnswer") from error
        finally:
            self.sent[verb, resource.plural, status] += 1
        if 200 <= status < 300:
            return answer
        raise from_response(what, status=status, body=answer, retry_after=response.headers.get("Retry-After"))
