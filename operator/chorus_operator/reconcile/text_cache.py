"""Texts of objects, bounded in bytes: in total, and for each namespace, so that none pushes out those of others."""

from __future__ import annotations

from collections import OrderedDict

Place = tuple[str, str]
"""A namespace and a name."""


class TextCache:
    """Keeps the ASCII texts that were used last; whoever finds none reads the object."""

    def __init__(self, *, most_bytes: int, most_bytes_of_namespace: int):
        self._most_bytes = most_bytes
        self._most_bytes_of_namespace = most_bytes_of_namespace
        self._texts: OrderedDict[Place, str] = OrderedDict()  # the longest unused first
        self._names: dict[str, OrderedDict[str, None]] = {}  # by namespace, in the same order
        self._bytes: dict[str, int] = {}  # by namespace
        self._total = 0

    def get(self, place: Place) -> str | None:
        """Give a text, which then counts as used; None when it is not kept."""
        text = self._texts.get(place)
        if text is not None:
            self._texts.move_to_end(place)
            self._names[place[0]].move_to_end(place[1])
        return text

    def put(self, place: Place, text: str) -> None:
        """Keep a text: the longest unused of its namespace, and then of all, make room for it."""
        self.discard(place)
        namespace, name = place
        self._texts[place] = text
        self._names.setdefault(namespace, OrderedDict())[name] = None
        self._count(namespace, len(text))
        while self._bytes.get(namespace, 0) > self._most_bytes_of_namespace:
            self.discard((namespace, next(iter(self._names[namespace]))))
        while self._total > self._most_bytes:
            self.discard(next(iter(self._texts)))

    def discard(self, place: Place) -> None:
        """Forget a text if it is kept."""
        text = self._texts.pop(place, None)
        if text is None:
            return
        namespace, name = place
        del self._names[namespace][name]
        self._count(namespace, -len(text))
        if not self._names[namespace]:
            del self._names[namespace], self._bytes[namespace]

    def _count(self, namespace: str, difference: int) -> None:
        self._bytes[namespace] = self._bytes.get(namespace, 0) + difference
        self._total += difference
