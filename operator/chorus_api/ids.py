"""Numbers and digests that stay the same for the same input."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def message_id(uid: str) -> int:
    """Turn an object's uid into the positive integer that messages carry (project_id, plugin_id); below 2**31."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]) % (2**31 - 1) + 1


def content_hash(value: Any, *, length: int = 10) -> str:
    """Hash any JSON value by its content: the first `length` hex digits of sha256 over canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
