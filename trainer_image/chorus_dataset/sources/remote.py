"""The file systems of `spec.dataset.source.uri`: one for each scheme, with the credentials of its Secret.

Without a Secret every one of them is asked without credentials: none may look for some in its surroundings, where it
would find those of the node.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing
from chorus_dataset.sources.egress import Egress, refusal
from chorus_dataset.sources.secret import SourceSecret

FIELD = "spec.dataset.source.uri.secretRef"
CONNECT_SECONDS = 15
READ_SECONDS = 60
BLOCK_BYTES = 8 << 20
_HUB = re.compile(
    r"hf://datasets/(?P<owner>[^/]+)/(?P<name>[^/@]+)(?:@(?P<early>[^/]+))?/(?P<path>.+?)(?:@(?P<late>[^@]+))?"
)
_GOOGLE_TYPES = ("service_account", "authorized_user")


@dataclass(frozen=True)
class Remote:
    """A file system, and how the file is opened in it."""

    system: Any
    path: str
    options: dict[str, Any] = field(default_factory=dict)


def shown(url: str) -> str:
    """A URL for messages: without the query, which may hold a signature."""
    return url.partition("?")[0]


def file_name(url: str) -> str:
    """The last part of the path that a URL names, without query and revision."""
    path = _hub_parts(url)["path"] if url.startswith("hf://") else urlsplit(url).path if "?" in url else url
    return path.rstrip("/").rpartition("/")[2]


@contextmanager
def open_remote(url: str, *, secret: SourceSecret, egress: Egress) -> Iterator[Remote]:
    """Give the file system of a URL; connections are closed in the end. `DataError` for credentials of no use."""
    scheme = url.partition("://")[0]
    makers: dict[str, Callable[[str, SourceSecret, Egress], Remote]] = {
        "https": _web,
        "s3": _s3,
        "gs": _google,
        "hf": _hub,
    }
    if scheme not in makers:
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.source.uri.url: {scheme}:// is not known",
            hint="use https://, s3://, gs:// or hf://",
        )
    if secret.given and not secret.keys():
        raise secret.missing(
            {"https": "token", "s3": "access-key-id", "gs": "credentials.json"}.get(scheme, "token"), field=FIELD
        )
    remote = makers[scheme](url, secret, egress)
    try:
        yield remote
    finally:
        _close(remote.system)


def _close(system: Any) -> None:
    session = getattr(system, "_session", None)
    if isinstance(session, aiohttp.ClientSession) and not session.closed:
        sync(system.loop, session.close)


def _web(url: str, secret: SourceSecret, egress: Egress) -> Remote:
    egress.check_url(url)
    headers = {"Accept-Encoding": "identity"}
    if secret.given:
        authorization = secret.get("authorization")
        token = secret.get("token")
        if authorization is not None or token is not None:
            parts = urlsplit(url)
            secret.must_name(parts.hostname or "", parts.port, field=FIELD)
            headers["Authorization"] = authorization or f"Bearer {token}"
        elif secret.path("ca.crt") is None:
            raise secret.missing("authorization or token", field=FIELD)
    context = _tls(secret)

    async def client(**_: Any) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_redirects(egress))
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            trace_configs=[trace],
            trust_env=False,
        )

    system = HTTPFileSystem(get_client=client, skip_instance_cache=True, use_listings_cache=False)
    return Remote(system, url, {"block_size": 0})


def _redirects(egress: Egress) -> Callable[..., Any]:
    """Look at where a server sends us before anybody goes there."""

    async def check(_: Any, __: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams) -> None:
        location = redirect.response.headers.get("Location") or redirect.response.headers.get("URI") or ""
        target = urljoin(str(redirect.url), location)
        if not target.startswith("https://"):
            raise refusal(f"{shown(target)}, where {redirect.url.host} redirects: it is not https")
        egress.check_url(target)

    return check


def _tls(secret: SourceSecret) -> ssl.SSLContext:
    """The system's authorities, and that of the Secret's `ca.crt`."""
    context = ssl.create_default_context()
    if (text := secret.get("ca.crt")) is not None:
        try:
            context.load_verify_locations(cadata=text)
        except ssl.SSLError as error:
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"Secret {secret.name}, key ca.crt holds no certificates",
                hint="it must be one or more certificates in PEM",
            ) from error
    return context


def _s3(url: str, secret: SourceSecret, egress: Egress) -> Remote:
    from s3fs import S3FileSystem

    client: dict[str, Any] = {}
    keys: dict[str, Any] = {"anon": True}
    if secret.given:
        names = ("access-key-id", "secret-access-key")
        if any(secret.path(name) for name in names):
            key, value = secret.need(*names, field=FIELD)
            keys = {"key": key, "secret": value, "token": secret.get("session-token")}
        elif not any(secret.path(name) for name in ("endpoint-url", "region", "ca.crt")):
            raise secret.missing(" and ".join(names), field=FIELD)
        if (region := secret.get("region")) is not None:
            client["region_name"] = region
        if secret.path("ca.crt") is not None:
            _tls(secret)
            client["verify"] = str(secret.path("ca.crt"))
    endpoint = secret.get("endpoint-url")
    if endpoint is not None:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"Secret {secret.name}, key endpoint-url is no http:// or https:// address",
                hint="write it as https://host:port",
            )
        egress.check_url(endpoint)
    # aiobotocore says every credential that it finds at the level INFO.
    logging.getLogger("aiobotocore.credentials").setLevel(logging.WARNING)
    system = S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs=client,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 2},
            "s3": {"addressing_style": "path"} if endpoint else {},
        },
        skip_instance_cache=True,
        use_listings_cache=False,
        **keys,
    )
    # Its own tries come on top of the client's, and the Job's on top of both.
    system.retries = 2
    return Remote(system, url.removeprefix("s3://"), {"block_size": BLOCK_BYTES, "cache_type": "readahead"})


def _google(url: str, secret: SourceSecret, egress: Egress) -> Remote:
    # The plain one: what gcsfs gives by itself asks a second service, by gRPC, what kind of bucket it is.
    from gcsfs.core import GCSFileSystem

    token: Any = "anon"
    if secret.given and (secret.path("credentials.json") is not None or secret.path("endpoint-url") is None):
        [text] = secret.need("credentials.json", field=FIELD)
        token = _google_credentials(text, secret=secret, egress=egress)
    endpoint = secret.get("endpoint-url")
    if endpoint is not None:
        egress.check_url(endpoint)
    system = GCSFileSystem(
        token=token,
        access="read_only",
        endpoint_url=endpoint,
        requests_timeout=READ_SECONDS,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    return Remote(system, url.removeprefix("gs://"), {"block_size": BLOCK_BYTES, "cache_type": "readahead"})


def _google_credentials(text: str, *, secret: SourceSecret, egress: Egress) -> dict[str, Any]:
    """Read a key file. Kinds of credentials that run programs or ask other servers for a token are not taken."""
    try:
        credentials = json.loads(text)
    except ValueError:
        credentials = None
    kind = credentials.get("type") if isinstance(credentials, dict) else None
    if not isinstance(credentials, dict) or kind not in _GOOGLE_TYPES:
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"Secret {secret.name}, key credentials.json is not of a type that is taken: {listing(_GOOGLE_TYPES)}",
            hint="store the JSON key of a service account that may read the bucket",
        )
    egress.check_url(str(credentials.get("token_uri", "")))
    return credentials


def _hub(url: str, secret: SourceSecret, egress: Egress) -> Remote:
    from huggingface_hub import HfFileSystem

    parts = _hub_parts(url)
    token = (
        secret.need("token", field=FIELD)[0]
        if secret.given and secret.path("endpoint-url") is None
        else secret.get("token")
    )
    endpoint = secret.get("endpoint-url")
    if endpoint is not None:
        egress.check_url(endpoint)
    system = HfFileSystem(endpoint=endpoint, token=token or False, skip_instance_cache=True, use_listings_cache=False)
    path = f"datasets/{parts['owner']}/{parts['name']}/{parts['path']}"
    revision = parts["late"] or parts["early"]
    return Remote(system, path, {"block_size": 0, **({"revision": revision} if revision else {})})


def _hub_parts(url: str) -> dict[str, str]:
    match = _HUB.fullmatch(url)
    if match is None:
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"spec.dataset.source.uri.url: {shown(url)} names no file of a data set",
            hint="use hf://datasets/owner/name/path, with @revision at the end if need be",
        )
    return {key: value or "" for key, value in match.groupdict().items()}
