"""The API client: plain dicts both ways, a deadline on every call, one error type for each decision.

One `Kube` belongs to one event loop and keeps one connection pool for its life. Idempotent calls are tried again on
429, 5xx and lost connections until `deadline`; a conflict never is: it means that the caller must read again.

A name says nothing of which object has it by the time that a request arrives. So whatever changes or removes an object
says which one is meant, by its uid, and as which version it was seen, where a decision turned on more than that. There
is no other way to write: only a creation goes by the name alone, and does nothing when the name is taken.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson

from chorus_kube import resources
from chorus_kube.answers import Answers, tell, tell_error
from chorus_kube.errors import (
    Conflict,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Unavailable,
)
from chorus_kube.login import Credentials, Login
from chorus_kube.resources import PODS, Page, Resource
from chorus_kube.transport import APPLY_PATCH, MERGE_PATCH, TABLE, Manifest, Transport
from chorus_kube.watch_events import WatchEvent, read_event

Manifests = list[Manifest]

FIELD_MANAGER = "chorus"
PAGE = 500
DEADLINE_SECONDS = 40.0
WATCH_SECONDS = 290.0
SILENCE_SECONDS = 75.0
"""The API server says something at least once a minute: a bookmark, if nothing has changed."""

Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True)
class Deleted:
    """What a deletion did."""

    found: bool
    """Whether it concerned the object. False: that was gone already, whoever has its name now."""
    remaining: Manifest | None = None
    """The object as it is now, while something keeps it from going: its finalizers, or its pod's grace period."""

    @property
    def gone(self) -> bool:
        """Whether the object is not there any more."""
        return self.remaining is None


