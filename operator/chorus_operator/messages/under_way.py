"""How many messages of a sender and of a namespace are under way at once: each holds its body and may wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from chorus_protocol.refusals import Cause, Refused

OF_SENDER = 8
OF_SERVICE_POD = 32
"""Of a service's pod, which may serve many runs."""
OF_NAMESPACE = 64
RETRY_SECONDS = 1.0


class UnderWay:
    """Counts messages from before their bodies are read until they are answered. Belongs to one event loop."""

    def __init__(self) -> None:
        self._senders: Counter[Hashable] = Counter()
        self._namespaces: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._namespaces.total()

    @contextmanager
    def one_more(self, *, sender: Hashable, namespace: str, limit: int) -> Iterator[None]:
        """Count a message while the block runs; Refused (tooManyMessages) when as many as allowed are under way."""
        if self._senders[sender] >= limit:
            raise _too_many("this sender", limit)
        if self._namespaces[namespace] >= OF_NAMESPACE:
            raise _too_many(f"namespace {namespace}", OF_NAMESPACE)
        self._senders[sender] += 1
        self._namespaces[namespace] += 1
        try:
            yield
        finally:
            _count_down(self._senders, sender)
            _count_down(self._namespaces, namespace)


def _count_down(counts: Counter[Any], key: Hashable) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]  # so that no more is kept than is under way


def _too_many(whose: str, limit: int) -> Refused:
    return Refused(
        Cause.TOO_MANY_MESSAGES,
        f"{limit} messages of {whose} are under way, which are as many as are taken at once; send it again in "
        f"{RETRY_SECONDS:g} s",
        retry_after=RETRY_SECONDS,
    )
