"""The room on the node's disk that pods of Chorus may use besides the Project's claim."""

from __future__ import annotations

import math

from pydantic import Field

from chorus_api.base import Model, Quantity, Rule
from chorus_api.quantity import GIB, amount

SCRATCH_FIELD = "spec.scratch.size"


class Scratch(Model):
    """Room on the node's disk for files that a pod needs while it runs."""

    rules = (
        Rule(
            "!has(self.size) || !isQuantity(self.size) || quantity(self.size).compareTo(quantity('16Mi')) >= 0"
            " && quantity(self.size).compareTo(quantity('16Ti')) <= 0",
            "scratch.size must be from 16Mi to 16Ti",
        ),
    )

    size: Quantity = Field(
        "1Gi",
        description="Most that /tmp, and each other emptyDir of a pod, may hold. Logs and emptyDirs together may take "
        "1Gi more. A pod over either is evicted.",
    )

    @property
    def bytes(self) -> int:
        """The size of an emptyDir, in bytes."""
        return math.ceil(amount(self.size))

    @property
    def pod_bytes(self) -> int:
        """What a pod may use of its node's disk in all, in bytes: its emptyDirs, and the logs of its containers."""
        return self.bytes + GIB
