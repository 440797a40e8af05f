"""The Events about a Job, a pod or a claim that is blocked: why, in the words of who blocks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from chorus_client.masking import mask
from chorus_kube.client import Kube
from chorus_kube.errors import Forbidden
from chorus_kube.resources import EVENTS
from chorus_operator.decisions.observed import EventView, JobView, PodView, newest, parse_time
from chorus_operator.decisions.startup import is_blocked, waits_for_claim

MOST_READ = 100
"""Of all that the API server has about an object: whoever may write Events can write thousands."""
MOST = 20
MAX_MESSAGE = 1000


async def read_events(
    kube: Kube, namespace: str, job: JobView | None, pods: Sequence[PodView], *, claim: str, now: datetime
) -> Sequence[EventView]:
    """Read the newest Events about what blocks a Job's pod, oldest first; none while nothing is blocked.

    A list of Events costs the API server a look at all of the namespace, so it is asked for only then. Without the
    right to list them (an older Role) there are none.
    """
    pod = newest(pods)
    if job is None or not is_blocked(job, pod, now=now):
        return ()
    wanted = [{"involvedObject.uid": pod.uid if pod is not None else job.uid}]
    if pod is not None and waits_for_claim(pod):
        wanted.append({"involvedObject.kind": "PersistentVolumeClaim", "involvedObject.name": claim})
    try:
        found = [
            each
            for fields in wanted
            for each in await kube.list(EVENTS, namespace=namespace, fields=fields, most=MOST_READ)
        ]
    except Forbidden:
        return ()
    return tuple(sorted(map(_event, found), key=lambda each: each.time)[-MOST:])


def _seconds(stored: Mapping[str, Any], *names: str) -> float:
    """Read the first time that is there; 0 where none can be read, for anybody may write an Event."""
    written = [stored.get(name) for name in names] + [stored["metadata"].get("creationTimestamp")]
    try:
        time = parse_time(next((each for each in written if each), None))
        return time.timestamp() if time is not None else 0.0
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _event(stored: Mapping[str, Any]) -> EventView:
    about = stored.get("involvedObject", {})
    last = _seconds(stored, "lastTimestamp", "eventTime")
    return EventView(
        kind=str(about.get("kind", "")),
        name=str(about.get("name", "")),
        reason=str(stored.get("reason", "")),
        message=mask(str(stored.get("message", "")))[:MAX_MESSAGE],
        time=last,
        since=_seconds(stored, "firstTimestamp", "eventTime"),
    )
