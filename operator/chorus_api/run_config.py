"""What the operator hands to its pods, and what they leave behind. Each is a JSON file with a version.

Everything can be imported from here. What a publish pod reads and writes is defined in `publication` and `records`:
this module builds the models of the kinds as well, which takes longer than all that such a pod does.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from chorus_api.contract import EXCHANGE_PORT
from chorus_api.file_model import FileModel as FileModel
from chorus_api.lora import ResolvedLora
from chorus_api.parameters import Parameters
from chorus_api.project import DataFormat, Fields, UriSource
from chorus_api.publication import ListedRuns as ListedRuns
from chorus_api.publication import PublishConfig as PublishConfig
from chorus_api.records import Outcome as Outcome
from chorus_api.records import RunRecord as RunRecord
from chorus_api.records import TerminationRecord as TerminationRecord


class FrozenScript(FileModel):
    """A plugin's own script: where it is, and the digest that it must have."""

    config_map: str = Field(description="ConfigMap that holds it.")
    key: str = Field(description="Key of the ConfigMap; the file is /chorus/script/<key>.")
    sha256: str = Field(description="Digest that its bytes must have.")


class Messaging(FileModel):
    """Where and how a pod speaks to the control plane."""

    url: str = Field(description="https://…/v1/messages")
    token_file: str = Field(description="Projected service-account token; read again before each message.")
    ca_file: str = Field(description="CA bundle; read again before each message.")
    subject_uid: str = Field(description="uid of the run, or of the Project for a prepare Job.")
    source: str = Field(description="CloudEvents source: /namespaces/<namespace>/pods/<role>.")


class FrozenRun(FileModel):
    """What /chorus/run.json says for every type of plugin. The attempt is in the environment (CHORUS_ATTEMPT)."""

    frozen_later: ClassVar[frozenset[str]] = frozenset()
    """Fields that the first versions took live: in what they froze a value of these is nobody's word."""

    run_name: str = Field(description="Name of the TrainingRun.")
    run_uid: str = Field(description="Its uid; `subjectuid` of messages.")
    run_id: str = Field(description="Its id for people: run_<time>_<digits>.")
    namespace: str = Field(description="Its namespace.")
    project: str = Field(description="Name of the Project.")
    plugin: str = Field(description="Entry of the Project's spec.plugins.")
    project_id: int = Field(description="`project_id` of messages.")
    plugin_id: int = Field(description="`plugin_id` of messages.")
    frame_name: str = Field(description="Name of the frame.")
    frame_digest: str = Field(description="sha256:… of the frame's content.")
    model_name: str = Field(description="Name under which the artefact will be published.")
    info: dict[str, str] = Field(default_factory=dict, description="`dataset.info` of the Project.")
    messaging: Messaging = Field(description="Where and how to speak to Chorus.")
    type: str = Field(description="Type of the plugin.")


class ForwardConfig(FileModel):
    """/chorus/forward.json of the sidecar that sends what a container writes into its messages file.

    The ids are filled in where a line has none; 0 for a describe pod, whose messages carry none.
    """

    messages_file: str
    project_id: int = 0
    plugin_id: int = 0
    messaging: Messaging


class LoraScriptConfig(FileModel):
    """The script that trains in place of the trainer: only if its bytes have the digest, and it lies below `root`."""

    root: str
    path: str = Field(description="Relative to `root`; no part of it is a link.")
    sha256: str
    config_map: str | None = Field(None, description="ConfigMap that it comes from; None: it is in the image.")


class FrozenBaseModel(FileModel):
    """Where a base model comes from, and where it is for a pod: on a claim, or in the image."""

    uri: str = ""
    revision: str | None = None
    secret: str | None = Field(None, description="Secret with the hub's token.")
    claim: str | None = Field(None, description="Claim that holds it; None: it is in the image.")
    sub_path: str | None = Field(None, description="Its directory on the claim.")
    image_path: str | None = Field(None, description="Its directory in the image.")
    base_model_id: str | None = Field(None, description="Name of its directory under base/ when it is fetched first.")


class RunConfig(FrozenRun):
    """/chorus/run.json of a LoRA run."""

    frozen_later = frozenset({"image", "base_model", "resume_model"})

    type: Literal["lora"] = "lora"
    image: str = Field("", description="Image of the trainer.")
    base_model: FrozenBaseModel = Field(default_factory=FrozenBaseModel)
    resume_model: str | None = Field(None, description="Published model to start from (resumeFrom).")
    base_model_uri: str
    base_model_path: str = Field(description="Directory of the base model in the pod.")
    resume_adapter_path: str | None = Field(None, description="Adapter to start from (resumeFrom).")
    encoder_decoder: ResolvedLora = Field(description="Every parameter, should the base model be an encoder-decoder.")
    decoder: ResolvedLora = Field(description="Every parameter, should the base model be a decoder.")
    checkpoint_every_seconds: int
    checkpoint_keep: int
    grace_seconds: int
    script: LoraScriptConfig | None = None


