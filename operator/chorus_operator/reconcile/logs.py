"""The part of a failed container's log that goes into status: bounded, and with secrets masked."""

from __future__ import annotations

from collections.abc import Sequence

from chorus_client.masking import mask
from chorus_kube.client import Kube
from chorus_operator.decisions.observed import PodView, newest

HEAD_CHARACTERS = 1900
TAIL_CHARACTERS = 3000
TAIL_LINES = 80
READ_BYTES = 32 * 1024
_CUT = "\n[… cut …]\n"


async def log_tail(kube: Kube, namespace: str, pods: Sequence[PodView], *, running: bool = False) -> str | None:
    """Read the first and the last part of the newest pod's log, at most 5,000 characters; None when it is gone.

    `running`: also that of a container that has not ended.
    """
    pod = newest(pods)
    if pod is None or (pod.exit_code is None and not (running and pod.started is not None)):
        return None
    tail = await kube.pod_log(
        namespace, name=pod.name, container=pod.container, tail_lines=TAIL_LINES, last_bytes=READ_BYTES
    )
    if tail is None:
        return None
    if len(tail) <= TAIL_CHARACTERS:
        return mask(tail)
    head = await kube.pod_log(namespace, name=pod.name, container=pod.container, limit_bytes=HEAD_CHARACTERS) or ""
    return mask(head)[:HEAD_CHARACTERS] + _CUT + mask(tail)[-TAIL_CHARACTERS:]
