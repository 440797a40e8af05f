"""Locks of Python packages as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)(?: ;[^\\]*)?(?:\s*\\)?")
_DIGEST = re.compile(r"\s+--hash=(\S+)(?:\s*\\)?")


def read_lock(lock: Path) -> dict[str, dict[str, set[str]]]:
    """Digests of the files of each version of each package, by normalised names."""
    found: dict[str, dict[str, set[str]]] = {}
    digests: set[str] = set()
    for line in lock.read_text(encoding="utf-8").splitlines():
        if digest := _DIGEST.fullmatch(line):
            digests.add(digest[1])
            continue
        pin = _PIN.fullmatch(line)
        assert pin, f"{lock.name}: {line!r} is not NAME==VERSION"
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        digests = found.setdefault(name, {}).setdefault(pin[2], set())
    return found
