"""What a service is sent: CloudEvents with a Standard Webhooks signature, as the operator sends them."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_api.contract import RECIPIENT_ATTRIBUTE
from chorus_conformance.errors import CannotCheck
from chorus_protocol.messages import TYPE_PREFIX, MessageType
from chorus_protocol.webhook_signature import public_key, signed_headers

POST_SECONDS = 10.0
PUBLIC_SUFFIX = ".pub"
CONTENT_TYPE = "application/cloudevents+json"
SOURCE = "/namespaces/chorus-check/plugins/chorus-check"


@dataclass(frozen=True)
class Event:
    """A message to a service. `id` is what the service knows it again by."""

    id: str
    body: bytes


def make_event(
    kind: MessageType,
    *,
    number: str,
    subject: str,
    subject_uid: str,
    attempt: int,
    recipient: str,
    data: Mapping[str, Any],
) -> Event:
    """Write a CloudEvent in structured mode; `recipient`: the URL of the service that it is meant for."""
    event = {
        "specversion": "1.0",
        "id": number,
        "source": SOURCE,
        "type": f"{TYPE_PREFIX}{kind}",
        "datacontenttype": "application/json",
        RECIPIENT_ATTRIBUTE: recipient,
        "subject": subject,
        "subjectuid": subject_uid,
        "attempt": str(attempt),
        "data": data,
    }
    return Event(number, json.dumps(event).encode())


def read_key(path: Path | None) -> Ed25519PrivateKey:
    """Read the key that events are signed with; a fleeting one without a path.

    Where there is none it is made, and its public half is put beside it (.pub), in the form that a service reads.
    """
    if path is None:
        return Ed25519PrivateKey.generate()
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            path.touch(mode=0o600, exist_ok=False)
            path.write_bytes(pem)
            path.with_name(path.name + PUBLIC_SUFFIX).write_text(public_key(made) + "\n", encoding="ascii")
        except OSError as error:
            raise CannotCheck(f"--signing-key {path} cannot be written: {error}") from error
        return made
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CannotCheck(
            f"--signing-key {path} cannot be read: {error}", hint="name a file that is not there: a key is made"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CannotCheck(
            f"--signing-key {path} is no Ed25519 key", hint="name a file that is not there: a key is made"
        )
    return key


async def post(url: str, event: Event, key: Ed25519PrivateKey, *, ca: str | None) -> int | str:
    """Send an event once, without following redirects; the status, or why there is none."""
    context = ssl.create_default_context(cadata=ca) if url.startswith("https:") else True
    signature = signed_headers(key, message_id=event.id, timestamp=int(time.time()), body=event.body)
    headers = {"Content-Type": CONTENT_TYPE, **signature}
    timeout = aiohttp.ClientTimeout(total=POST_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session,
            session.post(url, data=event.body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status
    except TimeoutError:
        return f"it did not answer within {POST_SECONDS:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:500]
