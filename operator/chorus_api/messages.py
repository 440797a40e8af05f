"""The messages between Chorus and its plugins: their payloads, and the CloudEvents envelope that carries them.

The payloads are those of the training workflow. The envelope names the run, the attempt and a sequence number, so that
a message of another run, attempt or pod can be told and refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from chorus_api.parameters import Parameters, ParametersSchema

TYPE_PREFIX = "dev.chorus."
Text = Annotated[str, StringConstraints(max_length=253)]
LongText = Annotated[str, StringConstraints(max_length=4096)]
MetricName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$")]


class MessageType(StrEnum):
    """Names of the messages; the CloudEvents type is `dev.chorus.<name>`."""

    TRAINING_DATA = "TRAINING_DATA"
    DATA_REPORT = "DATA_REPORT"
    TRAINING_START = "TRAINING_START"
    MODEL_NAME = "MODEL_NAME"
    ERROR_REPORT = "ERROR_REPORT"
    PROGRESS = "progress"
    ONLINE_INQUIRY = "ONLINE_INQUIRY"
    ONLINE_REPORT = "ONLINE_REPORT"
    FRAME_READY = "FRAME_READY"
    FRAME_FAILED = "FRAME_FAILED"


class Payload(BaseModel):
    """Data of a message. Unknown fields are ignored, so that older receivers take newer senders."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Addressed(Payload):
    """A message of a plugin about a Project."""

    project_id: int = Field(gt=0)
    plugin_id: int = Field(gt=0)


class TrainingData(Addressed):
    """TRAINING_DATA: the frame to train on."""

    training_df_name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    info: dict[str, str] = Field(default_factory=dict)
    location: str = Field(description="Directory of the frame, as the plugin sees it.")


class DataReport(Addressed):
    """DATA_REPORT: whether the plugin can train on the frame."""

    applicable: bool
    reason: Text | None = None


class TrainingStart(Addressed):
    """TRAINING_START: training has begun."""


class ModelName(Addressed):
    """MODEL_NAME: training is over and this is the model."""

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    metrics: dict[MetricName, FiniteFloat] = Field(default_factory=dict, max_length=32)


class ErrorReport(Addressed):
    """ERROR_REPORT: the plugin cannot go on."""

    detail: LongText
    reason: Text | None = None
    retryable: bool = False


class ProgressReport(Addressed):
    """progress: how far the training is."""

    percent: int = Field(ge=0, le=100)
    step: int | None = Field(None, ge=0)
    total_steps: int | None = Field(None, ge=0)
    epoch: FiniteFloat | None = None
    eta_seconds: int | None = Field(None, ge=0)
    loss: FiniteFloat | None = None
    metrics: dict[MetricName, FiniteFloat] = Field(default_factory=dict, max_length=32)
    checkpoint_step: int | None = Field(None, ge=0)


class OnlineReport(Payload):
    """ONLINE_REPORT: who a plugin is and what it needs; `parameters` are its defaults.

    `parameters_schema` and `min_rows` are Chorus's additions to the workflow's fields.
    """

    id: Text = ""
    name: Text = ""
    type: Text = ""
    description: LongText = ""
    parameters: Parameters = Field(default_factory=dict)
    needed_columns: list[Text] = Field(default_factory=list, max_length=64)
    needed_info: list[Annotated[str, StringConstraints(max_length=63)]] = Field(default_factory=list, max_length=64)
    parameters_schema: ParametersSchema | None = None
    min_rows: int | None = Field(None, ge=1, le=1_000_000_000)


class ColumnProfile(Payload):
    """What a column of the frame holds."""

    name: Text
    type: Literal["string", "integer", "number", "boolean", "timestamp", "other"]
    nulls: int = 0
    distinct: int | None = Field(None, description="Distinct values, counted up to 1,000; None above that.")
    min: Text | None = None
    max: Text | None = None
    max_length: int | None = Field(None, description="Longest text in characters.")


class RejectedRows(Payload):
    """Rows that could not be used, for one reason."""

    reason: Text
    count: int
    examples: list[Text] = Field(default_factory=list, max_length=5, description="First ones: row number and cause.")


class FrameManifest(Payload):
    """frame.json: the training frame."""

    version: Literal[1] = 1
    name: str = Field(description="df- and the first 12 hex digits of the digest.")
    digest: str = Field(description="sha256:… of the frame's content; equal content has an equal digest.")
    rows: int
    eval_rows: int
    read_rows: int = Field(description="Rows read from the source.")
    columns: list[ColumnProfile] = Field(max_length=500)
    rejected: list[RejectedRows] = Field(default_factory=list, max_length=32)
    info: dict[str, str] = Field(default_factory=dict)


class FrameReady(Payload):
    """FRAME_READY (internal): the prepare Job's frame is on the volume."""

    project_id: int = Field(gt=0)
    prepare_key: str
    frame: FrameManifest


class FrameFailed(Payload):
    """FRAME_FAILED (internal): the data cannot be made into a frame."""

    project_id: int = Field(gt=0)
    prepare_key: str
    reason: Text
    detail: LongText


class StoredFailure(Payload):
    """Why there is no frame."""

    reason: Text
    detail: LongText


class StoredFrame(Payload):
    """result.json of the ConfigMap that the receiver makes of FRAME_READY or FRAME_FAILED: one of the two."""

    ready: FrameManifest | None = None
    failed: StoredFailure | None = None


PAYLOADS: dict[MessageType, type[Payload]] = {
    MessageType.DATA_REPORT: DataReport,
    MessageType.TRAINING_START: TrainingStart,
    MessageType.MODEL_NAME: ModelName,
    MessageType.ERROR_REPORT: ErrorReport,
    MessageType.PROGRESS: ProgressReport,
    MessageType.ONLINE_REPORT: OnlineReport,
    MessageType.FRAME_READY: FrameReady,
    MessageType.FRAME_FAILED: FrameFailed,
}
"""What the receiver accepts."""


class Envelope(BaseModel):
    """The CloudEvents attributes that Chorus reads; extension attributes are strings, as the standard has it.

    `subject_uid` (extension `subjectuid`) is the uid of the TrainingRun, of the Project for FRAME messages, of the
    Plugin for ONLINE_REPORT; `attempt` the run's attempt (0 for FRAME messages and ONLINE_REPORT); `sequence` rises by
    one with each message of a pod.
    """

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    type: MessageType
    subject_uid: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    attempt: int = Field(ge=0, le=1_000_000)
    sequence: int = Field(ge=0, le=2**53)
