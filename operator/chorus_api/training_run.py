"""TrainingRun: one execution of one plugin on one Project's data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from chorus_api.base import (
    CONDITIONS_ARE_SHARED,
    Condition,
    Label20,
    Label50,
    Message,
    Metrics,
    Model,
    Rule,
    ShortText,
    StatusModel,
    Time,
    shared,
)
from chorus_api.contract import MAX_CERTIFICATE_BYTES
from chorus_api.lora import LoraParameters
from chorus_api.parameters import Parameters
from chorus_api.project import Meta

MAX_SHOWN_MESSAGE = 120
MAX_INSTANCES = 8
"""Newest instances of a sender that a status remembers: a service has a few pods, and a pod is seldom restarted."""


class ProjectRef(Model):
    """The Project of a run."""

    name: Label20 = Field(description="Name of the Project, in the same namespace.")


class RunRef(Model):
    """Another run of the same Project."""

    run: Label50 = Field(description="Name of a TRAINED run of the same Project and plugin.")


class TrainingRunSpec(Model):
    """What to run. Immutable, but for suspend, cancel and ttlSecondsAfterFinished."""

    rules = (
        Rule("self.projectRef == oldSelf.projectRef", "projectRef is immutable: create a new TrainingRun"),
        Rule("self.plugin == oldSelf.plugin", "plugin is immutable: create a new TrainingRun"),
        Rule(
            "has(self.lora) == has(oldSelf.lora) && (!has(self.lora) || self.lora == oldSelf.lora)",
            "lora is immutable: create a new TrainingRun",
        ),
        Rule(
            "has(self.parameters) == has(oldSelf.parameters) && "
            "(!has(self.parameters) || self.parameters == oldSelf.parameters)",
            "parameters is immutable: create a new TrainingRun",
        ),
        Rule(
            "has(self.resumeFrom) == has(oldSelf.resumeFrom) && "
            "(!has(self.resumeFrom) || self.resumeFrom == oldSelf.resumeFrom)",
            "resumeFrom is immutable: create a new TrainingRun",
        ),
        Rule(
            "has(self.triggeredBy) == has(oldSelf.triggeredBy) && "
            "(!has(self.triggeredBy) || self.triggeredBy == oldSelf.triggeredBy)",
            "triggeredBy is immutable: create a new TrainingRun",
        ),
        Rule("!oldSelf.cancel || self.cancel", "cancel cannot be taken back: create a new TrainingRun"),
    )

    project_ref: ProjectRef = Field(description="The Project whose frame is trained on.")
    plugin: Label20 = Field(description="Entry of the Project's spec.plugins.")
    lora: LoraParameters | None = Field(None, description="Parameters that win over the Project's and the Plugin's.")
    parameters: Parameters = Field(
        default_factory=dict, description="Parameters of a container that win over the Project's and the Plugin's."
    )
    resume_from: RunRef | None = Field(None, description="Start from the adapter of that run.")
    suspend: bool = Field(False, description="true: save, stop, and give the node back; false: go on.")
    cancel: bool = Field(False, description="true: stop for good. Cannot be taken back.")
    triggered_by: ShortText | None = Field(None, description="Who or what asked for the run.")
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="Delete the run so long after its end; kept by the Project's history when unset.",
    )


class Attempts(StatusModel):
    """How often it was tried."""

    current: int = Field(0, description="Number of the present attempt, from 1; 0 before the first.")
    user: int = Field(0, description="Attempts that failed by the user's fault.")
    infrastructure: int = Field(0, description="Attempts that failed by the cluster's fault.")
    disruption: int = Field(0, description="Attempts that were evicted, preempted or lost with their node.")
    not_before: Time | None = Field(
        None, description="When the Job of the present attempt is made: a failed attempt is followed by a pause."
    )


class Resolved(StatusModel):
    """Everything the run uses, frozen when it was accepted."""

    config_map: ShortText = Field(description="ConfigMap with run.json, training_data.json and operator.json.")
    digest: ShortText | None = Field(
        None, description="sha256 digest of the ConfigMap's content. A run whose ConfigMap has another content ends."
    )
    hash: ShortText = Field(description="Train key: hash of frame, parameters and image.")
    frame: ShortText = Field("", description="Frame that is trained on.")


class Entry(StatusModel):
    """A message as received, and who sent it."""

    time: Time
    instance: ShortText | None = Field(None, description="Instance of the sender that said it.")
    sequence: int | None = Field(None, description="Number of the message among those of its instance.")


class DataReportEntry(Entry):
    """DATA_REPORT as received."""

    applicable: bool = Field(description="Whether the plugin can train on the frame.")
    reason: ShortText | None = Field(None, description="Why not.")


class TrainingStartEntry(Entry):
    """TRAINING_START as received."""


class ModelNameEntry(Entry):
    """MODEL_NAME as received."""

    model_name: ShortText = Field(description="Name that the plugin gives its model.")
    digest: ShortText | None = Field(None, description="sha256 digest of the artefact's SHA256SUMS.")
    metrics: Metrics = Field(default_factory=dict, description="Final metrics.")


class ErrorEntry(Entry):
    """ERROR_REPORT as received."""

    reason: ShortText | None = Field(None, description="One CamelCase word.")
    detail: Message = Field(description="What went wrong and how to mend it.")
    retryable: bool = Field(False, description="Whether another attempt may help.")


class ExchangeEntry(StatusModel):
    """EXCHANGE_READY as received: where a service gets the frame and leaves the artefact."""

    pod_uid: ShortText = Field(description="Pod of the exchange.")
    certificate: Annotated[str, StringConstraints(max_length=MAX_CERTIFICATE_BYTES)] = Field(
        description="Certificate that it is known by, PEM."
    )
    time: Time


class Report(StatusModel):
    """What the present attempt's pod, or the service that trains, has said. Written by the message receiver alone."""

    attempt: int = Field(description="Attempt that it is about.")
    pod_uid: ShortText = Field(description="Pod that said it; `service` for a service.")
    instances: Annotated[list[ShortText], Field(max_length=MAX_INSTANCES)] = Field(
        default_factory=list, description="Instances of the sender, in the order in which they first reported."
    )
    sequence: int = Field(0, description="Sequence number of the newest message of the newest instance.")
    data_report: DataReportEntry | None = Field(None, description="DATA_REPORT.")
    training_start: TrainingStartEntry | None = Field(None, description="TRAINING_START.")
    model_name: ModelNameEntry | None = Field(None, description="MODEL_NAME.")
    error: ErrorEntry | None = Field(None, description="ERROR_REPORT.")
    exchange: ExchangeEntry | None = Field(None, description="The exchange of a service's attempt.")


