"""The messages between Chorus and its plugins: their payloads, and the CloudEvents envelope that carries them.

The payloads are those of the training workflow. The envelope names the run, the attempt and a sequence number, so that
a message of another run, attempt or pod can be told and refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from chorus_api.contract import MAX_CERTIFICATE_BYTES
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
    EXCHANGE_READY = "EXCHANGE_READY"


class Payload(BaseModel):
    """Data of a message. Unknown fields are ignored, so that older receivers take newer senders."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Addressed(Payload):
    """A message of a plugin about a Project."""

    project_id: int = Field(gt=0, description="`status.id` of the Project.")
    plugin_id: int = Field(gt=0, description="`status.id` of the Plugin.")


class TrainingData(Addressed):
    """TRAINING_DATA: the frame to train on."""

    training_df_name: str = Field(description="Name of the frame.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Everything that was resolved: integers and strings; for lora also decimals."
    )
    info: dict[str, str] = Field(default_factory=dict, description="`dataset.info` of the Project.")
    location: str = Field(description="Directory of the frame, as the plugin sees it.")


class DataReport(Addressed):
    """DATA_REPORT: whether the plugin can train on the frame."""

    applicable: bool = Field(description="Whether it suits. false ends the run as `notApplicable`.")
    reason: Text | None = Field(None, description="Why it does not, and what would, for people.")


class TrainingStart(Addressed):
    """TRAINING_START: training has begun."""


class ModelName(Addressed):
    """MODEL_NAME: training is over and this is the model."""

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="What the plugin calls the model. It is published under a name of Chorus's own."
    )
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="SHA-256 of the artefact's SHA256SUMS; publishing must find the same."
    )
    metrics: dict[MetricName, FiniteFloat] = Field(
        default_factory=dict, max_length=32, description="Figures of the model; the Project's `objective` compares one."
    )


class ErrorReport(Addressed):
    """ERROR_REPORT: the plugin cannot go on."""

    detail: LongText = Field(description="What is wrong, where, and what to do, for people.")
    reason: Text | None = Field(None, description="The same as one CamelCase word.")
    retryable: bool = Field(False, description="true: the surroundings are at fault, and another try may succeed.")


class ProgressReport(Addressed):
    """progress: how far the training is."""

    percent: int = Field(ge=0, le=100, description="Part of the training that is done.")
    step: int | None = Field(None, ge=0, description="Steps that are done, of whatever kind.")
    total_steps: int | None = Field(None, ge=0, description="Steps that there will be.")
    epoch: FiniteFloat | None = Field(None, description="Passes over the data that are done, with a fraction.")
    eta_seconds: int | None = Field(None, ge=0, description="Seconds that it will still take.")
    loss: FiniteFloat | None = Field(None, description="Training loss at this step.")
    metrics: dict[MetricName, FiniteFloat] = Field(
        default_factory=dict, max_length=32, description="Other figures at this step."
    )
    checkpoint_step: int | None = Field(None, ge=0, description="Step of the newest checkpoint that is complete.")


class OnlineReport(Payload):
    """ONLINE_REPORT: who a plugin is and what it needs; `parameters` are its defaults.

    `parameters_schema` and `min_rows` are Chorus's additions to the workflow's fields.
    """

    id: Text = Field("", description="What the plugin calls itself, for programs.")
    name: Text = Field("", description="What the plugin calls itself, for people.")
    type: Text = Field("", description="Kind of model or prescription that it makes.")
    description: LongText = Field("", description="What it does.")
    parameters: Parameters = Field(default_factory=dict, description="Its parameters with their defaults.")
    needed_columns: list[Text] = Field(
        default_factory=list, max_length=64, description="Columns that a frame must have to suit it."
    )
    needed_info: list[Annotated[str, StringConstraints(max_length=63)]] = Field(
        default_factory=list, max_length=64, description="Keys that `dataset.info` must have."
    )
    parameters_schema: ParametersSchema | None = Field(
        None,
        description="Which parameters it takes, as a closed part of JSON Schema. What it does not name is refused.",
    )
    min_rows: int | None = Field(None, ge=1, le=1_000_000_000, description="Fewest training rows.")


