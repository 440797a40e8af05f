"""What a pod may use of its node's disk: emptyDirs with a size, and containers with a limit of ephemeral storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chorus_api.quantity import amount, in_bytes
from chorus_api.scratch import Scratch

EPHEMERAL_STORAGE = "ephemeral-storage"
REQUEST = "64Mi"
"""Kubernetes would take the limit as the request, and a node has room for few pods that each reserve gigabytes."""
SIDE_LIMIT = "256Mi"
SIDE_REQUEST = "16Mi"


def scratch_volume(name: str, scratch: Scratch) -> dict[str, Any]:
    """Make an emptyDir; a pod that puts more into it is evicted."""
    return {"name": name, "emptyDir": {"sizeLimit": in_bytes(scratch.bytes)}}


def bounded(container: Mapping[str, Any], scratch: Scratch) -> dict[str, Any]:
    """Limit what a pod may use of its node's disk, by its main container; a limit that a user set stays."""
    resources = container.get("resources", {})
    requests, limits = dict(resources.get("requests", {})), dict(resources.get("limits", {}))
    if EPHEMERAL_STORAGE in limits:
        return dict(container)
    asked = amount(requests.get(EPHEMERAL_STORAGE, "0"))
    fits = asked <= scratch.pod_bytes
    limits[EPHEMERAL_STORAGE] = in_bytes(scratch.pod_bytes) if fits else requests[EPHEMERAL_STORAGE]
    requests.setdefault(EPHEMERAL_STORAGE, REQUEST)
    return {**container, "resources": {**resources, "requests": requests, "limits": limits}}


def bounded_beside(container: Mapping[str, Any]) -> dict[str, Any]:
    """Limit a container beside the main one: its log alone, since files in emptyDirs count as the whole pod's."""
    resources = container.get("resources", {})
    return {
        **container,
        "resources": {
            **resources,
            "requests": {**resources.get("requests", {}), EPHEMERAL_STORAGE: SIDE_REQUEST},
            "limits": {**resources.get("limits", {}), EPHEMERAL_STORAGE: SIDE_LIMIT},
        },
    }
