"""Types of conditions: the facts about Plugins, Projects and runs that phases are derived from."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition is about; `docs/runs.md` and `docs/projects.md` say what each means."""

    ACCEPTED = "Accepted"
    APPLICABLE = "Applicable"
    BLOCKED = "Blocked"
    CHECKPOINT_AVAILABLE = "CheckpointAvailable"
    DATASET_READY = "DatasetReady"
    DEGRADED = "Degraded"
    POD_ENDING = "PodEnding"
    MODEL_PUBLISHED = "ModelPublished"
    ONLINE = "Online"
    PARAMETERS_VALID = "ParametersValid"
    POD_STARTED = "PodStarted"
    PODS_READY = "PodsReady"
    READY = "Ready"
    RECONCILED = "Reconciled"
    REFRESHED = "Refreshed"
    RETRYING = "Retrying"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    TRAINING_DATA_DELIVERED = "TrainingDataDelivered"
    TRAINING_STARTED = "TrainingStarted"
