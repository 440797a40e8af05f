"""Which pod a bearer token belongs to, by the keys that the API server publishes for service accounts' tokens.

For an operator whose rights end at some namespaces: a TokenReview takes a ClusterRole, the published keys every service
account may read (`system:service-account-issuer-discovery`). What a TokenReview would see and a signature does not say
is whether the pod is still there: `PodSenders` looks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey
from joserfc.jws import CompactSignature, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chorus_api.contract import AUDIENCE
from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import KubeError, Unavailable
from chorus_operator.messages.authentication import PodIdentity
from chorus_protocol.refusals import Cause, Refused

log = structlog.get_logger()

ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""All that an API server signs with. No others: not `none`, and none whose key is a shared secret."""
LEEWAY_SECONDS = 30
FILTER_LEEWAY_SECONDS = 600
"""Where the API server has the last word, our clock refuses only what is far off; certificates allow as much."""
KEYS_SECONDS = 600.0
FETCH_PAUSE_SECONDS = 10.0
REFRESH_SECONDS = 2.0
"""For keys that are fetched in the background: a filter keeps no token waiting for them."""

_PublicKey = RSAKey | ECKey
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
# What joserfc and json raise for tokens that are none, beside its own errors.
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Object(_Part):
    name: _Text
    uid: _Text


class _Bound(_Part):
    namespace: _Text
    service_account: _Object = Field(alias="serviceaccount")
    pod: _Object | None = None


class _Claims(_Part):
    sub: _Text
    bound: _Bound = Field(alias="kubernetes.io")


@dataclass(frozen=True)
class Published:
    """The issuer's name and its keys, by their ids."""

    issuer: str
    keys: Mapping[str, _PublicKey]


