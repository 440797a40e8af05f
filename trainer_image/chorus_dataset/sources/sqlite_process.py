"""The process that runs a query over a SQLite database: its parts, its limits, its end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chorus_dataset.sources.sqlite_query import LENGTH_BYTES, Asked

POLL_SECONDS = 0.1
CPU_GRACE_SECONDS = 30
"""By so much the kernel ends the process later than we do, should this process be gone."""
_PART_BYTES = 2 << 30
_READ_BYTES = 1 << 20


class OutOfTime(Exception):
    """The query has taken longer than it may."""


class OutOfSpace(Exception):
    """The query has written more temporary files than it may."""


class QueryProcess:
    """Runs a query and gives its parts.

    `seconds` limits the time that is waited for it, `spill_bytes` all temporary files that are open at once. `check` is
    called about ten times a second while it is waited for, and may raise.
    """

    def __init__(
        self,
        copy: Path,
        *,
        query: str,
        seconds: float,
        spill_bytes: int,
        spill_dir: Path,
        check: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._copy = copy
        self._seconds = seconds
        self._spill_bytes = spill_bytes
        self._check = check
        self._monotonic = monotonic
        self._spent = 0.0
        self._read = b""
        asked = Asked(str(copy), query, spill_bytes, int(seconds) + CPU_GRACE_SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chorus_dataset.sources.sqlite_query"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SQLITE_TMPDIR": str(spill_dir)},
        )
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(asked.to_json())

    def part(self) -> dict[str, Any]:
        """Wait for the next part. Raises OutOfTime, OutOfSpace, what `check` raises, and EOFError if it died."""
        since = self._monotonic()
        try:
            length = int.from_bytes(self._bytes(LENGTH_BYTES, since), "big")
            if length > _PART_BYTES:
                raise EOFError(f"a part of {length:,} bytes")
            part = json.loads(self._bytes(length, since))
        finally:
            self._spent += self._monotonic() - since
        if not isinstance(part, dict):
            raise EOFError("a part that is none")
        return part

    def close(self) -> None:
        """End the process at once, wherever it is."""
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()

    def _bytes(self, count: int, since: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        found, size = [self._read], len(self._read)
        while size < count:
            self._check()
            if self._spent + self._monotonic() - since > self._seconds:
                raise OutOfTime
            if not select.select([pipe], [], [], POLL_SECONDS)[0]:
                if self._spilled() > self._spill_bytes:
                    raise OutOfSpace
                continue
            chunk = os.read(pipe, _READ_BYTES)
            if not chunk:
                raise EOFError(f"exit status {self._process.wait()}")
            found.append(chunk)
            size += len(chunk)
        whole = b"".join(found)
        self._read = whole[count:]
        return whole[:count]

    def _spilled(self) -> int:
        """Size of the temporary files, which have no names any more."""
        folder = f"/proc/{self._process.pid}/fd"
        own = {_identity(path) for path in self._copy.parent.glob(f"{self._copy.name}*")}
        size = 0
        try:
            for name in os.listdir(folder):
                status = _status(f"{folder}/{name}")
                if status is not None and (status.st_dev, status.st_ino) not in own:
                    size += status.st_blocks * 512
        except OSError:
            return 0  # it has just ended
        return size


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    status = _status(path)
    return (status.st_dev, status.st_ino) if status is not None else None