class ContainerConfig(FrozenRun):
    """/chorus/run.json of a container's run."""

    type: Literal["container"] = Field("container", description="Type of the plugin.")
    image: str = Field(description="Image of the container.")
    command: list[str] = Field(default_factory=list, description="Its command; the image's own when empty.")
    args: list[str] = Field(default_factory=list, description="Its arguments; the image's own when empty.")
    messages: Literal["Http", "File"] = Field("Http", description="How it speaks.")
    artefact: Literal["Files", "None"] = Field("Files", description="Whether an artefact is published.")
    frame_format: Literal["parquet", "csv", "jsonl"] = Field(
        "parquet", description="Format of the frame's files in the pod."
    )
    script: FrozenScript | None = Field(None, description="Script that is mounted.")
    parameters: Parameters = Field(default_factory=dict, description="Every parameter as it was resolved.")


class ServiceConfig(FrozenRun):
    """run.json of a service's run: what the operator froze. No pod reads it."""

    type: Literal["service"] = "service"
    url: str = Field(description="Where TRAINING_DATA is posted to.")
    ca_config_map: str | None = Field(None, description="ConfigMap with the certificates that the service is known by.")
    ca_key: str | None = None
    artefact: Literal["Files", "None"] = "Files"
    service_account: str | None = Field(
        None, description="Service account of the namespace whose pods may send the service's messages."
    )
    parameters: Parameters = Field(default_factory=dict)


class KeptFrames(FileModel):
    """The frames of a claim that a Project still needs."""

    names: list[str] = Field(description="The one in use, and those of its runs that have not ended.")
    listed: AwareDatetime = Field(description="When the list was made: what is younger is needed too.")


class PrepareConfig(FileModel):
    """/chorus/job.json of a prepare Job; the claim is at /chorus/volume.

    The source is the file at `source_path`, or else what `uri` or `database_key` tells of, with the files of a Secret
    in `secret_dir`.
    """

    project: str
    project_id: int
    project_uid: str
    prepare_key: str
    source_path: str = Field("", description="The file; empty for uri and database_key.")
    source_root: str | None = Field(
        None, description="Directory that the file lies below: links that leave it are refused. None: any are followed."
    )
    source_name: str = Field(description="What people call it: claim/path, ConfigMap key, inline, URL, Secret key.")
    uri: UriSource | None = Field(None, description="A file to fetch first.")
    database_key: str | None = Field(None, description="Read the database whose address is this file in `secret_dir`.")
    secret_dir: str | None = Field(None, description="Where the source's Secret is mounted.")
    secret_name: str = Field("", description="What people call that Secret.")
    ca_key: str | None = Field(None, description="Certificates that the database is known by: this file in `ca_dir`.")
    ca_dir: str | None = Field(None, description="Where the Secret with the certificates is mounted.")
    ca_secret_name: str = Field("", description="What people call the Secret with the certificates.")
    fetch_seconds: int = Field(3600, description="Time limit of fetching `uri`.")
    fetch_bytes: int = Field(32 << 30, description="Size limit of what `uri` gives, in bytes.")
    format: DataFormat | None
    query: str | None
    query_seconds: int = Field(300, description="Time limit of the query.")
    max_rows: int | None
    missing_values: list[str] | None = Field(None, description="Texts that are missing values; None: the defaults.")
    fields: Fields | None
    eval_fraction: str
    info: dict[str, str] = Field(default_factory=dict)
    keep_frames: KeptFrames | None = Field(
        None, description="Other frames that this Project alone has used are removed. None: nothing is removed."
    )
    api_server: list[str] = Field(
        default_factory=list,
        description="Where the API server is, as host or host:port: nothing is fetched from there.",
    )
    messaging: Messaging


class FetchConfig(FileModel):
    """/chorus/job.json of a fetch Job: put a hub model under base/<base key>/ of the claim."""

    uri: str
    revision: str | None
    base_key: str
    project_uid: str = Field(
        description="Part of the name of the directory that is fetched into: Projects may share a claim."
    )
    token_file: str | None = None
    api_server: list[str] = Field(
        default_factory=list,
        description="Where the API server is, as host or host:port: nothing is fetched from there.",
    )


class ExchangeConfig(FileModel):
    """/chorus/job.json of an exchange Job, which serves a run's frame to a service and takes its artefact.

    The attempt is in the environment variable CHORUS_ATTEMPT.
    """

    run_name: str
    run_uid: str
    project_id: int
    plugin_id: int
    hosts: list[str] = Field(min_length=1, description="Names that the service reaches the exchange by.")
    port: int = EXCHANGE_PORT
    token_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the bearer token, hex digits: the token itself is in no file."
    )
    max_bytes: int = Field(ge=0, description="Most bytes of the artefact in all; 0: none is taken.")
    max_files: int = Field(ge=0, description="Most files of the artefact.")
    messaging: Messaging