class InstanceProgress(StatusModel):
    """How far an instance of the sender has counted its progress messages."""

    instance: ShortText = Field(description="Name of the instance.")
    sequence: int = Field(description="Sequence number of its newest progress message.")


class Progress(StatusModel):
    """How far the present attempt is. Written by the message receiver alone."""

    attempt: int = Field(description="Attempt that it is about.")
    percent: int = Field(ge=0, le=100, description="Share of the optimizer steps done.")
    step: int | None = Field(None, description="Optimizer steps done.")
    total_steps: int | None = Field(None, description="Optimizer steps in all.")
    epoch: ShortText | None = Field(None, description="Epochs done, a decimal string.")
    eta_seconds: int | None = Field(None, description="Estimated seconds to the end.")
    loss: ShortText | None = Field(None, description="Newest training loss, a decimal string.")
    metrics: Metrics = Field(default_factory=dict, description="Newest metrics, as decimal strings.")
    checkpoint_step: int | None = Field(None, description="Optimizer step of the newest complete checkpoint.")
    instances: Annotated[list[InstanceProgress], Field(max_length=MAX_INSTANCES)] = Field(
        default_factory=list, description="Instances of the sender, the one that spoke last at the end."
    )
    time: Time


class Checkpoint(StatusModel):
    """The newest complete checkpoint."""

    step: int = Field(description="Optimizer step that it holds.")
    time: Time


