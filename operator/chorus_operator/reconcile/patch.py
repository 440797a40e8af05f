"""The smallest merge patch from the status that was read to the status that was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

RECEIVERS_PART = frozenset({"report", "progress"})
"""Blocks of a run's status that the message receiver alone writes."""


def status_patch(before: Mapping[str, Any], after: BaseModel) -> dict[str, Any]:
    """Compare a stored status with a decided one; empty when nothing changed."""
    wanted = after.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(RECEIVERS_PART))
    known = {key: value for key, value in before.items() if key not in RECEIVERS_PART}
    return merge_patch(known, wanted)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Build a JSON merge patch (RFC 7386) that turns `before` into `after`."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if key in before and old == value:
            continue  # nearly all of a status: the comparison of whole dicts is many times faster than what follows
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in before or not _same(old, value):
            patch[key] = value
    return patch


def _same(old: object, new: object) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return old == new
