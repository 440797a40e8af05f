"""One write to a run at a time: the receiver's own writes would only run into each other."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class RunLocks:
    """A lock for each run that is being written, by its uid. Belongs to one event loop."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, uid: str) -> asyncio.Lock:
        """Give the lock of a run; it is there as long as somebody holds it, or waits for it."""
        return self._locks.setdefault(uid, asyncio.Lock())
