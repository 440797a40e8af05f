"""Events: what users read at the end of `kubectl describe`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chorus_api.ids import content_hash
from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists
from chorus_kube.resources import EVENTS


def event_manifest(
    about: dict[str, Any], *, reason: str, message: str, now: datetime, warning: bool = False, occurrence: str = ""
) -> dict[str, Any]:
    """Build the Event that says something about an object.

    Its name comes from its content, so saying the same thing again (after a crash, from a second replica) is
    harmless; `occurrence` tells apart things that read the same, such as attempts.
    """
    metadata = about["metadata"]
    digest = content_hash([metadata["uid"], reason, message, occurrence], length=16)
    time = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": f"{metadata['name'][:200]}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message[:1024],
        "type": "Warning" if warning else "Normal",
        "source": {"component": "chorus"},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


async def emit_event(
    kube: Kube,
    about: dict[str, Any],
    *,
    reason: str,
    message: str,
    now: datetime,
    warning: bool = False,
    occurrence: str = "",
) -> None:
    """Tell users what happened to an object (`event_manifest`); emitted before, it is not emitted again.

    Raises any other `KubeError`.
    """
    event = event_manifest(about, reason=reason, message=message, now=now, warning=warning, occurrence=occurrence)
    try:
        await kube.create(event)
    except AlreadyExists:
        return