class CategoryCount(Payload):
    """A value of a column of few values."""

    value: Text = Field(description="As text; the first 60 characters.")
    count: int = Field(ge=1, description="Rows that hold it, for training and for evaluation.")


class ColumnProfile(Payload):
    """What a column of the frame holds."""

    name: Text = Field(description="Name of the column.")
    type: Literal["string", "integer", "number", "boolean", "timestamp", "other"] = Field(
        description="Type of its values."
    )
    nulls: int = Field(0, description="Missing values.")
    distinct: int | None = Field(None, description="Distinct values, counted up to 1,000; None above that.")
    min: Text | None = None
    max: Text | None = None
    mean: FiniteFloat | None = Field(None, description="Of a column of numbers.")
    categories: list[CategoryCount] | None = Field(
        None,
        max_length=20,
        description="The most frequent values of a column of texts, whole numbers or truth values that has at most 50 "
        "different ones; all of them where `distinct` is not greater.",
    )
    max_length: int | None = Field(None, description="Longest text in characters.")


class RejectedRows(Payload):
    """Rows that could not be used, for one reason."""

    reason: Text = Field(description="What is wrong with them.")
    count: int = Field(description="How many.")
    examples: list[Text] = Field(default_factory=list, max_length=5, description="First ones: row number and cause.")


class FrameManifest(Payload):
    """frame.json: the training frame."""

    version: Literal[1] = Field(1, description="Version of the file's form.")
    name: str = Field(description="df- and the first 12 hex digits of the digest.")
    digest: str = Field(description="sha256:… of the frame's content; equal content has an equal digest.")
    rows: int = Field(description="Rows to train on.")
    eval_rows: int = Field(description="Rows held back for evaluation.")
    read_rows: int = Field(description="Rows read from the source.")
    columns: list[ColumnProfile] = Field(max_length=500, description="What the columns hold.")
    rejected: list[RejectedRows] = Field(default_factory=list, max_length=32, description="Rows that were left out.")
    info: dict[str, str] = Field(default_factory=dict, description="`dataset.info` of the Project.")


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


class ExchangeReady(Addressed):
    """EXCHANGE_READY (internal): the exchange of a service's run serves HTTPS with this certificate."""

    certificate: Annotated[
        str,
        StringConstraints(
            max_length=MAX_CERTIFICATE_BYTES,
            pattern=r"^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?$",
        ),
    ] = Field(description="One self-signed certificate, PEM.")


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
    MessageType.EXCHANGE_READY: ExchangeReady,
}
"""What the receiver accepts."""


class Envelope(BaseModel):
    """The CloudEvents attributes that Chorus reads; extension attributes are strings, as the standard has it."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Different for each message, and the same when it is sent again."
    )
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Who sends it, a URI reference; for people."
    )
    type: MessageType = Field(description="`dev.chorus.` and the name of the message.")
    subject: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = Field(
        None,
        description="Name of the run; for ONLINE_REPORT that of the Plugin and its generation, such as `far/3`: the "
        "`subject` of what is answered. Only a service that speaks by its service account needs it.",
    )
    subject_uid: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Extension `subjectuid`: uid of the TrainingRun; of the Project for FRAME messages, of the Plugin "
        "for ONLINE_REPORT."
    )
    attempt: int = Field(ge=0, le=1_000_000, description="The run's attempt; 0 for FRAME messages and ONLINE_REPORT.")
    sequence: int = Field(
        ge=0, le=2**53, description="1 for the first message of an instance, one more for each that follows."
    )
    instance: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        None,
        description="Whose messages `sequence` counts: a random name, a new one whenever the sender starts. Without it "
        "all processes of a pod, or of a service that shows the token of TRAINING_DATA, count together.",
    )
