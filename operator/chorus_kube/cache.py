"""A small memory of answers: bounded in size and age."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Holds at most `size` values, each for as many seconds as it was put in for; the least used go first."""

    def __init__(self, *, size: int, clock: Callable[[], float]):
        self._size = size
        self._clock = clock
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Give the value, or None when it is unknown or too old."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= self._clock():
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return found[1]

    def discard(self, key: K) -> None:
        """Forget a value if it is kept."""
        self._values.pop(key, None)

    def put(self, key: K, value: V, *, seconds: float) -> None:
        """Keep a value for `seconds`."""
        self._values[key] = (self._clock() + seconds, value)
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
