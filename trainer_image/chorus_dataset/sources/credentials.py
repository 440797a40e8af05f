"""Where a credential may be sent: where its Secret says, and a Kubernetes service account's token nowhere.

Whoever may write Projects can name any Secret of the namespace and any host. So the Secret must name the hosts that it
is for, and only who may write Secrets decides that.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from urllib.parse import unquote

from chorus_net.addresses import is_well_spelt, pair, plain_host, split_port

HOSTS_KEY = "hosts"
HTTPS_PORT = 443
SERVICE_ACCOUNT_KEYS = frozenset({"ca.crt", "namespace", "token"})
"""The keys of a Secret of type kubernetes.io/service-account-token."""
_BETWEEN_HOSTS = re.compile(r"[\s,]+")
_NO_TOKEN = re.compile(r"[^A-Za-z0-9_=.+/-]+")
_LEAST_CLAIMS = 32
"""Characters of the shortest claims that name a service account."""
_SPACE = re.compile(r"\s+")


def names_host(hosts: str, host: str, port: int | None) -> bool:
    """Whether a key `hosts` names a host: `host` for the port of https, `host:port` for another.

    Names are separated by white space or commas, and match as a whole. What cannot be read names nothing.
    """
    wanted = _written(host, port)
    return wanted is not None and any(_read(name) == wanted for name in _BETWEEN_HOSTS.split(hosts) if name)


def _read(name: str) -> str | None:
    try:
        return _written(*split_port(name))
    except ValueError:
        return None


def _written(host: str, port: int | None) -> str | None:
    """Write a host and its port in one form; None for a host that another program may read as another one."""
    return pair(plain_host(host), port or HTTPS_PORT) if is_well_spelt(host) else None


def holds_service_account_token(text: str) -> bool:
    """Whether a text has a service account's token in it: by itself, in a URL, a header, or in base64."""
    return any(_is_of_service_account(part) for form in _forms(text) for part in _parts(form))


def _forms(text: str) -> Iterator[str]:
    yield text
    yield unquote(text)
    yield _SPACE.sub("", text)  # broken into lines
    for word in _SPACE.split(text):
        if (found := _decoded(word)) is not None:  # Basic, or a Secret's value that was encoded twice
            yield found.decode("utf-8", "replace")


def _parts(text: str) -> Iterator[str]:
    """What may be the middle of a token: between two dots."""
    for word in _NO_TOKEN.split(text):
        yield from (part for part in word.split(".")[1:-1] if len(part) >= _LEAST_CLAIMS)


def _is_of_service_account(part: str) -> bool:
    found = _decoded(part)
    if found is None or not found.lstrip().startswith(b"{"):
        return False
    try:
        claims = json.loads(found)
    except (ValueError, RecursionError):
        return False
    if not isinstance(claims, dict):
        return False
    said = (str(claims.get("sub")), str(claims.get("iss")))
    return any(name.startswith("kubernetes.io") for name in claims) or any(
        text.startswith("system:serviceaccount:") or text == "kubernetes/serviceaccount" for text in said
    )


def _decoded(text: str) -> bytes | None:
    """Decode base64 of either alphabet, with or without its end; None for what is none."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
