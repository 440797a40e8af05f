"""The closed vocabulary of reasons and failure classes that users see, and the exit codes of our own pods."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition, a phase or an Event is as it is."""

    # Waiting: a run is `queued`, a project not yet ready
    AWAITING_ADMISSION = "AwaitingAdmission"
    AWAITING_FRAME = "AwaitingFrame"
    AWAITING_BASE_MODEL = "AwaitingBaseModel"
    AWAITING_TRIGGER = "AwaitingTrigger"
    AWAITING_PLUGIN = "AwaitingPlugin"
    UNDELIVERED = "Undelivered"
    PENDING = "Pending"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    QUEUED = "Queued"
    SUSPENDED = "Suspended"
    # Going on
    PREPARING = "Preparing"
    STARTED = "Started"
    TRAINING = "Training"
    PUBLISHING = "Publishing"
    RETRYING = "Retrying"
    SIDECAR_RUNS_ON = "SidecarRunsOn"
    # Good ends
    ACCEPTED = "Accepted"
    APPLICABLE = "Applicable"
    FRAME_READY = "FrameReady"
    CHECKPOINT_SAVED = "CheckpointSaved"
    MODEL_PUBLISHED = "ModelPublished"
    TRAINED = "Trained"
    READY = "Ready"
    DELIVERED = "Delivered"
    PLUGIN_ONLINE = "PluginOnline"
    # References and configuration
    PROJECT_NOT_FOUND = "ProjectNotFound"
    PLUGIN_NOT_FOUND = "PluginNotFound"
    PLUGIN_NOT_LISTED = "PluginNotListed"
    PLUGIN_DISABLED = "PluginDisabled"
    RESUME_RUN_NOT_FOUND = "ResumeRunNotFound"
    BASE_MODEL_NOT_SET = "BaseModelNotSet"
    BASE_MODEL_NOT_FOUND = "BaseModelNotFound"
    BAD_CONFIGURATION = "BadConfiguration"
    PARAMETERS_VALID = "ParametersValid"
    PARAMETERS_INVALID = "ParametersInvalid"
    SCRIPT_NOT_FOUND = "ScriptNotFound"
    SCRIPT_HASH_MISMATCH = "ScriptHashMismatch"
    DESCRIBE_FAILED = "DescribeFailed"
    DESCRIBED = "Described"
    INVALID_SPEC = "InvalidSpec"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"
    # Data
    SOURCE_REFUSED = "SourceRefused"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_TOO_LARGE = "SourceTooLarge"
    SOURCE_TIMEOUT = "SourceTimeout"
    ACCESS_DENIED = "AccessDenied"
    FILE_NOT_FOUND = "FileNotFound"
    FORMAT_UNKNOWN = "FormatUnknown"
    FORMAT_INVALID = "FormatInvalid"
    TABLE_NOT_FOUND = "TableNotFound"
    QUERY_INVALID = "QueryInvalid"
    QUERY_TIMEOUT = "QueryTimeout"
    COLUMN_NOT_FOUND = "ColumnNotFound"
    NO_ROWS = "NoRows"
    ALL_ROWS_REJECTED = "AllRowsRejected"
    PREPARATION_FAILED = "PreparationFailed"
    BAD_DATA = "BadData"
    # Applicability
    MISSING_COLUMNS = "MissingColumns"
    MISSING_INFO = "MissingInfo"
    TOO_FEW_DISTINCT_VALUES = "TooFewDistinctValues"
    TOO_FEW_ROWS = "TooFewRows"
    NOT_APPLICABLE = "NotApplicable"
    NO_APPLICABLE_PLUGIN = "NoApplicablePlugin"
    NAME_TAKEN = "NameTaken"
    RECONCILE_FAILED = "ReconcileFailed"
    # Bad ends of a run
    TRAINING_FAILED = "TrainingFailed"
    NON_FINITE_LOSS = "NonFiniteLoss"
    OUT_OF_MEMORY = "OutOfMemory"
    SCRATCH_FULL = "ScratchFull"
    INTERNAL_ERROR = "InternalError"
    KILLED = "Killed"
    DISRUPTED = "Disrupted"
    NODE_LOST = "NodeLost"
    JOB_REJECTED = "JobRejected"
    JOB_SUSPENDED = "JobSuspended"
    POD_REJECTED = "PodRejected"
    FROZEN_CONFIG_CHANGED = "FrozenConfigChanged"
    JOB_DELETED = "JobDeleted"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    DATA_REPORT_DEADLINE_EXCEEDED = "DataReportDeadlineExceeded"
    TRAINING_START_DEADLINE_EXCEEDED = "TrainingStartDeadlineExceeded"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    ACTIVE_DEADLINE_EXCEEDED = "ActiveDeadlineExceeded"
    MODEL_NAME_DEADLINE_EXCEEDED = "ModelNameDeadlineExceeded"
    PLUGIN_OFFLINE = "PluginOffline"
    MODEL_NAME_MISSING = "ModelNameMissing"
    PUBLISH_FAILED = "PublishFailed"
    VOLUME_FULL = "VolumeFull"
    VOLUME_NOT_BOUND = "VolumeNotBound"
    DIGEST_MISMATCH = "DigestMismatch"
    CANCELLED_BY_USER = "CancelledByUser"
    CONCURRENCY_FORBIDDEN = "ConcurrencyForbidden"
    # Project
    PLUGIN_FAILED = "PluginFailed"
    LATEST_NOT_OWNED = "LatestNotOwned"
    WORSE_THAN_BASE_MODEL = "WorseThanBaseModel"
    RUNS_ACTIVE = "RunsActive"
    ALL_WELL = "AllWell"


class FailureClass(StrEnum):
    """Whose fault a failed attempt was; it decides how often the run is tried again (`Plugin.spec.retry`)."""

    USER = "user"
    INFRASTRUCTURE = "infrastructure"
    DISRUPTION = "disruption"


class ExitCode:
    """Exit codes of Chorus' own pods."""

    DONE = 0
    BAD_CONFIGURATION = 64
    BAD_DATA = 65
    NOT_APPLICABLE = 69
    INTERNAL = 70
    PREEMPTED = 75
    KILLED = 137
