"""Whose a bearer token is: a pod's, by the API server's word (TokenReview), or a service's, which the operator made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from chorus_api.contract import AUDIENCE
from chorus_operator.kube.cache import Cache
from chorus_operator.kube.client import Kube
from chorus_operator.kube.errors import Forbidden
from chorus_operator.messages.refusals import Cause, Refused
from chorus_operator.services.tokens import Grant, InvalidToken, ServiceTokens

log = structlog.get_logger()

GOOD_SECONDS = 60.0
BAD_SECONDS = 10.0
CACHE_SIZE = 4096
MAX_TOKEN_BYTES = 8192
_PREFIX = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class TokenCheck(StrEnum):
    """How tokens are checked."""

    REVIEW = "Review"
    """The API server is asked about each (TokenReview). Takes a right that only a ClusterRole can give."""
    PUBLISHED_KEYS = "PublishedKeys"
    """Their signatures are checked against the keys that the API server publishes; every service account may."""


@dataclass(frozen=True)
class PodIdentity:
    """The pod that a token is bound to, and the service account whose token it is: the pod's own."""

    namespace: str
    name: str
    uid: str
    account: str


@dataclass(frozen=True)
class ServiceIdentity:
    """The service that holds a token which the operator gave it."""

    grant: Grant

    @property
    def namespace(self) -> str:
        """Where its run or Plugin is."""
        return self.grant.namespace

    @property
    def name(self) -> str:
        """What it speaks for, for people."""
        return f"service of {self.grant.kind} {self.grant.name}"


Identity = PodIdentity | ServiceIdentity


class Authenticator(Protocol):
    """Finds the pod behind a token."""

    async def start(self) -> None:
        """Try whether it can work; KubeError when it cannot."""

    async def identify(self, token: str) -> PodIdentity:
        """Find the pod that a token is bound to; Refused (badToken, notAPod, unavailable), or KubeError."""


class TokenReviews:
    """Asks the API server about each token once a minute; tokens are kept as their hashes alone."""

    def __init__(self, kube: Kube, *, clock: Callable[[], float]):
        """`clock`: seconds that only rise."""
        self._kube = kube
        self._known: Cache[bytes, PodIdentity | Refused] = Cache(size=CACHE_SIZE, clock=clock)

    async def start(self) -> None:
        """Ask about a token that is none; KubeError when that may not be asked."""
        try:
            await self._kube.token_review("none", audiences=[AUDIENCE])
        except Forbidden as error:
            log.error(
                "the operator may not ask for TokenReviews: bind its ClusterRole, or set "
                "CHORUS_TOKEN_CHECK=PublishedKeys",
                error=str(error),
            )
            raise

    async def identify(self, token: str) -> PodIdentity:
        """Find the pod that a token is bound to; Refused (badToken, notAPod) when there is none."""
        digest = hashlib.sha256(token.encode()).digest()
        found = self._known.get(digest)
        if found is None:
            try:
                found = await self._review(token)
                self._known.put(digest, found, seconds=GOOD_SECONDS)
            except Refused as refused:
                found = refused
                self._known.put(digest, found, seconds=BAD_SECONDS)
        if isinstance(found, Refused):
            raise Refused(found.cause, found.detail)
        return found

    async def _review(self, token: str) -> PodIdentity:
        status = await self._kube.token_review(token, audiences=[AUDIENCE])
        if not status.get("authenticated"):
            why = str(status.get("error") or "it is unknown, expired, or for another audience")[:300]
            raise Refused(Cause.BAD_TOKEN, f"the API server does not accept the token: {why}")
        if AUDIENCE not in status.get("audiences", []):
            raise Refused(Cause.BAD_TOKEN, f"the token is not for the audience {AUDIENCE!r}")
        user = status.get("user", {})
        username = str(user.get("username", ""))
        extra = user.get("extra", {})
        names, uids = extra.get(_POD_NAME, []), extra.get(_POD_UID, [])
        namespace, _, account = username.removeprefix(_PREFIX).partition(":")
        if not (username.startswith(_PREFIX) and account and len(names) == len(uids) == 1):
            raise Refused(Cause.NOT_A_POD, f"the token of {username[:200]!r} is not bound to a pod")
        return PodIdentity(namespace, names[0], uids[0], account)


def service_of(token: str, tokens: ServiceTokens, *, now: datetime) -> ServiceIdentity:
    """Find the service that a token of ours was given to; Refused (badToken) when it is not good."""
    try:
        return ServiceIdentity(tokens.read(token, now=now))
    except InvalidToken as error:
        raise Refused(Cause.BAD_TOKEN, f"the token was not made by this operator, or has run out: {error}") from error


def bearer_token(authorization: str | None) -> str:
    """Read the token of an Authorization header; Refused (noToken, badToken) when it cannot be one."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(Cause.NO_TOKEN, "the header 'Authorization: Bearer <token>' is missing")
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise Refused(Cause.BAD_TOKEN, "the token is neither a service account's nor one of TRAINING_DATA")
    return token
