"""Speak to Chorus about one run: messages to its receiver, the frame from the exchange, the artefact to it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

LOG = logging.getLogger(__name__)
SOURCE = "urn:chorus:example:nearest-answer"
TRY_SECONDS = aiohttp.ClientTimeout(total=60)
DELIVER_SECONDS = 300.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class Refused(Exception):
    """Chorus will not take it, however often it is sent."""


class Unreachable(Exception):
    """Chorus was not there for longer than is worth waiting."""


@dataclass
class Correspondence:
    """A line to Chorus about one run, or about the Plugin itself. Numbers its messages."""

    session: aiohttp.ClientSession
    messages_url: str
    messages_tls: ssl.SSLContext
    token: str = field(repr=False)
    subject_uid: str
    attempt: str
    ids: Mapping[str, int]
    """project_id and plugin_id; nothing for ONLINE_REPORT."""
    sequence: int = 0
    instance: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Whose numbers these are: a service that is started again counts from 1 again."""

    async def say(self, kind: str, **data: Any) -> None:
        """Send a message until it is taken. Raises Refused, or Unreachable."""
        self.sequence += 1
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE,
            "type": f"dev.chorus.{kind}",
            "datacontenttype": "application/json",
            "subjectuid": self.subject_uid,
            "attempt": self.attempt,
            "sequence": str(self.sequence),
            "instance": self.instance,
            "data": {**self.ids, **data},
        }
        body = json.dumps(event, allow_nan=False).encode()
        await self._until_taken(
            kind, "POST", self.messages_url, self.messages_tls, body, {"content-type": "application/cloudevents+json"}
        )

    async def fetch(self, url: str, tls: ssl.SSLContext) -> bytes:
        """Get a file of the frame."""
        return await self._until_taken(url, "GET", url, tls, None, {})

    async def put(self, exchange_url: str, name: str, content: bytes, tls: ssl.SSLContext) -> None:
        """Put a file of the artefact into the exchange."""
        digest = {"x-content-sha256": hashlib.sha256(content).hexdigest()}
        await self._until_taken(name, "PUT", exchange_url + name, tls, content, digest)

    async def _until_taken(
        self, what: str, method: str, url: str, tls: ssl.SSLContext, body: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        pause, clock = FIRST_PAUSE_SECONDS, asyncio.get_running_loop().time
        end = clock() + DELIVER_SECONDS
        while True:
            status, text, asked = await self._try(method, url, tls, body, headers)
            if 200 <= status < 300:
                return text
            told = f"{what}: {status or 'nobody answers'}: {text[:500].decode('utf-8', 'replace')}"
            if 300 <= status < 500 and status not in (408, 429):
                raise Refused(told)
            wait = max(pause, min(asked, LONGEST_PAUSE_SECONDS))
            if clock() + wait > end:
                raise Unreachable(told)
            LOG.warning("%s; again in %g s", told, wait)
            await asyncio.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _try(
        self, method: str, url: str, tls: ssl.SSLContext, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, float]:
        """Try once: the status, 0 when nobody answers, what was answered, and the seconds that it asks to wait.

        Redirects are not followed: the token goes to Chorus or nowhere.
        """
        all_headers = {**headers, "authorization": f"Bearer {self.token}"}
        try:
            async with self.session.request(
                method, url, data=body, headers=all_headers, ssl=tls, allow_redirects=False, timeout=TRY_SECONDS
            ) as answer:
                asked = answer.headers.get("Retry-After", "")
                return answer.status, await answer.read(), float(asked) if asked.isdecimal() else 0.0
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}".encode(), 0.0


@asynccontextmanager
async def correspondence(event: Mapping[str, Any]) -> AsyncIterator[Correspondence]:
    """Open the line that an event of Chorus names. Raises KeyError when it names none."""
    data = event["data"]
    ids = {name: data[name] for name in ("project_id", "plugin_id") if name in data}
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Correspondence(
            session=session,
            messages_url=data["messages_url"],
            messages_tls=ssl.create_default_context(cadata=data["messages_ca"]),
            token=data["token"],
            subject_uid=event["subjectuid"],
            attempt=event["attempt"],
            ids=ids,
        )