class PublishedModel(StatusModel):
    """The published artefact."""

    name: ShortText = Field(description="Name of the model.")
    uri: Annotated[str, StringConstraints(max_length=1024)] = Field(description="pvc://claim/models/name.")
    digest: ShortText = Field(description="sha256 digest of its SHA256SUMS.")
    bytes: int = Field(0, description="Size.")
    base_model: Annotated[str, StringConstraints(max_length=1024)] = Field(
        "", description="Base model it is an adapter of."
    )
    samples: int = Field(0, description="Training rows used.")
    final_loss: ShortText | None = Field(None, description="Final training loss, a decimal string.")
    metrics: Metrics = Field(default_factory=dict, description="Final metrics, as decimal strings.")
    promoted: bool = Field(False, description="Whether `latest` of the plugin was moved to it.")


class Failure(StatusModel):
    """Why the run, or its last attempt, failed."""

    failure_class: Literal["user", "infrastructure", "disruption"] = Field(
        alias="class", description="Whose fault it was."
    )
    actor: Literal["user", "administrator", "nobody"] | None = Field(
        None,
        description="Who acts on it: whoever wrote Plugin, Project or run; whoever runs the cluster; or nobody, since "
        "it passes or is tried again.",
    )
    reason: ShortText = Field(description="One CamelCase word.")
    message: Message = Field("", description="What happened.")
    pod: ShortText | None = Field(None, description="The pod.")
    container: ShortText | None = Field(None, description="The container.")
    exit_code: int | None = Field(None, description="Exit code of the container.")
    signal: int | None = Field(None, description="Signal that ended it.")
    node: ShortText | None = Field(None, description="Node it ran on.")
    log_tail: Annotated[str, StringConstraints(max_length=5000)] | None = Field(
        None, description="First and last part of the log, with secrets masked."
    )
    hint: Message | None = Field(None, description="What to do about it.")


class Shown(StatusModel):
    """Short forms for `kubectl get`."""

    percent: int | None = Field(None, description="Percent of the optimizer steps done; 100 once it is TRAINED.")
    loss: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="Newest training loss, of four digits; the final one once it is TRAINED."
    )
    message: Annotated[str, StringConstraints(max_length=MAX_SHOWN_MESSAGE)] | None = Field(
        None, description="The message, cut to 120 characters."
    )


class TrainingRunStatus(StatusModel):
    """What is so now."""

    id: ShortText | None = Field(None, description="run_<UTC time>_<4 hex>, for people and the admin API.")
    phase: ShortText | None = Field(None, description="Derived from the conditions.")
    reason: ShortText | None = Field(None, description="Why the phase is as it is.")
    message: Message | None = Field(None, description="Why, for people.")
    shown: Shown | None = Field(
        None,
        description="Short forms for `kubectl get`.",
        json_schema_extra=shared("chorus", "chorus-progress"),  # the message; percent and loss
    )
    observed_generation: int = Field(0, description="Generation of the spec that the status is about.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list,
        description="Accepted, ParametersValid, Blocked, PodsReady, PodStarted, TrainingDataDelivered, Applicable, "
        "TrainingStarted, CheckpointAvailable, PodEnding, ModelPublished, Succeeded, Suspended, Retrying, "
        "Degraded, Reconciled.",
        json_schema_extra=CONDITIONS_ARE_SHARED,
    )
    queued_time: Time | None = Field(None, description="When the run was first seen.")
    start_time: Time | None = Field(None, description="When its first pod started.")
    completion_time: Time | None = Field(None, description="When it ended.")
    attempts: Attempts = Field(default_factory=Attempts, description="How often it was tried.")
    plugin: ShortText | None = Field(
        None, description="Plugin that the Project's entry named when it was last found: tells a deletion from a typo."
    )
    resolved: Resolved | None = Field(None, description="What it uses.")
    report: Report | None = Field(None, description="What the pod has said.")
    progress: Progress | None = Field(None, description="How far it is.")
    checkpoint: Checkpoint | None = Field(None, description="Newest complete checkpoint.")
    last_word: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        None,
        description="Termination message of the main container, of an attempt whose pod is deleted because another "
        "container runs on.",
    )
    model: PublishedModel | None = Field(None, description="The published artefact.")
    failure: Failure | None = Field(None, description="Why it, or its last attempt, failed.")


class TrainingRun(StatusModel):
    """A TrainingRun as the API server holds it."""

    metadata: Meta
    spec: TrainingRunSpec
    status: TrainingRunStatus = Field(default_factory=TrainingRunStatus)
