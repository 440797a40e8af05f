"""A small asynchronous client for tests: dicts both ways, kinds by name, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import yaml

Manifest = dict[str, Any]
Manifests = list[Manifest]
T = TypeVar("T")

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
REQUEST_SECONDS = 30.0
POLL_SECONDS = 0.02
READ_TRIES = 10


class ApiError(Exception):
    """The API server refused a request. `str()` is what kubectl would show."""

    def __init__(self, status: int, answer: Manifest) -> None:
        super().__init__(answer.get("message", f"HTTP {status}"))
        self.status = status
        self.reason = answer.get("reason", "")
        self.answer = answer


class _Ended(ApiError):
    """A watch is at its end, or what it was to begin after is forgotten: list again."""


@dataclass(frozen=True)
class Resource:
    """Where the objects of a kind are."""

    root: str
    plural: str
    namespaced: bool

    def path(self, *, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Build a URL path; without a namespace, that of all namespaces."""
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{self.root}{place}/{self.plural}", name, subresource) if part)


async def eventually(check: Callable[[], Awaitable[T]], *, what: str, seconds: float = 30.0) -> T:
    """Wait until `check` answers something true, and return it. TimeoutError names `what` and the last answer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (answer := await check()):
        if loop.time() > end:
            raise TimeoutError(f"not so after {seconds} s: {what}; last seen: {answer!r}")
        await asyncio.sleep(POLL_SECONDS)
    return answer


def hang_up(answer: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer that is not read to its end, at once.

    Otherwise TLS says goodbye first, and the event loop of a test may end before the other side has answered.
    """
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


