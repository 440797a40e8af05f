"""What is known of the objects of one kind: the newest state that a watch, a read or an own write has told of.

Three things arrive in any order: events of the watch, which lag; answers to reads; and answers to own writes. Resource
versions say which is newer: they are decimal numbers that rise within one resource (KEP-5504), and mean nothing across
resources. A uid that is gone never comes back, so a tombstone by uid keeps late news of it out.

A store proves that an object was there, and never that one is not: the watch may lag behind its creation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from chorus_kube.text_cache import Place, TextCache

Manifest = dict[str, Any]
Index = Callable[[Manifest], str | None]
"""The value under which an object is found again in its namespace; None when it is not indexed."""

TOMBSTONES = 16384
MAX_OBJECT_BYTES = 1024 * 1024
"""Of an object that is kept. The API server takes 1.5 MiB; a larger one is read when it is needed."""


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    uid: str
    text: bytes | None
    """None: too large to be kept, or pushed out by others."""
    indexed: tuple[str | None, ...]
    content: int
    """Hash of what is kept, but for the resource version."""


class Store:
    """Belongs to one event loop; `peek` may be called from other threads as well."""

    def __init__(
        self,
        *,
        keep: Callable[[Manifest], Manifest] = lambda stored: stored,
        indexes: Mapping[str, Index] | None = None,
        max_object_bytes: int = MAX_OBJECT_BYTES,
        texts: TextCache | None = None,
    ):
        """Make an empty store.

        `keep`: takes from an object what is read of it, its name, namespace, uid and resourceVersion included.
        `indexes`: by name, for `having`. `texts`: where the objects are kept instead, when all of them together must
        stay small; what is pushed out there is read when it is needed.
        """
        self._keep = keep
        self._indexes = dict(indexes or {})
        self._max_object_bytes = max_object_bytes
        self._texts = texts
        self._entries: dict[Place, _Entry] = {}
        self._having: list[dict[tuple[str, str], dict[str, None]]] = [{} for _ in self._indexes]
        self._gone: OrderedDict[str, None] = OrderedDict()  # uids
        self._in_doubt: set[Place] = set()
        self._listed: dict[str | None, int] = {}  # version of the last complete list, by namespace; None: of all

    def __len__(self) -> int:
        return len(self._entries)

    # What it knows

    def get(self, namespace: str, name: str) -> Manifest | None:
        """Give an object, which the caller may change; None when none is kept."""
        entry = self._entries.get((namespace, name))
        if entry is None:
            return None
        text = entry.text if self._texts is None else self._texts.get((namespace, name))
        found: Manifest | None = None if text is None else orjson.loads(text)
        return found

    def peek(self, namespace: str, name: str) -> Manifest | None:
        """Give an object as `get`, from any thread; None as well while its state is in doubt.

        It changes nothing, not even what was used last. Each step is one look-up in a set or a dict, and what is found
        there is never changed. A text is a whole state with its own version, and is dropped before another one takes
        its place: what changes between two steps gives the newer state, or None.
        """
        place = (namespace, name)
        entry = self._entries.get(place)
        if entry is None or place in self._in_doubt:
            return None
        text = entry.text if self._texts is None else self._texts.peek(place)
        found: Manifest | None = None if text is None else orjson.loads(text)
        return found

    def version(self, namespace: str, name: str) -> tuple[str, int] | None:
        """Give the uid and the resource version of an object; None when it is not known to be there."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else (entry.uid, entry.version)

    def content(self, namespace: str, name: str) -> int | None:
        """Give a hash of what is kept of an object: the same for states that differ in what is not; None as `get`."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else entry.content

    def having(self, index: str, namespace: str, value: str) -> list[str]:
        """Name the objects of a namespace with this value under an index, sorted."""
        return sorted(self._having[list(self._indexes).index(index)].get((namespace, value), ()))

    def is_gone(self, uid: str) -> bool:
        """Tell whether an object of this uid was there and was deleted."""
        return uid in self._gone

    def is_in_doubt(self, namespace: str, name: str) -> bool:
        """Tell whether a write has shown that there is a newer state than the one that is known."""
        return (namespace, name) in self._in_doubt

    # What it is told

    def take(self, stored: Manifest) -> bool:
        """Take in a state of an object; False when this or a newer one is known, or it is known to be gone."""
        metadata = stored["metadata"]
        place, uid = (metadata["namespace"], metadata["name"]), metadata["uid"]
        version = int(metadata["resourceVersion"])
        known = self._entries.get(place)
        if uid in self._gone or (known is not None and known.version >= version):
            return False  # which settles no doubt: a watch may repeat the very state that has been doubted
        if (known is None or known.uid != uid) and version <= self._version_listed(place[0]):
            return False  # an answer that was long under way: what a list did not name was gone, and no watch tells so
        if known is not None:
            self._drop(place, known)
            if known.uid != uid:
                self._bury(known.uid)  # the name was given to another object, so the one before it is gone
        # orjson leaves several times the room of the text allocated behind it: a copy has its own size.
        text = bytes(memoryview(orjson.dumps(self._keep(stored))))
        kept = text if len(text) <= self._max_object_bytes else None
        indexed = tuple(index(stored) for index in self._indexes.values())
        content = hash(text.replace(b'"resourceVersion":"%d"' % version, b""))
        self._entries[place] = _Entry(version, uid, kept if self._texts is None else None, indexed, content)
        if self._texts is not None and kept is not None:
            self._texts.put(place, kept)
        for having, value in zip(self._having, indexed, strict=True):
            if value is not None:
                having.setdefault((place[0], value), {})[place[1]] = None
        self._in_doubt.discard(place)
        return True

    def remove(self, namespace: str, name: str, uid: str) -> bool:
        """Take in that the object of this uid is gone; False when the store did not have it."""
        self._bury(uid)
        place = (namespace, name)
        known = self._entries.get(place)
        if known is None or known.uid != uid:
            return False
        self._drop(place, known)
        self._in_doubt.discard(place)
        return True

    def replace(self, listed: Collection[str], *, version: int, namespace: str | None = None) -> list[Manifest]:
        """Remove what a complete list did not name, and give that as far as it was kept.

        `listed`: the uids in it; `version`: of the list; `namespace`: the one that was listed, or None for all. What
        was told since, by an own write, has a higher version, and stays.
        """
        removed = []
        self._listed[namespace] = max(version, self._listed.get(namespace, 0))
        for place, entry in list(self._entries.items()):
            if namespace not in (None, place[0]) or entry.uid in listed or entry.version > version:
                continue
            last = self.get(*place) or {
                "metadata": {"namespace": place[0], "name": place[1], "uid": entry.uid, "labels": {}}
            }
            self.remove(*place, entry.uid)
            removed.append(last)
        return removed

    def doubt(self, namespace: str, name: str) -> None:
        """Note that there is a newer state, which must be read: a precondition on the known one has failed."""
        self._in_doubt.add((namespace, name))

    def settle(self, namespace: str, name: str) -> None:
        """Note that a read has shown what there is."""
        self._in_doubt.discard((namespace, name))

    def _version_listed(self, namespace: str) -> int:
        return max(self._listed.get(None, 0), self._listed.get(namespace, 0))

    def _drop(self, place: Place, entry: _Entry) -> None:
        del self._entries[place]
        if self._texts is not None:
            self._texts.discard(place)
        for having, value in zip(self._having, entry.indexed, strict=True):
            if value is not None:
                names = having[place[0], value]
                del names[place[1]]
                if not names:
                    del having[place[0], value]

    def _bury(self, uid: str) -> None:
        self._gone[uid] = None
        self._gone.move_to_end(uid)
        while len(self._gone) > TOMBSTONES:
            self._gone.popitem(last=False)
