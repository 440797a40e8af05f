"""Bearer tokens that Chorus gives to services, and knows again without having kept them.

A token names what it is for and is signed (JWT, HS256) with a key that only operators can derive. So there is no Secret
to read or to lose, and a token for the same thing is the same token each time it is made.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from joserfc.jws import extract_compact
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

TYPE = "chorus-service+jwt"
ISSUER = "chorus.dev/operator"
ALGORITHM = "HS256"
RUN_LIFETIME = timedelta(days=400)
"""From the run's creation; it ends with its attempt, which may take a year. Counted from what does not change."""
PLUGIN_LIFETIME = timedelta(minutes=10)

_Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
# What joserfc raises for tokens that are none, beside its own errors.
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class InvalidToken(Exception):
    """A token that was not made here, was changed, or has run out."""


class _Grant(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    namespace: _Text
    name: _Text
    uid: _Text
    project_id: int = 0
    plugin_id: int = Field(gt=0)


class RunGrant(_Grant):
    """Speak for one attempt of a run, and use its exchange."""

    kind: Literal["run"] = "run"
    attempt: int = Field(gt=0)
    project_id: int = Field(gt=0)


class PluginGrant(_Grant):
    """Answer an inquiry about one generation of a Plugin."""

    kind: Literal["plugin"] = "plugin"
    generation: int = Field(gt=0)


Grant = RunGrant | PluginGrant
_GRANTS: TypeAdapter[Grant] = TypeAdapter(Annotated[Grant, Field(discriminator="kind")])


class ServiceTokens:
    """Makes tokens and reads them."""

    def __init__(self, key: bytes):
        """`key`: `ServiceKeys.tokens`."""
        self._key = OctKey.import_key(key)

    def issue(self, grant: Grant, *, expires: datetime) -> str:
        """Make the token of a grant: the same for the same grant and time."""
        claims = {"iss": ISSUER, "exp": int(expires.timestamp()), **grant.model_dump(mode="json")}
        return jwt.encode({"alg": ALGORITHM, "typ": TYPE}, claims, self._key, algorithms=[ALGORITHM])

    def read(self, token: str, *, now: datetime) -> Grant:
        """Check a token and say what it grants; InvalidToken."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
            if decoded.header.get("typ") != TYPE:
                raise InvalidToken("it is for something else")
            wanted = jwt.JWTClaimsRegistry(
                now=int(now.timestamp()), iss={"essential": True, "value": ISSUER}, exp={"essential": True}
            )
            wanted.validate(decoded.claims)
            return _GRANTS.validate_python(decoded.claims)
        except (*_UNREADABLE, ValidationError) as error:
            raise InvalidToken(str(error)[:200]) from error


def is_ours(token: str) -> bool:
    """Tell whether a token says that it was made here. It is not believed yet."""
    try:
        return bool(extract_compact(token.encode()).headers().get("typ") == TYPE)
    except _UNREADABLE:
        return False


def token_hash(token: str) -> str:
    """Hash a token for who only has to know it again: SHA-256, hex digits."""
    return hashlib.sha256(token.encode()).hexdigest()
