"""How soon a Project's status is written again: a write costs the API server as much as a dozen reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chorus_api.phases import FINAL
from chorus_api.project import ProjectStatus

SECONDS = 1.0
SECONDS_FOR_PROGRESS = 5.0
"""Between writes that tell only how far runs have come which have not ended: their own statuses say so at once."""


def seconds_between_writes(before: Mapping[str, Any], after: ProjectStatus) -> float:
    """Give the least seconds between the last write and one of this status; `before`: the status that is stored."""
    now = after.model_dump(mode="json", by_alias=True, exclude_none=True)
    ended = _ended(before.get("plugins", ())) != _ended(now.get("plugins", ()))
    others = before.keys() | now.keys()
    same = all(before.get(name) == now.get(name) for name in others - {"plugins", "message", "reason", "conditions"})
    return SECONDS_FOR_PROGRESS if same and not ended else SECONDS


def _ended(rows: Any) -> dict[str, Any]:
    return {row["name"]: (row.get("run"), row.get("phase")) for row in rows if row.get("phase") in FINAL}
