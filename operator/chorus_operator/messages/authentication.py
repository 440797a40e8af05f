"""Whose a bearer token is: a pod's, by the API server's word (TokenReview), or a service's, which the operator made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from chorus_api.contract import AUDIENCE
from chorus_kube.cache import Cache
from chorus_kube.client import Kube
from chorus_kube.errors import Forbidden
from chorus_operator.messages.review_queue import ReviewQueue
from chorus_operator.services.tokens import Grant, InvalidToken, ServiceTokens
from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

GOOD_SECONDS = 60.0
BAD_SECONDS = 10.0
GOOD_TOKENS = 4096
BAD_TOKENS = 1024
MAX_TOKEN_BYTES = 8192
_PREFIX = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


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

    async def identify(self, token: str, *, peer: str = "") -> PodIdentity:
        """Find the pod that a token is bound to; Refused (badToken, notAPod, unavailable), or KubeError.

        `peer`: the address that the token came from.
        """


class TokenFilter(Protocol):
    """Knows some bad tokens without asking about them."""

    async def prepare(self) -> None:
        """Fetch what it works with; it passes everything when that fails."""

    async def refuse_if_bad(self, token: str) -> None:
        """Refused (badToken) when the token is bad; nothing when it is good, or when that cannot be told."""


class TokenReviews:
    """Asks the API server about each token once a minute; tokens are kept as their hashes alone.

    Bad tokens cost as little as can be: those that the filter knows are not asked about, few reviews are made at
    once, and bad ones are remembered apart from good ones, which they cannot push out.
    """

    def __init__(self, kube: Kube, *, clock: Callable[[], float], first: TokenFilter):
        """`clock`: seconds that only rise; `first`: what a token must pass before the API server is asked."""
        self._kube = kube
        self._first = first
        self._queue = ReviewQueue()
        self._good: Cache[bytes, PodIdentity] = Cache(size=GOOD_TOKENS, clock=clock)
        self._bad: Cache[bytes, Refused] = Cache(size=BAD_TOKENS, clock=clock)

    async def start(self) -> None:
        """Ask about a token that is none; KubeError when that may not be asked."""
        await self._first.prepare()
        try:
            await self._kube.token_review("none", audiences=[AUDIENCE])
        except Forbidden as error:
            log.error(
                "the operator may not ask for TokenReviews: bind its ClusterRole, or set "
                "CHORUS_TOKEN_CHECK=PublishedKeys",
                error=str(error),
            )
            raise

    async def identify(self, token: str, *, peer: str = "") -> PodIdentity:
        """Find the pod that a token is bound to; Refused (badToken, notAPod, unavailable) when there is none."""
        digest = hashlib.sha256(token.encode()).digest()
        if (known := self._good.get(digest)) is not None:
            return known
        if (bad := self._bad.get(digest)) is not None:
            raise Refused(bad.cause, bad.detail)
        try:
            await self._first.refuse_if_bad(token)
            async with self._queue.turn(peer):
                found = self._good.get(digest) or await self._review(token)
        except Refused as refused:
            if refused.cause is not Cause.UNAVAILABLE:
                self._bad.put(digest, refused, seconds=BAD_SECONDS)
            raise
        self._good.put(digest, found, seconds=GOOD_SECONDS)
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
