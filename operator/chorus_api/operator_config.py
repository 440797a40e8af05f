"""What the operator itself needs of an accepted run: operator.json of its frozen ConfigMap, which no pod reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chorus_api.file_model import FileModel
from chorus_api.plugin import Accelerator, Checkpointing, Deadlines, PodOptions, Retry
from chorus_api.project import Objective
from chorus_api.resources import BUILT_IN_JOB_RESOURCES, Resources
from chorus_api.scratch import Scratch


class OperatorConfig(FileModel):
    """Placement, deadlines, retry budget and the rest of Plugin and Project, as they were when the run was accepted."""

    claim: str = Field(description="Claim that holds its frames, runs and models.")
    one_node: bool = Field(description="Whether the claim can be used on one node only.")
    job_scratch: Scratch = Field(description="Room on the node's disk for fetch and publish Jobs.")
    job_resources: Resources = Field(
        BUILT_IN_JOB_RESOURCES,
        # What an earlier version froze must come out as the same bytes when it is written again.
        exclude_if=lambda resources: resources == BUILT_IN_JOB_RESOURCES,
        description="Resources of fetch and publish Jobs and of exchanges; the limits beside the plugin's container.",
    )
    promotion: Literal["Always", "IfBetter", "Manual"] = Field(description="When `latest` moves to the new model.")
    objective: Objective = Field(description="What makes a model better.")
    pod: PodOptions = Field(description="Where and how the run's pods run.")
    resources: Resources = Field(description="Resources of the training container.")
    accelerator: Accelerator | None = Field(None, description="Accelerator of the training pod.")
    scratch: Scratch = Field(description="Room on the node's disk for the run's pods.")
    deadlines: Deadlines = Field(description="How long each wait may take.")
    checkpoint: Checkpointing = Field(description="When state is saved, and how long a pod has to stop.")
    retry: Retry = Field(description="How often the run is tried again.")
