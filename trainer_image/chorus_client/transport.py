"""Post one message over HTTPS and say what the answer means for the sender."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

import httpx
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, to_structured_event

from chorus_api.run_config import Messaging
from chorus_client.masking import mask

RETRIED = frozenset({408, 429})
"""Client errors that pass: a timeout, too many messages. All others are final (docs/messages.md)."""


@dataclass(frozen=True)
class Answer:
    """What came of one try."""

    accepted: bool
    retry: bool
    error: str = ""
    retry_after: float | None = None
    """Seconds that the receiver asked to wait."""


class Transport(Protocol):
    """Delivers one message; never raises."""

    def post(self, event: BaseCloudEvent) -> Answer:
        """Try once."""


class HttpTransport:
    """Posts to the control plane, reading the CA bundle and the token again for each message: both are rotated."""

    def __init__(
        self,
        messaging: Messaging,
        *,
        timeout_seconds: float = 10.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._messaging = messaging
        self._timeout = timeout_seconds
        self._now = now

    def post(self, event: BaseCloudEvent) -> Answer:
        """Post the event in CloudEvents' structured mode.

        Connection errors, timeouts, unreadable credentials, 408, 429 and 5xx are worth another try; every other answer
        that is no success is final. A 401 is tried again at once if the token's file has another token by now.
        """
        message = to_structured_event(event)
        try:
            context = ssl.create_default_context(cafile=self._messaging.ca_file)
            token = self._read_token()
            # No environment: a proxy that is set for a model hub must not get in-cluster messages.
            with httpx.Client(verify=context, timeout=self._timeout, trust_env=False) as client:
                response = self._send(client, message, token=token)
                if response.status_code == httpx.codes.UNAUTHORIZED and (renewed := self._read_token()) != token:
                    # The kubelet has renewed it since it was read: the old one had run out.
                    response = self._send(client, message, token=renewed)
        except (httpx.HTTPError, OSError, UnicodeDecodeError) as error:
            return Answer(accepted=False, retry=True, error=mask(f"{type(error).__name__}: {error}"))
        except httpx.InvalidURL as error:
            return Answer(accepted=False, retry=False, error=f"messaging.url {self._messaging.url!r}: {error}")
        return self._read(response)

    def _read_token(self) -> str:
        return Path(self._messaging.token_file).read_text(encoding="ascii").strip()

    def _send(self, client: httpx.Client, message: HTTPMessage, *, token: str) -> httpx.Response:
        headers = {**message.headers, "authorization": f"Bearer {token}"}
        return client.post(self._messaging.url, content=message.body, headers=headers)

    def _read(self, response: httpx.Response) -> Answer:
        if response.is_success:
            return Answer(accepted=True, retry=False)
        error = mask(f"{response.status_code} {response.reason_phrase}: {response.text[:1000]}")
        if response.status_code in RETRIED or response.is_server_error:
            pause = self._retry_after(response.headers.get("retry-after"))
            return Answer(accepted=False, retry=True, error=error, retry_after=pause)
        return Answer(accepted=False, retry=False, error=error)

    def _retry_after(self, header: str | None) -> float | None:
        """Read Retry-After: seconds or a date; None for anything else."""
        if header is None:
            return None
        if header.strip().isdecimal():
            return float(header)
        try:
            return max((parsedate_to_datetime(header) - self._now()).total_seconds(), 0.0)
        except (ValueError, TypeError):
            return None