class Kube:
    """The API server, as the operator uses it. Every method may raise any `KubeError`."""

    def __init__(self, login: Login, *, deadline: float = DEADLINE_SECONDS, jitter: random.Random | None = None):
        """`deadline`: seconds that one call may take, repetitions included."""
        self.answers: Answers | None = None
        """Is told what the API server answers about objects."""
        self._jitter = jitter or random.Random()
        self._transport = Transport(login, deadline=deadline, jitter=self._jitter)

    @property
    def requests(self) -> Counter[tuple[str, str, int]]:
        """Requests sent, by verb, plural and HTTP status (0: no answer)."""
        return self._transport.sent

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, *, deadline: float = DEADLINE_SECONDS) -> Self:
        """Open a client: with the kubeconfig file when given, else with the pod's service account."""
        return cls(await Login.find(kubeconfig), deadline=deadline)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def credentials(self) -> Credentials:
        """Give what this client authenticates with, the token as it is now."""
        return await self._transport.credentials()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Reading

    async def get(self, resource: Resource, *, namespace: str, name: str) -> Manifest | None:
        """Read one object; None when it is not there."""
        try:
            return await self._json("GET", resource, namespace, name)
        except NotFound:
            return None

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> Manifests:
        """Read all objects with these labels and (selectable) fields, page by page; of all namespaces when None.

        `most`: no more than so many, whichever the API server gives first.
        """
        query = {"limit": str(most or PAGE)}
        for name, wanted in (("labelSelector", labels), ("fieldSelector", fields)):
            if wanted:
                query[name] = _selector(wanted)
        try:
            return await self._list(resource, namespace, query, once=most is not None)
        except Gone:  # the list took longer than the API server keeps its snapshot
            return await self._list(resource, namespace, query, once=most is not None)

    async def _list(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], *, once: bool
    ) -> Manifests:
        items: Manifests = []
        while True:
            page = await self._json("GET", resource, namespace, query=query)
            # Items of built-in kinds come without their type.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page["items"]]
            position = page["metadata"].get("continue")
            if not position or once:
                return items
            query = {**query, "continue": position}

    async def names(self, resource: Resource, *, namespace: str, most: int) -> Sequence[str]:
        """Name at most so many objects of a namespace, whichever the API server gives first, without reading them."""
        query = {"limit": str(most), "includeObject": "None"}
        table = await self._json("GET", resource, namespace, query=query, accept=TABLE)
        column = [each.get("format") for each in table["columnDefinitions"]].index("name")
        return [str(row["cells"][column]) for row in table.get("rows") or ()]

    async def namespace_uid(self, namespace: str) -> str:
        """Read the uid of a namespace, which another one of the same name does not have; NotFound when it is gone."""
        stored = await self._json("GET", _NAMESPACES, None, namespace)
        return str(stored["metadata"]["uid"])

    async def served(self, api_version: str) -> frozenset[str]:
        """Name the plurals that the API server serves of a group's version; empty when it does not know it."""
        try:
            answer = await self._json("GET", Resource(api_version, "", ""))
        except Unavailable as error:
            if error.status != 404:
                raise
            return frozenset()
        return frozenset(str(resource["name"]) for resource in answer["resources"])

    async def pod_log(
        self,
        namespace: str,
        *,
        name: str,
        container: str | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        last_bytes: int | None = None,
    ) -> str | None:
        """Read the log of a container; None when the pod is gone or the container has none yet.

        `limit_bytes` counts from the front of what would be read; `last_bytes` keeps its end, for a line may be long.
        """
        query = {
            key: str(value)
            for key, value in (("container", container), ("tailLines", tail_lines), ("limitBytes", limit_bytes))
            if value is not None
        }
        try:
            body = await self._transport.request(
                "GET", PODS, namespace, name, "log", query=query, last_bytes=last_bytes
            )
        except (NotFound, Invalid):
            return None
        return body.decode(errors="replace")

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        labels: Mapping[str, str] | None,
        resource_version: str | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Give what happens to objects of a kind, of all namespaces when None, with these labels.

        After a resource version; without one, what is there comes first, as ADDED, up to a BOOKMARK with the annotation
        `k8s.io/initial-events-end`: that takes no right to list. It ends every few minutes, by the API server's clock:
        go on from the version of the last event. Close it when you leave it before (`contextlib.aclosing`), for it
        holds a connection.

        Raises KubeError: Gone when the version is too old, Unavailable when the connection is lost or silent for
        `SILENCE_SECONDS`. Nothing is tried again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(WATCH_SECONDS * self._jitter.uniform(0.9, 1.0))),
        }
        if labels:
            query["labelSelector"] = _selector(labels)
        if resource_version is None:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        else:
            query["resourceVersion"] = resource_version
        what = f"watch {resource.path(namespace)}"
        lines = self._transport.watch(resource, namespace, query=query, silence=SILENCE_SECONDS)
        async with aclosing(lines):
            async for line in lines:
                yield read_event(what, line, resource)

    # Writing

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object; AlreadyExists when the name is taken.

        A creation whose answer was lost is not sent again: the next look finds the object or creates it.
        """
        resource = resources.of(manifest)
        return await self._json(
            "POST",
            resource,
            manifest["metadata"]["namespace"],
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
            idempotent=False,
        )

    async def replace(self, manifest: Manifest, *, resource_version: str) -> Manifest:
        """Replace an object by the manifest; Conflict unless the object still has this resource version."""
        metadata = {**manifest["metadata"], "resourceVersion": resource_version}
        return await self._json(
            "PUT",
            resources.of(manifest),
            metadata["namespace"],
            metadata["name"],
            query={"fieldManager": FIELD_MANAGER},
            body={**manifest, "metadata": metadata},
        )

    async def patch(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        merge_patch: Manifest,
        uid: str,
        resource_version: str,
    ) -> Manifest:
        """Merge a patch into an object; Conflict unless it is still this one, and has this resource version."""
        meant = {"uid": uid, "resourceVersion": resource_version}
        return await self._json(
            "PATCH",
            resource,
            namespace,
            name,
            query={"fieldManager": FIELD_MANAGER},
            body={**merge_patch, "metadata": {**merge_patch.get("metadata", {}), **meant}},
            content_type=MERGE_PATCH,
        )

    async def delete(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        uid: str,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
    ) -> Deleted:
        """Delete the object of this uid, if it is still there; another one of its name is left alone."""
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": uid},
        }
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            answer = await self._transport.request("DELETE", resource, namespace, name, body=options)
        except (NotFound, Conflict) as error:
            if self.answers is not None:
                tell_error(self.answers, resource, namespace, name, error)
            return Deleted(found=False)
        remaining = _remaining(answer, resource)
        if self.answers is not None and remaining is not None:
            self.answers.answered(resource, remaining, own=True)
        elif self.answers is not None:
            self.answers.found_gone(resource, namespace, name, uid)
        return Deleted(found=True, remaining=remaining)

    async def patch_status(
        self, resource: Resource, *, namespace: str, name: str, status: Manifest, resource_version: str
    ) -> Manifest:
        """Merge into an object's status; Conflict unless the object still has this resource version."""
        return await self._json(
            "PATCH",
            resource,
            namespace,
            name,
            "status",
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"resourceVersion": resource_version}, "status": status},
            content_type=MERGE_PATCH,
        )

    async def apply_status(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        status_part: Manifest,
        manager: str,
        resource_version: str,
    ) -> Manifest:
        """Apply one manager's whole part of a status; Conflict unless the object still has this resource version."""
        return await self._json(
            "PATCH",
            resource,
            namespace,
            name,
            "status",
            query={"fieldManager": manager, "force": "true"},
            body={
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
                "status": status_part,
            },
            content_type=APPLY_PATCH,
        )

    async def token_review(self, token: str, *, audiences: Sequence[str]) -> Manifest:
        """Ask the API server whose token this is: the `status` of the TokenReview."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        answer = await self._json("POST", _TOKEN_REVIEWS, body=review)
        status: Manifest = answer["status"]
        return status

    async def token_issuer(self) -> Manifest:
        """Read who issues service accounts' tokens: the API server's OpenID Connect discovery document."""
        return await self._json("GET", _OPENID_CONFIGURATION)

    async def token_keys(self) -> Manifest:
        """Read the public keys of service accounts' tokens: a JSON Web Key Set.

        Of the API server itself: the address in the discovery document may be one that only others can reach.
        """
        return await self._json("GET", _OPENID_KEYS)

    async def server_addresses(self) -> Sequence[str]:
        """Read what the API server that answers gives as its own address: `host:port`, mostly one."""
        answer = await self._json("GET", _VERSIONS)
        return [str(entry["serverAddress"]) for entry in answer.get("serverAddressByClientCIDRs") or ()]

    async def _json(
        self,
        method: str,
        resource: Resource,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        body: Manifest | None = None,
        **how: Any,
    ) -> Manifest:
        """Send a request, and tell whoever is told what it was answered."""
        about = name or (body or {}).get("metadata", {}).get("name")
        try:
            answer = await self._transport.json(method, resource, namespace, name, subresource, body=body, **how)
        except KubeError as error:
            if self.answers is not None and namespace is not None and about:
                tell_error(self.answers, resource, namespace, about, error)
            raise
        if self.answers is not None:
            tell(self.answers, resource, answer, own=method != "GET")
        return answer


def _selector(wanted: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))


def _remaining(answer: bytes, resource: Resource) -> Manifest | None:
    """Read from the answer to a deletion what is left: some kinds answer with the object even when it is gone."""
    found = orjson.loads(answer)
    metadata = found.get("metadata", {})
    if found.get("kind") != resource.kind or "deletionTimestamp" not in metadata:
        return None
    return found if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") else None


_NAMESPACES = Resource("v1", "Namespace", "namespaces")
_TOKEN_REVIEWS = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
_OPENID_CONFIGURATION = Page("", "", "openid-configuration", "/.well-known/openid-configuration")
_VERSIONS = Page("", "", "api", "/api")
_OPENID_KEYS = Page("", "", "jwks", "/openid/v1/jwks")

__all__ = ["FIELD_MANAGER", "Kube", "KubeError", "Manifest"]
