"""What pods leave behind: the run record of a training, and a container's last word."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, StringConstraints

from chorus_api.file_model import FileModel


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


ShortName = Annotated[str, StringConstraints(max_length=253)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Outcome = Literal["succeeded", "failed", "notApplicable", "preempted"]


class TerminationRecord(FileModel):
    """A container's last word in its termination message (at most 2 KiB): outcomes survive an operator outage."""

    outcome: Outcome = Field(description="How it ended.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field("", description="Why, as one CamelCase word.")
    message: Annotated[str, StringConstraints(max_length=700)] = Field("", description="Why, for people.")
    hint: Annotated[str, StringConstraints(max_length=300)] = Field("", description="What to do about it.")
    retryable: bool = Field(False, description="Whether another try may succeed.")
    model_name: ShortName | None = Field(None, description="Stands for a MODEL_NAME that could not be delivered.")
    digest: ShortName | None = Field(None, description="sha256 of SHA256SUMS of the artefact.")
    bytes: Count | None = Field(None, description="Size of the artefact.")
    base_model: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="LoRA: the base model."
    )
    samples: Count | None = Field(None, description="Rows that were trained on.")
    final_loss: FiniteFloat | None = Field(None, description="Training loss at the end.")
    eval_loss: FiniteFloat | None = Field(None, description="Loss on the rows held back.")
    eval_loss_without_adapter: FiniteFloat | None = Field(
        None, description="LoRA: loss of the base model alone on the rows held back."
    )
    step: Count | None = Field(None, description="Optimizer step reached, or of the checkpoint saved.")
    promoted: bool | None = Field(None, description="Publish: whether `latest` was moved.")
    latest_owner: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="Publish: whose `latest/<plugin>` is, where it was left because it is not the Project's."
    )
