"""Send messages to Chorus: CloudEvents by HTTPS, in order, again and again until they are taken, beside the training.

Only the standard library is needed, and `http.client` follows no redirect and knows no proxy: the token goes to Chorus
or nowhere.
"""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tabular_classifier.surroundings import Channel

LOG = logging.getLogger(__name__)
SOURCE = "urn:chorus:example:tabular-classifier"
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
PROGRESS_SECONDS = 1.0
"""Least time between two progress messages: a newer one takes the place of one that waits."""


@dataclass(frozen=True)
class Answer:
    """What became of one try: a status of HTTP, or 0 when nobody answered."""

    status: int
    text: str = ""
    asked: float = 0.0
    """Seconds that the receiver asks to wait."""

    @property
    def taken(self) -> bool:
        """Whether the message has arrived."""
        return 200 <= self.status < 300

    @property
    def again(self) -> bool:
        """Whether to try once more; every other refusal is final."""
        return self.status in (0, 408, 429) or self.status >= 500


class Mail:
    """Posts one event."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def post(self, event: Mapping[str, Any]) -> Answer:
        """Try once. Token and authorities are read each time, for both are renewed while a pod runs."""
        address = urlsplit(self._channel.url)
        try:
            token = self._channel.token_file.read_text(encoding="ascii").strip()
            context = ssl.create_default_context(cafile=self._channel.ca_file)
            connection = http.client.HTTPSConnection(
                address.hostname or "", address.port or 443, context=context, timeout=TIMEOUT_SECONDS
            )
            try:
                headers = {"content-type": "application/cloudevents+json", "authorization": f"Bearer {token}"}
                connection.request("POST", address.path, json.dumps(event, allow_nan=False), headers)
                response = connection.getresponse()
                text = response.read(2000).decode("utf-8", "replace")
                asked = response.headers.get("Retry-After", "")
                return Answer(response.status, text, float(asked) if asked.isdecimal() else 0.0)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, f"{type(error).__name__}: {error}")


@dataclass
class _Waiting:
    """What the sending thread has to do."""

    queue: deque[dict[str, Any]] = field(default_factory=deque)
    progress: tuple[str, Mapping[str, Any]] | None = None
    sequence: int = 0
    closing: bool = False
    ended: bool = False
    refused: list[str] = field(default_factory=list)


class Sender:
    """Sends what it is given from a thread of its own, so that training never waits for the network."""

    def __init__(self, mail: Mail, *, subject_uid: str, attempt: int) -> None:
        self._mail = mail
        self._subject_uid = subject_uid
        self._attempt = attempt
        self._waiting = _Waiting()
        self._changed = threading.Condition()
        self._progress_sent = -PROGRESS_SECONDS
        threading.Thread(target=self._work, name="messages", daemon=True).start()

    def send(self, kind: str, data: Mapping[str, Any]) -> None:
        """Queue a message that must arrive; progress that still waits is given up for it."""
        with self._changed:
            self._waiting.progress = None
            self._waiting.queue.append(self._event(kind, data))
            self._changed.notify_all()

    def progress(self, data: Mapping[str, Any]) -> None:
        """Offer a progress message; one that still waits is given up for it."""
        with self._changed:
            self._waiting.progress = ("progress", data)
            self._changed.notify_all()

    def close(self, *, seconds: float) -> list[str]:
        """Deliver what waits within so many seconds; return the names of the messages that did not arrive."""
        with self._changed:
            self._waiting.closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting.ended, timeout=seconds)
            self._waiting.ended = True
            self._changed.notify_all()
            return [*self._waiting.refused, *(_name(queued) for queued in self._waiting.queue)]

    def _event(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        self._waiting.sequence += 1
        return {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE,
            "type": f"dev.chorus.{kind}",
            "datacontenttype": "application/json",
            "subjectuid": self._subject_uid,
            "attempt": str(self._attempt),
            "sequence": str(self._waiting.sequence),
            "data": dict(data),
        }

    def _work(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while (event := self._next()) is not None:
            answer = self._mail.post(event)
            with self._changed:
                if self._settle(event, answer):
                    pause = FIRST_PAUSE_SECONDS
                    continue
                asked = min(answer.asked, LONGEST_PAUSE_SECONDS)
                self._changed.wait_for(lambda: self._waiting.ended, timeout=max(pause, asked))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS if not self._waiting.closing else 2.0)

    def _next(self) -> dict[str, Any] | None:
        """Wait for the next event; None at the end. Progress goes when nothing else waits."""
        with self._changed:
            while not self._waiting.ended:
                if self._waiting.queue:
                    return self._waiting.queue[0]
                due = self._progress_sent + PROGRESS_SECONDS - time.monotonic()
                if self._waiting.progress is not None and (due <= 0 or self._waiting.closing):
                    (kind, data), self._waiting.progress = self._waiting.progress, None
                    self._progress_sent = time.monotonic()
                    return self._event(kind, data)
                if self._waiting.closing:
                    self._waiting.ended = True
                    self._changed.notify_all()
                    return None
                self._changed.wait(timeout=due if self._waiting.progress is not None else None)
            return None

    def _settle(self, event: dict[str, Any], answer: Answer) -> bool:
        """Strike the event off the list unless it is to be sent again. Progress never is: the next one says more."""
        if not answer.taken:
            LOG.log(logging.WARNING if answer.again else logging.ERROR, "%s was not taken: %s", _name(event), answer)
        if _name(event) == "progress":
            return True
        if answer.again:
            return False
        self._waiting.queue.popleft()
        if not answer.taken:
            self._waiting.refused.append(_name(event))
        return True


def _name(event: Mapping[str, Any]) -> str:
    return str(event["type"]).removeprefix("dev.chorus.")