class PublishedKeys:
    """Checks tokens by signature, issuer, audience and time: alone, or as a filter before TokenReviews.

    Keys are fetched anew after ten minutes. And when a token names one that is not known, for it may be new; but not
    twice within ten seconds, so that nobody can make the operator ask and ask. Who comes in between shall come again.
    """

    def __init__(self, kube: Kube, *, clock: Callable[[], datetime], seconds: Callable[[], float]):
        """`clock`: the time that tokens are held against; `seconds`: seconds that only rise."""
        self._kube = kube
        self._clock = clock
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._published = Published("", {})
        self._fetched = self._tried = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch the keys; KubeError when the API server publishes none, or not for this account."""
        try:
            await self._fetch()
        except KubeError as error:
            log.error(
                "CHORUS_TOKEN_CHECK=PublishedKeys needs the keys that the API server publishes: the operator's service "
                "account must be bound to the ClusterRole system:service-account-issuer-discovery",
                error=str(error),
            )
            raise

    async def identify(self, token: str, *, peer: str = "") -> PodIdentity:
        """Find the pod that a token is bound to; Refused (badToken, notAPod, unavailable), or KubeError."""
        signature, key_id = _parse(token)
        published = await self._with_key(key_id)
        key = published.keys.get(key_id)
        if key is None:
            raise Refused(Cause.BAD_TOKEN, f"the API server publishes no key {key_id[:100]!r}")
        wanted = JWTClaimsRegistry(
            now=int(self._clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": published.issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            nbf={"essential": True},
        )
        return _pod_of(_claims_of(_verified(signature, key, wanted)))

    # As a filter before TokenReviews

    async def prepare(self) -> None:
        """Fetch the keys if there are any for us: without them the filter passes every token."""
        try:
            await self._fetch()
        except KubeError as error:
            log.warning("every token will be reviewed: the keys of tokens cannot be read", error=str(error))

    async def refuse_if_bad(self, token: str) -> None:
        """Refused (badToken) for a token that the published keys show to be bad; everything else passes.

        A token of another issuer, or with a key that is not published here, can be good all the same. So can every
        token as long as no keys could be read. It never waits: keys that are missing or old are fetched in the
        background.
        """
        try:
            signature, key_id = _parse(token)
        except Refused:
            if self._published.keys:
                raise
            return
        if not self._has(key_id):
            self._refresh()
        # An old key that is no longer published lets a token pass to its review, and no more.
        key = self._published.keys.get(key_id)
        if key is not None:
            wanted = JWTClaimsRegistry(
                now=int(self._clock().timestamp()),
                leeway=FILTER_LEEWAY_SECONDS,
                aud={"essential": True, "value": AUDIENCE},
                exp={"essential": True},
            )
            _verified(signature, key, wanted)

    def _refresh(self) -> None:
        """Fetch the keys in the background, unless that is under way or was tried a moment ago."""
        is_under_way = self._refreshing is not None and not self._refreshing.done()
        if not is_under_way and self._seconds() >= self._tried + FETCH_PAUSE_SECONDS:
            self._refreshing = asyncio.get_running_loop().create_task(self._try_refresh())

    async def _try_refresh(self) -> None:
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self._fetch()
        except (KubeError, TimeoutError) as error:
            log.warning("the keys of tokens could not be read again; tokens are reviewed", error=str(error))

    async def _with_key(self, key_id: str) -> Published:
        """Give what is published, fetched anew when it is old or lacks the key."""
        if self._has(key_id):
            return self._published
        async with self._lock:
            if self._has(key_id):  # who had the lock fetched it
                return self._published
            if self._seconds() < self._tried + FETCH_PAUSE_SECONDS:
                raise Refused(Cause.UNAVAILABLE, "the token's key was not there a moment ago; send the message again")
            await self._fetch()
            return self._published

    def _has(self, key_id: str) -> bool:
        return key_id in self._published.keys and self._seconds() < self._fetched + KEYS_SECONDS

    async def _fetch(self) -> None:
        self._tried = self._seconds()
        try:
            self._published = read_published(await self._kube.token_issuer(), await self._kube.token_keys())
        finally:
            self._tried = self._seconds()  # those who waited for it do not each try again
        self._fetched = self._seconds()
        log.info("keys of tokens read", issuer=self._published.issuer, keys=sorted(self._published.keys))


def read_published(configuration: Manifest, key_set: Manifest) -> Published:
    """Read the discovery document and the key set; Unavailable when there is nothing to check tokens by.

    Keys of kinds that are not for signing tokens of service accounts are left out.
    """
    issuer = configuration.get("issuer")
    entries = key_set.get("keys")
    if not isinstance(issuer, str) or not issuer or not isinstance(entries, list):
        raise Unavailable("the API server's OpenID Connect discovery names no issuer or no keys")
    keys: dict[str, _PublicKey] = {}
    for entry in entries:
        try:
            key = JWKRegistry.import_key(entry)
            key_id = key.kid
        except _UNREADABLE as error:
            log.warning("a published key cannot be read", error=str(error)[:300])
            continue
        # A key says what it is for; without that, one algorithm could be passed off as another.
        if isinstance(key, RSAKey | ECKey) and key_id and key.get("alg") in ALGORITHMS and not key.is_private:
            keys[key_id] = key
    if not keys:
        raise Unavailable("the API server publishes no key for tokens of service accounts")
    return Published(issuer, keys)


def _parse(token: str) -> tuple[CompactSignature, str]:
    """Read a token without believing it, and the id of the key that it says it is signed with."""
    try:
        signature = extract_compact(token.encode())
        key_id = signature.headers().get("kid")
    except _UNREADABLE as error:
        raise Refused(Cause.BAD_TOKEN, "the token is not a service-account token") from error
    if not isinstance(key_id, str) or not key_id:
        raise Refused(Cause.BAD_TOKEN, "the token does not say which key it is signed with")
    return signature, key_id


def _verified(signature: CompactSignature, key: _PublicKey, wanted: JWTClaimsRegistry) -> dict[str, Any]:
    """Check the signature and what is wanted of the claims; the claims, or Refused."""
    try:
        if not validate_compact(signature, key, algorithms=ALGORITHMS):
            raise Refused(Cause.BAD_TOKEN, "the token's signature is wrong")
        claims = json.loads(signature.payload)
        wanted.validate(claims)
    except _UNREADABLE as error:
        raise Refused(Cause.BAD_TOKEN, f"the token is not valid: {error}"[:300]) from error
    found: dict[str, Any] = claims
    return found


def _claims_of(claims: dict[str, Any]) -> _Claims:
    try:
        return _Claims.model_validate(claims)
    except ValidationError:
        subject = str(claims.get("sub"))[:200]
        raise Refused(Cause.NOT_A_POD, f"the token of {subject!r} is not a service account's") from None


def _pod_of(claims: _Claims) -> PodIdentity:
    bound = claims.bound
    if claims.sub != f"system:serviceaccount:{bound.namespace}:{bound.service_account.name}" or bound.pod is None:
        raise Refused(Cause.NOT_A_POD, f"the token of {claims.sub[:200]!r} is not bound to a pod")
    return PodIdentity(bound.namespace, bound.pod.name, bound.pod.uid, bound.service_account.name)