class Api:
    """A client of one identity, as its kubeconfig says. Every method may raise `ApiError`."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._resources: dict[str, Resource] = {}

    async def __aenter__(self) -> Self:
        cluster, user = _current(self._kubeconfig)
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self._session = aiohttp.ClientSession(
            cluster["server"],
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=_tls(cluster, user)),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    # Objects

    async def create(self, manifest: Manifest, *, strict: bool = True) -> Manifest:
        """Create an object; unknown fields are an error, as with kubectl, unless `strict` is false."""
        path = (await self._of(manifest)).path(namespace=_namespace(manifest))
        return await self.request("POST", path, body=manifest, query=_validation(strict=strict))

    async def replace(self, manifest: Manifest, *, strict: bool = True) -> Manifest:
        """Write a whole object back."""
        path = (await self._of(manifest)).path(namespace=_namespace(manifest), name=manifest["metadata"]["name"])
        return await self.request("PUT", path, body=manifest, query=_validation(strict=strict))

    async def apply(self, manifest: Manifest, *, manager: str = "tests", subresource: str | None = None) -> Manifest:
        """Apply server-side, taking over what others own."""
        resource = await self._of(manifest)
        path = resource.path(namespace=_namespace(manifest), name=manifest["metadata"]["name"], subresource=subresource)
        query = {"fieldManager": manager, "force": "true", **_validation(strict=True)}
        return await self.request("PATCH", path, body=manifest, query=query, content_type=APPLY_PATCH)

    async def patch(
        self, kind: str, name: str, patch: Manifest, *, namespace: str | None = None, subresource: str | None = None
    ) -> Manifest:
        """Merge a patch into an object or its subresource."""
        path = (await self._named(kind)).path(namespace=namespace, name=name, subresource=subresource)
        return await self.request("PATCH", path, body=patch, query=_validation(strict=True), content_type=MERGE_PATCH)

    async def get(self, kind: str, name: str, *, namespace: str | None = None) -> Manifest:
        """Read an object."""
        return await self.request("GET", (await self._named(kind)).path(namespace=namespace, name=name))

    async def find(self, kind: str, name: str, *, namespace: str | None = None) -> Manifest | None:
        """Read an object; None when it is not there."""
        try:
            return await self.get(kind, name, namespace=namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def list(self, kind: str, *, namespace: str | None = None, labels: str = "", fields: str = "") -> Manifests:
        """Read all objects that the selectors match; of all namespaces without `namespace`."""
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        answer = await self.request("GET", (await self._named(kind)).path(namespace=namespace), query=query)
        items: Manifests = answer["items"]
        return items

    async def delete(
        self, kind: str, name: str, *, namespace: str | None = None, propagation: str = "Background"
    ) -> None:
        """Delete an object."""
        path = (await self._named(kind)).path(namespace=namespace, name=name)
        await self.request("DELETE", path, query={"propagationPolicy": propagation})

    async def watch(
        self, kind: str, *, namespace: str | None = None, fields: str = "", since: str = ""
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        """Yield (ADDED, MODIFIED or DELETED; the object): first for all that are there, then for every change.

        `since` a resource version: only for the changes after it. Ends only when it is closed; ApiError when the API
        server ends it.
        """
        path = (await self._named(kind)).path(namespace=namespace)
        wanted = {"watch": "true", "fieldSelector": fields, "resourceVersion": since}
        async with self._session.get(
            path,
            params={key: value for key, value in wanted.items() if value},
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**24,
        ) as answer:
            try:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        code = event["object"].get("code", 0)
                        raise (_Ended if code == 410 else ApiError)(code, event["object"])
                    yield event["type"], event["object"]
            finally:
                hang_up(answer)
        raise _Ended(0, {"message": f"the API server ended the watch of {kind}"})

    async def follow(self, kind: str, *, namespace: str | None = None) -> AsyncGenerator[tuple[str, Manifest], None]:
        """Watch without an end: when the API server ends a watch, as it does after half an hour, begin again.

        What is there then is told again as ADDED.
        """
        while True:
            with suppress(_Ended):
                async with aclosing(self.watch(kind, namespace=namespace)) as events:
                    async for event in events:
                        yield event

    async def table(self, kind: str, *, namespace: str | None = None, wide: bool = False) -> Manifests:
        """Read what `kubectl get` prints: one dict a row, by column heading."""
        path = (await self._named(kind)).path(namespace=namespace)
        answer = await self.request("GET", path, accept=TABLE)
        columns = [
            (number, column["name"].upper())
            for number, column in enumerate(answer["columnDefinitions"])
            if wide or not column["priority"]
        ]
        return [{name: row["cells"][number] for number, name in columns} for row in answer.get("rows") or []]

    async def wait_for(
        self,
        kind: str,
        name: str,
        predicate: Callable[[Manifest], bool],
        *,
        namespace: str | None = None,
        seconds: float = 30.0,
    ) -> Manifest:
        """Wait until the object exists and is as wanted; return it. TimeoutError shows its last status."""
        seen: Manifest | None = None
        try:
            async with asyncio.timeout(seconds), aclosing(self._states(kind, name, namespace=namespace)) as states:
                async for seen in states:
                    if seen is not None and predicate(seen):
                        return seen
        except TimeoutError as error:
            state = "not there" if seen is None else json.dumps(seen.get("status", {}))
            raise TimeoutError(f"{kind} {name} is not as wanted after {seconds} s: {state}") from error
        raise AssertionError("the states of an object have no end")

    async def wait_until_gone(
        self, kind: str, name: str, *, namespace: str | None = None, seconds: float = 30.0
    ) -> None:
        """Wait until the object is not there."""

        try:
            async with asyncio.timeout(seconds), aclosing(self._states(kind, name, namespace=namespace)) as states:
                async for seen in states:
                    if seen is None:
                        return
        except TimeoutError as error:
            raise TimeoutError(f"{kind} {name} is still there after {seconds} s") from error

    async def _states(self, kind: str, name: str, *, namespace: str | None) -> AsyncGenerator[Manifest | None, None]:
        """Yield what an object is now, None when it is not there, and again at every change. It has no end."""
        selector = f"metadata.name={name}"
        while True:
            path = (await self._named(kind)).path(namespace=namespace)
            listed = await self.request("GET", path, query={"fieldSelector": selector})
            about = {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List")}
            yield about | listed["items"][0] if listed["items"] else None
            since = listed["metadata"]["resourceVersion"]
            with suppress(_Ended):
                async with aclosing(self.watch(kind, namespace=namespace, fields=selector, since=since)) as changes:
                    async for change, stored in changes:
                        yield None if change == "DELETED" else stored

    # Requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        """Send one request and decode its answer.

        A read that gets a 429 is sent again after the Retry-After, as client-go does it: for a moment after a CRD is
        changed, the API server answers so ("storage is (re)initializing").
        """
        for left in reversed(range(READ_TRIES if method == "GET" else 1)):
            async with self._session.request(
                method,
                path,
                params=query,
                data=None if body is None else json.dumps(body),
                headers={"Accept": accept, "Content-Type": content_type},
            ) as response:
                text, wait = await response.text(), response.headers.get("Retry-After")
            if response.status != 429 or wait is None or not left:
                break
            await asyncio.sleep(float(wait))
        try:
            answer: Manifest = json.loads(text)
        except ValueError:
            answer = {"message": text}
        if response.status >= 400:
            raise ApiError(response.status, answer)
        return answer

    async def text(self, path: str) -> str:
        """Read what is no object, such as /metrics."""
        async with self._session.get(path) as response:
            text = await response.text()
        if response.status >= 400:
            raise ApiError(response.status, {"message": text})
        return text

    async def _of(self, manifest: Manifest) -> Resource:
        return await self._named(f"{manifest['kind']}.{manifest['apiVersion']}")

    async def _named(self, kind: str) -> Resource:
        """Find a kind: by `Kind`, or by `Kind.group/version` where the name alone is not enough."""
        if kind not in self._resources:
            self._resources = await self._discover()
        if kind not in self._resources:
            raise LookupError(f"the API server has no {kind}: is its CRD installed?")
        return self._resources[kind]

    async def _discover(self) -> dict[str, Resource]:
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            document = await self.request("GET", root, accept=DISCOVERY)
            for group in document["items"]:
                for version in group["versions"]:
                    group_version = "/".join(
                        part for part in (group["metadata"].get("name"), version["version"]) if part
                    )
                    for entry in version["resources"]:
                        kind = entry["responseKind"]["kind"]
                        resource = Resource(
                            f"{root}/{group_version}", entry["resource"], entry["scope"] == "Namespaced"
                        )
                        found[f"{kind}.{group_version}"] = resource
                        found.setdefault(kind, resource)
        return found


def _namespace(manifest: Manifest) -> str | None:
    namespace: str | None = manifest["metadata"].get("namespace")
    return namespace


def _validation(*, strict: bool) -> dict[str, str]:
    return {"fieldValidation": "Strict" if strict else "Ignore"}


def _current(kubeconfig: Path) -> tuple[dict[str, str], dict[str, str]]:
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
    context = contexts[config["current-context"]]
    clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
    users = {entry["name"]: entry["user"] for entry in config["users"]}
    return clusters[context["cluster"]], users[context["user"]]


def _tls(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext | bool:
    if "certificate-authority-data" not in cluster:
        return True
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        load_pair(
            context,
            certificate=base64.b64decode(user["client-certificate-data"]),
            key=base64.b64decode(user["client-key-data"]),
        )
    return context


def load_pair(context: ssl.SSLContext, *, certificate: bytes, key: bytes) -> None:
    """Load a certificate and key that are in memory; the ssl module reads files alone."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
