"""Resources of containers: those of CPU Jobs, and of the small containers that Chorus puts beside a plugin's.

A ResourceQuota on limits asks for them of every container of a pod. So the small ones take from the resources of the
CPU Jobs each limit that they have none of themselves, which is that of cpu.
"""

from __future__ import annotations

from chorus_api.quantity import amount
from chorus_api.resources import ResourceName, Resources
from chorus_operator.decisions.job_resources import merged

_FRAME = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
_SIDE = Resources(requests={"cpu": "10m", "memory": "64Mi"}, limits={"memory": "256Mi"})
_SIDE_MOST: dict[ResourceName, str] = {"cpu": "500m"}
"""The forwarder runs as long as the plugin, and a quota counts its limit beside the plugin's all the while."""


def in_manifest(resources: Resources) -> dict[str, dict[str, str]]:
    """Write resources as a container has them."""
    requests = {str(name): quantity for name, quantity in resources.requests.items()}
    limits = {str(name): quantity for name, quantity in resources.limits.items()}
    return {"requests": requests, "limits": limits}


def frame_resources(job: Resources) -> dict[str, dict[str, str]]:
    """The container that writes a frame in another format; `job`: the resources of the CPU Jobs."""
    return _beside(_FRAME, job.limits)


def side_resources(job: Resources) -> dict[str, dict[str, str]]:
    """The containers that check a script and forward messages; `job`: the resources of the CPU Jobs."""
    return _beside(
        _SIDE,
        {name: min(limit, _SIDE_MOST.get(name, limit), key=amount) for name, limit in job.limits.items()},
    )


def _beside(own: Resources, given: dict[ResourceName, str]) -> dict[str, dict[str, str]]:
    lacking = {name: limit for name, limit in given.items() if name not in own.limits}
    return in_manifest(merged(own, Resources(limits=lacking)))
