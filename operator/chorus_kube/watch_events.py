"""A watch as it comes from the API server: bytes to lines, lines to events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from chorus_kube.errors import Unavailable, from_status
from chorus_kube.resources import Resource

WatchEvent = dict[str, Any]
"""`type` (ADDED, MODIFIED, DELETED or BOOKMARK) and `object`."""

LINE_BYTES = 16 * 1024 * 1024
"""No object of the API server comes near it: its store takes 1.5 MiB, and a request 3."""


class Lines:
    """Joins chunks to lines. Holds one line that has not ended, and never more than `most` bytes of it."""

    def __init__(self, *, most: int = LINE_BYTES):
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """Give the lines that end in this chunk, without their ends. Raises Unavailable at one that is too long.

        The iterator must be read to its end: what is left of the chunk belongs to the next line.
        """
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            line = b"".join(self._parts)
            self._parts, self._size = [], 0
            yield line
        if rest:
            self._add(rest)

    @property
    def has_part(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._parts)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise Unavailable(f"a line of a watch has more than {self._most} bytes", reason="TooLong")
        self._parts.append(part)


def read_event(what: str, line: bytes, resource: Resource) -> WatchEvent:
    """Read an event, its object with its type, which built-in kinds may lack; `what` says what was asked.

    Raises what an ERROR event stands for (Gone: the resource version is too old), and Unavailable when it is no event.
    """
    try:
        event = orjson.loads(line)
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            raise from_status(what, status=int(found.get("code") or 500), answer=found)
        return {"type": kind, "object": {"apiVersion": resource.api_version, "kind": resource.kind} | found}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{what}: not a watch event: {line[:200]!r}", reason="BadEvent") from error
