"""Plugin: a way of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from chorus_api.base import (
    CONDITIONS_ARE_SHARED,
    Condition,
    Label63,
    Message,
    Model,
    NameRef,
    ObjectName,
    PatternMessage,
    Rule,
    Sha256,
    ShortText,
    StatusModel,
    Time,
)
from chorus_api.contract import RUN_SERVICE_ACCOUNT
from chorus_api.lora import LoraParameters
from chorus_api.parameters import Parameters, ParametersSchema
from chorus_api.project import ColumnName, ConfigMapSource, Meta, RelativePath
from chorus_api.resources import Resources
from chorus_api.scratch import Scratch

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]


ColumnKey = Annotated[str, StringConstraints(min_length=1, max_length=253)]
InfoKey = Annotated[str, StringConstraints(max_length=63)]
Argument = Annotated[str, StringConstraints(max_length=32768)]


class Requires(Model):
    """What a frame must have for this plugin to suit it."""

    columns: Annotated[list[ColumnName], Field(max_length=64)] | None = Field(
        None,
        description="Columns that the frame must have. When unset: prompt and response for lora, for others what the "
        "plugin reported itself.",
    )
    distinct: dict[ColumnKey, Annotated[int, Field(ge=1, le=1000)]] = Field(
        default_factory=dict,
        max_length=64,
        description="Fewest distinct values of a column, such as 2 of an outcome: with one there is nothing to learn.",
    )
    info: Annotated[list[InfoKey], Field(max_length=64)] | None = Field(
        None, description="Keys that dataset.info must have; what the plugin reported itself when unset."
    )
    min_rows: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Fewest training rows; when unset what the plugin reported itself, else 1.",
    )


class Accelerator(Model):
    """The accelerator of a training pod."""

    resource_name: Annotated[
        str,
        StringConstraints(min_length=3, max_length=253, pattern=r"^[^/\s]+/[^/\s]+$"),
        PatternMessage("must be the full name of an extended resource, such as nvidia.com/gpu"),
    ] = Field("nvidia.com/gpu", description="Name of the extended resource.")
    count: int = Field(1, ge=1, le=1, description="How many; lora uses one.")


class Toleration(Model):
    """A taint that the pods accept."""

    key: ShortText | None = Field(None, description="Key of the taint; all taints when unset and operator is Exists.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="How `value` is compared.")
    value: ShortText | None = Field(None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; every effect when unset."
    )


class EnvVar(Model):
    """One environment variable of the training container."""

    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
        PatternMessage("must be of letters, digits and '_', and not start with a digit"),
    ] = Field(description="Name of the variable.")
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(
        "", description='Its value. Numbers, and true and false, in quotes: "4".'
    )


class PodOptions(Model):
    """Where and how the plugin's pods run."""

    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict,
        max_length=32,
        description='Labels that the node must have. Values such as "true" and "1" in quotes.',
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(
        default_factory=list, description="Taints that the pods accept."
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the training pods.")
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass of the training pods.")
    image_pull_secrets: Annotated[list[NameRef], Field(max_length=16)] = Field(
        default_factory=list, description="Secrets to pull the images with."
    )
    queue_name: Label63 | None = Field(
        None, description="LocalQueue of Kueue that the Jobs of an attempt wait in, by the label that Kueue reads."
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        default_factory=list, description="More environment variables of the training container."
    )


class Deadlines(Model):
    """How long each wait may take, in seconds; when it is over the run fails with a reason that names it."""

    start_seconds: int = Field(86400, ge=10, le=2_592_000, description="From acceptance to the first started pod.")
    data_report_seconds: int = Field(600, ge=10, le=86400, description="From the pod's start to DATA_REPORT.")
    training_start_seconds: int = Field(3600, ge=10, le=604_800, description="From DATA_REPORT to TRAINING_START.")
    progress_seconds: int = Field(1800, ge=10, le=604_800, description="Longest silence of a training pod.")
    model_name_seconds: int = Field(
        600, ge=10, le=604_800, description="From a service's progress of 100 percent to its MODEL_NAME."
    )
    active_seconds: int | None = Field(
        None,
        ge=10,
        le=31_536_000,
        description="From the first started pod to the end, all attempts together; no limit when unset.",
    )


class Checkpointing(Model):
    """When a training pod saves its state."""

    every_seconds: int = Field(300, ge=5, le=86400, description="Time between checkpoints.")
    keep: int = Field(2, ge=1, le=100, description="Newest complete checkpoints kept.")
    grace_seconds: int = Field(120, ge=5, le=3600, description="Time between SIGTERM and SIGKILL, to save in.")


class Retry(Model):
    """How often a run is tried again, by whose fault the failure was."""

    disruption: int = Field(10, ge=0, le=1000, description="Evictions, preemptions, lost nodes.")
    infrastructure: int = Field(3, ge=0, le=1000, description="Kills and internal errors.")
    user: int = Field(0, ge=0, le=100, description="Errors of configuration, data or code.")


class Script(Model):
    """A script of the plugin's own, and the digest that it must have before anything of it is executed."""

    config_map: ConfigMapSource = Field(description="ConfigMap and key that hold the script.")
    sha256: Sha256 = Field(description="SHA-256 of the script's bytes; another content ends the run.")


class LoraScript(Model):
    """A training script in the place of Chorus's own trainer, and the digest that it must have."""

    rules = (Rule("has(self.configMap) != has(self.path)", "script needs exactly one of configMap and path"),)

    config_map: ConfigMapSource | None = Field(None, description="ConfigMap and key that hold the script.")
    path: RelativePath | None = Field(
        None,
        description="Path of the script in the trainer image, relative to /opt/chorus/scripts; no part may be a link.",
    )
    sha256: Sha256 = Field(description="SHA-256 of the script's bytes; another content ends the run.")


class ContainerPlugin(Model):
    """An image that speaks the plugin protocol."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Image to run, best with its digest (name@sha256:…): then every run uses the same."
    )
    command: Annotated[list[Argument], Field(max_length=64)] = Field(
        default_factory=list, description="Command, as in a container; the image's own when empty."
    )
    args: Annotated[list[Argument], Field(max_length=256)] = Field(
        default_factory=list, description="Arguments, as in a container; the image's own when empty."
    )
    messages: Literal["Http", "File"] = Field(
        "Http",
        description="How it speaks. Http: CloudEvents by HTTPS. File: JSON lines appended to $CHORUS_MESSAGES_FILE, "
        "which a sidecar forwards.",
    )
    artefact: Literal["Files", "None"] = Field(
        "Files", description="Files: what is in $CHORUS_OUT_DIR is published as the model. None: there is no artefact."
    )
    frame_format: Literal["parquet", "csv", "jsonl"] = Field(
        "parquet", description="Format of the frame's files in the pod. csv and jsonl are written for each attempt."
    )
    describe: bool = Field(
        True,
        description="true: the image is asked once what it is and needs (ONLINE_INQUIRY). false: this manifest says "
        "everything.",
    )
    script: Script | None = Field(
        None, description="A script for the image to run, mounted at /chorus/script/<key> once its digest is checked."
    )


class ServiceRef(Model):
    """A Service of the Plugin's namespace."""

    name: Label63 = Field(description="Name of the Service.")
    port: int = Field(443, ge=1, le=65535, description="Port of the Service.")
    path: Annotated[
        str,
        StringConstraints(max_length=1024, pattern=r"^(/[^\s#]*)?$"),
        PatternMessage("must begin with '/' and hold no white space and no '#'"),
    ] = Field("/", description="Path that messages are posted to.")
    scheme: Literal["https", "http"] = Field(
        "https", description="http sends the token of a run in the clear: only where nobody else can listen."
    )


class ServicePlugin(Model):
    """A service that speaks the plugin protocol: it is told by POST, and gets its data from an exchange."""

    rules = (
        Rule("has(self.url) != has(self.serviceRef)", "set url or serviceRef, and not both"),
        Rule(
            f"!has(self.serviceAccountName) || self.serviceAccountName != '{RUN_SERVICE_ACCOUNT}'",
            f"serviceAccountName must not be {RUN_SERVICE_ACCOUNT}, which every pod of a run has: name a service "
            "account of the service's own",
        ),
    )

    url: (
        Annotated[
            str,
            StringConstraints(
                max_length=2048,
                pattern=r"^https?://(\[[0-9A-Fa-f:.]+\](:[0-9]+)?|[^\s/@#?%\[\]\\]+)([/?][^\s#]*)?$",
            ),
            PatternMessage(
                "must be https://<host>… or http://<host>…, without user, password and fragment; <host> is without '%'"
            ),
        ]
        | None
    ) = Field(
        None,
        description="Where messages are posted to. This machine, link-local addresses and the API server are refused.",
    )
    service_ref: ServiceRef | None = Field(None, description="A Service of this namespace, in place of url.")
    ca_config_map: ConfigMapSource | None = Field(
        None, description="Certificates (PEM) that the service is known by; those of the system when unset."
    )
    inquiry_seconds: int = Field(
        300, ge=10, le=86400, description="Time between inquiries. After three without an answer it is offline."
    )
    artefact: Literal["Files", "None"] = Field(
        "Files", description="Files: what the service puts into the exchange is published. None: nothing is taken."
    )
    service_account_name: ObjectName | None = Field(
        None,
        description="Service account of this namespace. Its pods may send the service's messages, about all runs of "
        "this Plugin, with their own tokens for the audience chorus. The tokens that the service is told count as "
        "well; they alone when this is unset.",
    )


class PluginSpec(Model):
    """How this plugin trains."""

    rules = (
        Rule("self.type == oldSelf.type", "type is immutable: make a new Plugin"),
        Rule("self.type != 'lora' || has(self.lora)", "lora is required when type is lora (lora: {} is enough)"),
        Rule("self.type == 'lora' || !has(self.lora)", "lora is for type lora: remove it"),
        Rule(
            "self.type == 'lora' || !has(self.script)",
            "script is for type lora: a container's script is container.script",
        ),
        Rule(
            "(self.type == 'container') == has(self.container)",
            "container is required when type is container, and for no other type",
        ),
        Rule(
            "(self.type == 'service') == has(self.service)",
            "service is required when type is service, and for no other type",
        ),
        Rule(
            "self.type != 'lora' || !has(self.parameters) && !has(self.parametersSchema)",
            "parameters and parametersSchema are for containers and services: set spec.lora instead",
        ),
    )

    type: Literal["lora", "container", "service"] = Field(description="Kind of training: lora, container or service.")
    lora: LoraParameters | None = Field(None, description="Parameters; a Project's and a run's win over these.")
    script: LoraScript | None = Field(
        None,
        description="A Python script that trains in place of the trainer, for type lora: in the same image, with the "
        "same files, and with the environment of a container plugin.",
    )
    container: ContainerPlugin | None = Field(None, description="The image, for type container.")
    service: ServicePlugin | None = Field(None, description="Where the service is, for type service.")
    parameters: Parameters = Field(
        default_factory=dict,
        description="Default parameters of a container or service; a Project's and a run's win over these.",
    )
    parameters_schema: ParametersSchema | None = Field(
        None, description="Which parameters a container or service takes; what the plugin reported itself when unset."
    )
    requires: Requires = Field(default_factory=Requires, description="What a frame must have.")
    resources: Resources = Field(default_factory=Resources, description="Resources of the training container.")
    scratch: Scratch = Field(
        default_factory=Scratch,
        description="Room on the node's disk for the plugin's pods, besides the Project's claim: /tmp, and a frame "
        "that is written as csv or jsonl.",
    )
    accelerator: Accelerator | None = Field(None, description="The accelerator; training is on the CPU when unset.")
    pod: PodOptions = Field(default_factory=PodOptions, description="Where and how the pods run.")
    deadlines: Deadlines = Field(default_factory=Deadlines, description="How long each wait may take.")
    checkpoint: Checkpointing = Field(default_factory=Checkpointing, description="When state is saved.")
    retry: Retry = Field(default_factory=Retry, description="How often a run is tried again.")


class OnlineReportEntry(StatusModel):
    """ONLINE_REPORT as received: what the plugin says that it is and needs."""

    generation: int = Field(0, description="Generation of the Plugin that was asked.")
    id: ShortText = Field("", description="What the plugin calls itself, for programs.")
    name: ShortText = Field("", description="What the plugin calls itself, for people.")
    type: ShortText = Field("", description="Kind of model or prescription that it makes.")
    description: Message = Field("", description="What it does.")
    parameters: Parameters = Field(default_factory=dict, description="Its default parameters.")
    parameters_schema: ParametersSchema | None = Field(None, description="Which parameters it takes.")
    needed_columns: Annotated[list[ColumnName], Field(max_length=64)] = Field(
        default_factory=list, description="Columns that the frame must have."
    )
    needed_info: Annotated[list[InfoKey], Field(max_length=64)] = Field(
        default_factory=list, description="Keys that dataset.info must have."
    )
    min_rows: int | None = Field(None, description="Fewest training rows.")
    time: Time


class PluginStatus(StatusModel):
    """What is so now."""

    id: int | None = Field(None, description="plugin_id in messages: a stable positive integer.")
    observed_generation: int = Field(0, description="Generation of the spec that the status is about.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list,
        description="Ready, Online; PodStarted while its image is asked.",
        json_schema_extra=CONDITIONS_ARE_SHARED,
    )
    report: OnlineReportEntry | None = Field(
        None, description="What the plugin said of itself. Written by the message receiver alone."
    )
    last_seen_time: Time | None = Field(None, description="When the plugin was last heard of.")


class Plugin(StatusModel):
    """A Plugin as the API server holds it."""

    metadata: Meta
    spec: PluginSpec
    status: PluginStatus = Field(default_factory=PluginStatus)
