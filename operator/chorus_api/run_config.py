"""What the operator hands to its pods, and what they leave behind. Each is a JSON file with a version."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, RootModel, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from chorus_api.lora import ResolvedLora
from chorus_api.parameters import Parameters
from chorus_api.project import DataFormat, Fields


class FileModel(BaseModel):
    """A JSON file: camelCase, frozen, unknown fields ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )
    version: Literal[1] = 1


class FrozenScript(FileModel):
    """A plugin's own script: where it is, and the digest that it must have."""

    config_map: str
    key: str
    sha256: str


class Messaging(FileModel):
    """Where and how a pod speaks to the control plane."""

    url: str = Field(description="https://…/v1/messages")
    token_file: str = Field(description="Projected service-account token; read again before each message.")
    ca_file: str = Field(description="CA bundle; read again before each message.")
    subject_uid: str = Field(description="uid of the run, or of the Project for a prepare Job.")
    source: str = Field(description="CloudEvents source: /namespaces/<namespace>/pods/<role>.")


class FrozenRun(FileModel):
    """What /chorus/run.json says for every type of plugin. The attempt is in the environment (CHORUS_ATTEMPT)."""

    run_name: str
    run_uid: str
    run_id: str
    namespace: str
    project: str
    plugin: str
    project_id: int
    plugin_id: int
    frame_name: str
    frame_digest: str
    model_name: str = Field(description="Name under which the artefact will be published.")
    info: dict[str, str] = Field(default_factory=dict)
    messaging: Messaging


class ForwardConfig(FileModel):
    """/chorus/forward.json of the sidecar that sends what a container writes into its messages file.

    The ids are filled in where a line has none; 0 for a describe pod, whose messages carry none.
    """

    messages_file: str
    project_id: int = 0
    plugin_id: int = 0
    messaging: Messaging


class RunConfig(FrozenRun):
    """/chorus/run.json of a LoRA run."""

    type: Literal["lora"] = "lora"
    base_model_uri: str
    base_model_path: str = Field(description="Directory of the base model in the pod.")
    resume_adapter_path: str | None = Field(None, description="Adapter to start from (resumeFrom).")
    encoder_decoder: ResolvedLora = Field(description="Every parameter, should the base model be an encoder-decoder.")
    decoder: ResolvedLora = Field(description="Every parameter, should the base model be a decoder.")
    checkpoint_every_seconds: int
    checkpoint_keep: int
    grace_seconds: int


class ContainerConfig(FrozenRun):
    """/chorus/run.json of a container's run."""

    type: Literal["container"] = "container"
    image: str
    command: list[str] = Field(default_factory=list)
    args: list[str] = Field(default_factory=list)
    messages: Literal["Http", "File"] = "Http"
    artefact: Literal["Files", "None"] = "Files"
    frame_format: Literal["parquet", "csv", "jsonl"] = "parquet"
    script: FrozenScript | None = None
    parameters: Parameters = Field(default_factory=dict)


AnyRun = Annotated[RunConfig | ContainerConfig, Field(discriminator="type")]


class FrozenFile(RootModel[AnyRun]):
    """run.json of any type of plugin."""

    @model_validator(mode="before")
    @classmethod
    def _of_before_there_were_types(cls, data: Any) -> Any:
        return {"type": "lora", **data} if isinstance(data, dict) else data


class PrepareConfig(FileModel):
    """/chorus/job.json of a prepare Job. The source is at `source_path`; the claim is at /chorus/volume."""

    project: str
    project_id: int
    project_uid: str
    prepare_key: str
    source_path: str
    source_name: str = Field(description="What people call it: claim/path, ConfigMap key, inline.")
    format: DataFormat | None
    query: str | None
    query_seconds: int = Field(300, description="Time limit of the query.")
    max_rows: int | None
    fields: Fields | None
    eval_fraction: str
    info: dict[str, str] = Field(default_factory=dict)
    messaging: Messaging


class FetchConfig(FileModel):
    """/chorus/job.json of a fetch Job: put a hub model under base/<base key>/ of the claim."""

    uri: str
    revision: str | None
    base_key: str
    token_file: str | None = None


class PublishConfig(FileModel):
    """/chorus/job.json of a publish Job."""

    run_name: str
    run_uid: str
    run_id: str
    plugin: str
    model_name: str
    expected_digest: str | None = Field(None, description="Digest that MODEL_NAME reported, if it did.")
    kind: Literal["adapter", "files"] = Field(
        "adapter", description="adapter: weights with sums and a run record. files: what a container left."
    )
    promote: bool = Field(description="Move latest/<plugin> to this model.")
    keep_run_uids: list[str] | None = Field(
        None, description="Runs that still exist: other directories under runs/ are swept. None: nothing is swept."
    )


class RunRecord(FileModel):
    """training_run.json: what a training did. The first eight fields are the workflow's, under its own names."""

    model_config = ConfigDict(alias_generator=None, allow_inf_nan=False)

    base_model: str
    samples_used: int
    epochs: int
    learning_rate: float
    run_directory: str
    trained_at: str = Field(description="RFC 3339, UTC.")
    final_loss: FiniteFloat
    run_id: str
    eval_loss: FiniteFloat | None = None
    eval_loss_without_adapter: FiniteFloat | None = None
    base_model_digest: str | None = None
    family: Literal["encoderDecoder", "decoder"] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict, description="Every parameter as used.")
    eval_samples: int = 0
    truncated_prompts: int = 0
    truncated_responses: int = 0
    steps: int = 0
    tokens: int = Field(0, description="Real tokens, padding not counted.")
    train_seconds: FiniteFloat = 0.0
    device: str = "cpu"
    precision: str = "float32"
    frame_name: str = ""
    frame_digest: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


Outcome = Literal["succeeded", "failed", "notApplicable", "preempted"]


class TerminationRecord(FileModel):
    """A container's last word in its termination message (at most 2 KiB): outcomes survive an operator outage."""

    outcome: Outcome
    reason: Annotated[str, StringConstraints(max_length=64)] = ""
    message: Annotated[str, StringConstraints(max_length=700)] = ""
    hint: Annotated[str, StringConstraints(max_length=300)] = ""
    retryable: bool = False
    model_name: str | None = None
    digest: str | None = Field(None, description="sha256 of SHA256SUMS of the artefact.")
    bytes: int | None = None
    base_model: Annotated[str, StringConstraints(max_length=200)] | None = None
    samples: int | None = None
    final_loss: FiniteFloat | None = None
    eval_loss: FiniteFloat | None = None
    step: int | None = Field(None, description="Optimizer step reached, or of the checkpoint saved.")
    promoted: bool | None = Field(None, description="Publish: whether `latest` was moved.")
