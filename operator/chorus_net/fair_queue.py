"""A queue that takes from each peer in turn, and of each peer's items the newest first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class FairQueue(Generic[Item]):
    """Items of peers, taken in turn. When it is full, the peer with the most items loses the one that waits longest.

    Newest first, because a peer that floods the queue may share its address with one that does not: behind thousands
    the latter's item would come too late, and what waited longest is the least likely to be still wanted.
    """

    def __init__(self, *, size: int | None = None):
        """`size`: how many items there is room for; without a bound when None."""
        self._size = size
        self._items: OrderedDict[str, dict[Item, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, item: Item, *, peer: str) -> Item | None:
        """Add an item; give the one that had to leave for it, if any."""
        displaced = self._displace() if self._length == self._size else None
        self._items.setdefault(peer, {})[item] = None
        self._length += 1
        return displaced

    def take(self) -> Item:
        """Take the newest item of the peer whose turn it is; IndexError when there is none."""
        if not self._items:
            raise IndexError("the queue is empty")
        peer = next(iter(self._items))
        item, _ = self._items[peer].popitem()
        self._length -= 1
        self._items.move_to_end(peer)
        self._forget_if_empty(peer)
        return item

    def discard(self, item: Item, *, peer: str) -> None:
        """Remove an item if it is still there."""
        items = self._items.get(peer, {})
        if item in items:
            del items[item]
            self._length -= 1
            self._forget_if_empty(peer)

    def _displace(self) -> Item:
        peer = max(self._items, key=lambda name: len(self._items[name]))
        oldest = next(iter(self._items[peer]))
        self.discard(oldest, peer=peer)
        return oldest

    def _forget_if_empty(self, peer: str) -> None:
        if not self._items[peer]:
            del self._items[peer]
