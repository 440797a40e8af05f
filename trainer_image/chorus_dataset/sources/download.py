"""Fetch the file of `spec.dataset.source.uri` to the work directory, within limits.

Nothing of it is read before its digest is right.
"""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from chorus_api.project import UriSource
from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.files import check_room
from chorus_dataset.sources.background import in_background
from chorus_dataset.sources.egress import Egress, refusal
from chorus_dataset.sources.remote import FIELD, open_remote, shown
from chorus_dataset.sources.secret import SourceSecret
from chorus_dataset.untrusted import Directory

LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
_DENIED = (401, 403)
_GONE = (404, 410)
_PASSING = (408, 425, 429)
_URL_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
"""The query of a URL, which may hold a signature."""


@dataclass(frozen=True)
class Limits:
    """What a file may cost: bytes, and seconds from the first request to the last byte."""

    bytes: int
    seconds: float


def download(
    source: UriSource,
    *,
    secret: SourceSecret,
    target: Path,
    egress: Egress,
    limits: Limits,
    check: Callable[[], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Stream a file to `target`. `check` is called about ten times a second, also while a server is slow; it may raise.

    Raises `DataError`: SourceRefused, AccessDenied, FileNotFound, SourceTooLarge, SourceTimeout, DigestMismatch,
    SecretNotFound, and SourceUnreachable, which is worth another try.
    """
    where = shown(source.url)
    end = monotonic() + limits.seconds
    digest, size = hashlib.sha256(), 0

    def check_all() -> None:
        check()
        if monotonic() > end:
            raise DataError(
                Reason.SOURCE_TIMEOUT,
                f"{where} took more than {limits.seconds:g} s; {size:,} bytes had come",
                hint="put the file nearer to the cluster, or make it smaller",
            )

    chunks = in_background(
        _chunks(source.url, secret=secret, egress=egress, limits=limits, folder=target.parent), check=check_all
    )
    with closing(chunks), target.open("wb") as written:
        for chunk in chunks:
            size += len(chunk)
            if size > limits.bytes:
                raise _too_large(where, limits)
            digest.update(chunk)
            written.write(chunk)
    LOG.info("fetched %s: %d bytes", where, size)
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise DataError(
            Reason.DIGEST_MISMATCH,
            f"{where} has the SHA-256 digest {digest.hexdigest()}, not {source.sha256} as"
            " spec.dataset.source.uri.sha256 says; nothing of it was read",
            hint="find out who changed the file; if the new content is right, correct sha256",
        )


def _chunks(
    url: str, *, secret: SourceSecret, egress: Egress, limits: Limits, folder: Path
) -> Generator[bytes, None, None]:
    """Yield a file's content. It blocks: a server that sends a byte now and then can hold any call for hours.

    `egress` stays entered until this ends, also when nobody waits for it any more.
    """

    def asked(work: Callable[[], Any]) -> Any:
        """Only what the network does to us is translated: a full volume is another matter."""
        try:
            return work()
        except Exception as error:
            raise translate(error, url=url, secret=secret, egress=egress) from error

    with (
        egress,
        open_remote(url, secret=secret, egress=egress) as remote,
        asked(lambda: remote.system.open(remote.path, "rb", **remote.options)) as file,
    ):
        _check_size(getattr(file, "size", None), where=shown(url), limits=limits, folder=folder)
        while chunk := asked(lambda: file.read(_CHUNK)):
            yield chunk


def _check_size(size: int | None, *, where: str, limits: Limits, folder: Path) -> None:
    if size is None:
        return
    if size > limits.bytes:
        raise _too_large(where, limits)
    with Directory.at(folder) as volume:
        check_room(volume, size, what=where)


def _too_large(where: str, limits: Limits) -> DataError:
    return DataError(
        Reason.SOURCE_TOO_LARGE,
        f"{where} is larger than {limits.bytes:,} bytes",
        hint="select fewer rows where the file is made, or write it as Parquet",
    )


def translate(error: Exception, *, url: str, secret: SourceSecret, egress: Egress) -> DataError:
    """Say what an error of a file system means for the one who wrote the Project; credentials are not quoted."""
    where, chain = shown(url), list(_chain(error))
    if egress.refused is not None:
        return refusal(egress.refused)
    for each in chain:
        if isinstance(each, DataError):
            return each
    status = next((found for each in chain if (found := _status(each)) is not None), None)
    if status in _DENIED or (status is None and any(isinstance(each, PermissionError) for each in chain)):
        return _denied(where, status, secret)
    if status in _GONE or (status is None and _says_missing(chain)):
        return DataError(Reason.FILE_NOT_FOUND, f"{where} does not exist", hint="check spec.dataset.source.uri.url")
    said = f"HTTP {status}" if status is not None else _words(chain, secret)
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        return DataError(
            Reason.SOURCE_UNREACHABLE,
            f"the certificate of {where} is not trusted: {said}",
            hint="put the authority's certificate into the key ca.crt of the Secret",
        )
    passing = status is None or status >= 500 or status in _PASSING
    return DataError(
        Reason.SOURCE_UNREACHABLE,
        f"{where} cannot be fetched: {said}",
        hint="see whether pods of this namespace may reach it" if passing else "check spec.dataset.source.uri.url",
        retryable=passing,
    )


def _denied(where: str, status: int | None, secret: SourceSecret) -> DataError:
    said = f" (HTTP {status})" if status is not None else ""
    what = f"with the credentials of Secret {secret.name!r}" if secret.given else "without credentials"
    hint = "check that its keys are right and may read the file" if secret.given else f"set {FIELD}"
    return DataError(Reason.ACCESS_DENIED, f"{where} may not be read {what}{said}", hint=hint)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _status(error: BaseException) -> int | None:
    """HTTP status that an error of one of the clients carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:  # the hub's client
        found = getattr(response, "status_code", None)
    else:  # aiohttp, gcsfs
        found = getattr(error, "status", vars(error).get("code") if _is_google(error) else None)
    return (int(found) or None) if str(found).isdecimal() else None


def _is_google(error: BaseException) -> bool:
    return type(error).__module__.startswith("gcsfs")


def _says_missing(chain: list[BaseException]) -> bool:
    """Whether an error says that there is no such file, and not, under that name, that nobody answered."""
    missing = any(isinstance(each, FileNotFoundError) for each in chain)
    network = any(
        isinstance(each, OSError | aiohttp.ClientError) and not isinstance(each, FileNotFoundError) for each in chain
    )
    return missing and not network


def _words(chain: list[BaseException], secret: SourceSecret) -> str:
    """What the innermost error of the network says, in one line."""
    told = next((each for each in chain if not isinstance(each, FileNotFoundError)), chain[0])
    lines = str(told).splitlines()
    said = secret.hide(f"{type(told).__name__}: {lines[0] if lines else 'no further word'}")
    return _URL_QUERY.sub(r"\1", said)[:300]
