"""What a container may use: requests and limits, and what the CPU Jobs have where nobody says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chorus_api.base import Model, Quantity, Rule
from chorus_api.quantity import amount

ResourceName = Literal["cpu", "memory", "ephemeral-storage"]


class Resources(Model):
    """Requests and limits of a container, without accelerators."""

    rules = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(key, !(key in self.limits)"
            " || !isQuantity(self.requests[key]) || !isQuantity(self.limits[key])"
            " || quantity(self.requests[key]).compareTo(quantity(self.limits[key])) <= 0)",
            "requests must not be above limits of the same name: lower the request or raise the limit",
        ),
    )

    requests: dict[ResourceName, Quantity] = Field(
        default_factory=dict, max_length=3, description='Reserved on the node. Whole numbers in quotes: "2".'
    )
    limits: dict[ResourceName, Quantity] = Field(
        default_factory=dict,
        max_length=3,
        description='Never exceeded; over the memory limit the pod is killed. Whole numbers in quotes: "2".',
    )

    def above_limits(self) -> list[ResourceName]:
        """Name the resources whose request is above their limit. The API server refuses them by the rule."""
        both = self.requests.keys() & self.limits.keys()
        return sorted(name for name in both if amount(self.requests[name]) > amount(self.limits[name]))


BUILT_IN_JOB_RESOURCES = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
"""What a CPU Job has where neither its Project nor the operator says more.

Frozen configurations without jobResources mean these: another value would change what accepted runs use.
"""
