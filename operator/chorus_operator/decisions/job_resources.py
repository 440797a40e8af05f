"""What the CPU Jobs may use: what the Project says, else the operator's default, else the built-in values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chorus_api.quantity import amount
from chorus_api.resources import BUILT_IN_JOB_RESOURCES, ResourceName, Resources


def job_resources(default: Resources, project: Resources | None = None) -> Resources:
    """Give the resources of a CPU Job; `default`: the operator's, `project`: None for what belongs to no Project."""
    return merged(BUILT_IN_JOB_RESOURCES, default, project or Resources())


def merged(*layers: Resources) -> Resources:
    """Overlay requests and limits name by name; the last layer wins.

    No request is above its limit: the one of the two that comes from the weaker layer is set to the other. So a limit
    below an inherited request lowers the request, and a request above an inherited limit raises the limit. Within one
    layer the limit stands.
    """
    requests = _overlaid([layer.requests for layer in layers])
    limits = _overlaid([layer.limits for layer in layers])
    for name in requests.keys() & limits.keys():
        (asked_in, request), (limited_in, limit) = requests[name], limits[name]
        if amount(request) <= amount(limit):
            continue
        if limited_in >= asked_in:
            requests[name] = (asked_in, limit)
        else:
            limits[name] = (limited_in, request)
    return Resources(requests=_quantities(requests), limits=_quantities(limits))


def _overlaid(layers: Sequence[Mapping[ResourceName, str]]) -> dict[ResourceName, tuple[int, str]]:
    """Give each resource its strongest quantity, and the number of the layer that it is from."""
    return {name: (number, quantity) for number, layer in enumerate(layers) for name, quantity in layer.items()}


def _quantities(chosen: Mapping[ResourceName, tuple[int, str]]) -> dict[ResourceName, str]:
    """In the order of names: the same resources are frozen as the same bytes."""
    return {name: chosen[name][1] for name in sorted(chosen)}
