"""Project: one data set and the plugins that train on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from chorus_api.base import (
    CONDITIONS_ARE_SHARED,
    LIST_MAP_KEYS,
    Condition,
    Fraction,
    Label20,
    Message,
    Metrics,
    Model,
    NameRef,
    ObjectName,
    PatternMessage,
    Quantity,
    Rule,
    ShortText,
    StatusModel,
    Time,
)
from chorus_api.lora import LoraParameters
from chorus_api.parameters import Parameters
from chorus_api.resources import Resources
from chorus_api.scratch import Scratch

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^/].*$"),
    PatternMessage(
        "must be relative to the root of the volume, without a '/' at the start and without '..' parts",
        also="!self.split('/').exists(part, part == '..')",
    ),
]
DataFormat = Literal["csv", "jsonl", "parquet", "sqlite"]


class VolumeSource(Model):
    """A file on a claim, mounted read-only into the prepare Job."""

    claim_name: ObjectName = Field(description="PersistentVolumeClaim of the same namespace.")
    path: RelativePath = Field(description="Path of the file, relative to the root of the volume.")


class ConfigMapSource(Model):
    """A key of a ConfigMap (`data` or `binaryData`)."""

    name: ObjectName = Field(description="ConfigMap of the same namespace.")
    key: Annotated[
        str,
        StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
        PatternMessage("must be a key of a ConfigMap: letters, digits, '-', '_' and '.'"),
    ] = Field(description="Key that holds the file.")


class InlineSource(Model):
    """The data itself."""

    data: Annotated[str, StringConstraints(min_length=1, max_length=65536)] = Field(
        description="Content of the file, at most 64 KiB; `format` must be csv or jsonl."
    )


class UriSource(Model):
    """A file of a web server, an object store or a hub of data sets, fetched by the prepare Job."""

    url: Annotated[
        str,
        StringConstraints(
            min_length=1,
            max_length=2048,
            pattern=r"^(https://(\[[0-9A-Fa-f:.]+\](:[0-9]+)?|[^\s/?#@%\[\]\\]+)(/\S*)?"
            r"|(s3|gs)://[a-z0-9][a-z0-9._-]+[a-z0-9]/.+|hf://datasets/[^\s/]+/[^\s/]+/.+)$",
        ),
        PatternMessage(
            "must be https://host/path, s3://bucket/key, gs://bucket/object or hf://datasets/owner/name/path, without "
            "user and password: credentials belong into the Secret of secretRef; the host is a name, an IPv4 address "
            "or an IPv6 address in brackets, without '%'"
        ),
    ] = Field(
        description="Where the file is: https://host/path, s3://bucket/key, gs://bucket/object, or "
        "hf://datasets/owner/name/path with `@revision` at the end if it is not the default branch."
    )
    sha256: (
        Annotated[
            str,
            StringConstraints(max_length=64, pattern=r"^[0-9a-f]{64}$"),
            PatternMessage("must be a SHA-256 digest: 64 digits of 0-9 and a-f"),
        ]
        | None
    ) = Field(None, description="SHA-256 digest of the file; another content is refused before anything of it is read.")
    secret_ref: NameRef | None = Field(
        None,
        description="Secret of the same namespace with the credentials, seen by the prepare Job alone; without it "
        "the file must be open to everyone. Keys: authorization or token, with hosts that "
        "they may be sent to (https), access-key-id and secret-access-key (s3), credentials.json (gs), token (hf).",
    )


class SecretKeyRef(Model):
    """A key of a Secret."""

    name: ObjectName = Field(description="Secret of the same namespace.")
    key: Annotated[
        str,
        StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
        PatternMessage("must be a key of a Secret: letters, digits, '-', '_' and '.'"),
    ] = Field(description="Key that holds the value.")


class SqlSource(Model):
    """A database, read by `query` in a transaction that may only read."""

    url_secret_key_ref: SecretKeyRef = Field(
        description="Where the database's address is, such as postgresql://user:password@host:5432/database; or "
        "sqlite:///file.db for a file on the Project's claim. Seen by the prepare Job alone."
    )
    ca_secret_key_ref: SecretKeyRef | None = Field(
        None,
        description="Certificates (PEM) of the authority that signed the database's own, in the Secret of the address "
        "or in another; postgresql only. With it the connection is encrypted and the database's certificate and host "
        "name are checked: sslmode is verify-full unless the address says verify-ca or require.",
    )


class DataSource(Model):
    """Where the rows are: exactly one of the fields."""

    rules = (
        Rule(
            "[has(self.volume), has(self.configMap), has(self.inline), has(self.uri), has(self.sql)]"
            ".filter(x, x).size() == 1",
            "source needs exactly one of volume, configMap, inline, uri, sql",
        ),
    )

    volume: VolumeSource | None = Field(None, description="A file on a claim.")
    config_map: ConfigMapSource | None = Field(None, description="A key of a ConfigMap.")
    inline: InlineSource | None = Field(None, description="The data itself, for small examples.")
    uri: UriSource | None = Field(None, description="A file of a web server, an object store or a hub.")
    sql: SqlSource | None = Field(None, description="A database; `query` says what is read.")


class BestElement(Model):
    """How to take one text out of a cell that holds a JSON list of objects."""

    by: ColumnName = Field(description="Member to compare, a number; the element with the highest is taken.")
    take: ColumnName = Field(description="Member of that element that becomes the text.")


class FieldSource(Model):
    """The column that a prompt or a response comes from."""

    column: ColumnName = Field(description="Name of the column.")
    best: BestElement | None = Field(
        None, description="The cell holds a JSON list of objects: take one member of the best element."
    )


class Fields(Model):
    """How a row becomes an example."""

    prompt: FieldSource | None = Field(None, description="The prompt of an example; the column `prompt` of the frame.")
    response: FieldSource | None = Field(None, description="The wanted answer; the column `response` of the frame.")


class Dataset(Model):
    """The data of a Project and how it becomes a training frame."""

    rules = (
        Rule(
            "!has(self.source.inline) || has(self.format) && self.format in ['csv', 'jsonl']",
            "format must be csv or jsonl when source is inline",
        ),
        Rule(
            "!has(self.query) || has(self.source.sql) || !has(self.format) || self.format == 'sqlite'",
            "query is for sqlite files and sql sources only: remove it or set format: sqlite",
        ),
        Rule(
            "has(self.query) || !has(self.format) || self.format != 'sqlite'",
            "query is required when format is sqlite: one SELECT that names the table",
        ),
        Rule(
            "has(self.query) || !has(self.source.sql)",
            "query is required when source is sql: one SELECT that names the table",
        ),
        Rule("!has(self.format) || !has(self.source.sql)", "format is for files: remove it when source is sql"),
        Rule(
            "!has(self.source.uri) || has(self.format) || self.source.uri.url.matches("
            r"r'(?i)\.(csv|tsv|jsonl|ndjson|parquet|pq|sqlite|sqlite3|db)([@?#].*)?$')",
            "format is required when the ending of source.uri.url does not tell it: csv, jsonl, parquet or sqlite",
        ),
        Rule(
            "!has(self.missingValues)"
            " || !has(self.source.sql) && (!has(self.format) || self.format in ['csv', 'jsonl'])",
            "missingValues is for csv and jsonl files only: remove it",
        ),
    )

    source: DataSource = Field(description="Where the rows are.")
    format: DataFormat | None = Field(
        None,
        description="Format of the file; told from its name's ending when unset (.csv .jsonl .parquet .sqlite .db).",
    )
    query: Annotated[str, StringConstraints(min_length=1, max_length=16384)] | None = Field(
        None, description="One SELECT over a sqlite file or a database. Required for both."
    )
    max_rows: int | None = Field(
        None, ge=1, le=1_000_000_000, description="At most so many rows are read; all when unset."
    )
    missing_values: (
        Annotated[list[Annotated[str, StringConstraints(max_length=32)]], Field(min_length=1, max_length=20)] | None
    ) = Field(
        None,
        description='Texts of csv and jsonl files that stand for a missing value, such as ["NA", ""], in every column. '
        "When unset: in csv an empty field, and words such as NA in columns that hold nothing but numbers or truth "
        "values otherwise; in jsonl none.",
    )
    fields: Fields | None = Field(None, description="How a row becomes an example.")
    eval_fraction: Fraction = Field(
        "0.05",
        description="Share of the rows held back for evaluation, a decimal string; chosen by content, not by chance.",
    )
    refresh_seconds: int | None = Field(
        None,
        ge=60,
        le=31_536_000,
        description="Prepare the data again so long after the last preparation ended, in seconds; never when unset. "
        "Equal content is the same frame and starts nothing.",
    )
    info: dict[Annotated[str, StringConstraints(max_length=63)], Annotated[str, StringConstraints(max_length=1024)]] = (
        Field(
            default_factory=dict,
            max_length=64,
            description='Free facts that plugins may need (additional information). Numbers in quotes: "2026".',
        )
    )


class ProjectPlugin(Model):
    """One plugin that trains on the Project's frame."""

    name: Label20 = Field(description="Name of the entry; runs are called <project>-<name>-<n>.")
    plugin_ref: NameRef = Field(description="The Plugin to use.")
    lora: LoraParameters | None = Field(None, description="Parameters of a lora plugin that win over the Plugin's.")
    parameters: Parameters = Field(
        default_factory=dict, description="Parameters of a container that win over the Plugin's."
    )
    enabled: bool = Field(True, description="false: no runs are made for this entry.")
    optional: bool = Field(False, description="true: its failure does not fail the Project, it sets Degraded.")

    def own_parameters(self) -> dict[str, Any]:
        """Give the parameters that the entry itself sets, of whatever type its plugin is."""
        lora = self.lora.model_dump(mode="json", exclude_none=True) if self.lora else {}
        return lora | dict(self.parameters)


class Objective(Model):
    """What makes one model better than another."""

    metric: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$"),
        PatternMessage("must be the name of a metric, such as eval_loss, train_loss or accuracy"),
    ] = Field(
        "eval_loss",
        description="Metric to compare: eval_loss, train_loss, or any that the plugin reports with MODEL_NAME.",
    )
    direction: Literal["minimize", "maximize"] = Field("minimize", description="Whether less or more is better.")


class Storage(Model):
    """The claim that holds frames, runs and models."""

    rules = (
        Rule(
            "!has(self.claimName) || !has(self.size) && !has(self.storageClassName)",
            "storage needs either claimName (an existing claim) or size and storageClassName, not both",
        ),
    )

    claim_name: ObjectName | None = Field(None, description="An existing claim; nothing is made.")
    size: Quantity | None = Field(None, description="Size of the claim that is made; 10Gi when unset.")
    storage_class_name: ObjectName | None = Field(
        None, description="Class of the claim; the cluster's default when unset."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] = Field(
        "ReadWriteOnce", description="With ReadWriteOnce all pods of the Project are kept on one node."
    )
    on_delete: Literal["Retain", "Delete"] = Field(
        "Retain", description="Whether the claim that was made outlives the Project."
    )


class History(Model):
    """How many ended runs are kept for each plugin; older ones are deleted."""

    succeeded: int = Field(10, ge=1, le=1000, description="TRAINED runs kept for each plugin.")
    failed: int = Field(10, ge=1, le=1000, description="Other ended runs kept for each plugin.")


class ProjectSpec(Model):
    """What to train on and with what."""

    rules = (
        Rule(
            "has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || self.storage == oldSelf.storage)",
            "storage is immutable: make a new Project to move the data",
        ),
    )

    dataset: Dataset = Field(description="The data, and how it becomes a training frame.")
    plugins: Annotated[list[ProjectPlugin], Field(min_length=1, max_length=20)] = Field(
        description="What trains on the frame.", json_schema_extra={LIST_MAP_KEYS: ["name"]}
    )
    train_on: Literal["Change", "Manual"] = Field(
        "Change",
        description="Change: a new run when the frame or the parameters change. Manual: only runs that you create.",
    )
    concurrency_policy: Literal["Queue", "Forbid"] = Field(
        "Queue",
        description="When a plugin has an active run. Queue: the next one waits. Forbid: the next one is cancelled.",
    )
    objective: Objective = Field(default_factory=Objective, description="What makes a model better.")
    promotion: Literal["Always", "IfBetter", "Manual"] = Field(
        "IfBetter", description="Which model `latest` points to, for each plugin."
    )
    storage: Storage | None = Field(None, description="Where frames, runs and models live; a claim of 10Gi when unset.")
    scratch: Scratch | None = Field(
        None,
        description="Room on the node's disk for the Jobs that prepare, fetch and publish; 1Gi when unset. What is "
        "large is on the claim: sources that are fetched, copies of databases, base models. Data is prepared again "
        "when this changes.",
    )
    job_resources: Resources | None = Field(
        None,
        description="Resources of the Jobs that prepare, fetch and publish, and of exchanges. A value that is unset is "
        "the operator's; without one requests are cpu 100m and memory 256Mi, and limits memory 1Gi. With a limit of "
        "cpu the containers that Chorus puts beside a plugin's have one too. Data is prepared again when this changes.",
    )
    history: History = Field(default_factory=History, description="How many ended runs are kept.")
    suspend: bool = Field(False, description="true: no run starts, active runs save and stop.")


class FrameSummary(StatusModel):
    """The training frame."""

    name: ShortText = Field(description="training_df_name in messages.")
    digest: ShortText = Field(description="sha256 digest of the frame's content.")
    rows: int = Field(description="Training rows.")
    eval_rows: int = Field(0, description="Rows held back for evaluation.")
    rejected_rows: int = Field(0, description="Rows that could not be used; the profile says why.")
    columns: Annotated[list[ColumnName], Field(max_length=50)] = Field(
        default_factory=list, description="The first 50 columns."
    )
    config_map: ShortText | None = Field(None, description="ConfigMap with the full profile.")


class Preparations(StatusModel):
    """How often the data was prepared: for each new spec, and by `dataset.refreshSeconds`."""

    key: ShortText = Field(description="Hash of the dataset that the newest preparation is of.")
    number: int = Field(0, ge=0, description="The newest preparation, counted from 0 over all specs.")
    ended_time: Time | None = Field(None, description="When it ended; absent while it goes on.")
    frame_number: int | None = Field(None, ge=0, description="The preparation that made the frame in use.")


class PluginRow(StatusModel):
    """The newest run of one plugin."""

    name: ShortText = Field(description="Entry of spec.plugins.")
    run: ShortText | None = Field(None, description="Newest run.")
    sequence: int = Field(
        0, description="Highest number that a run of this entry ever had, or that was found taken by another run."
    )
    trigger_key: ShortText | None = Field(
        None, description="What the newest automatic run was made for: hash of frame, pluginRef and lora of this entry."
    )
    phase: ShortText | None = Field(None, description="Phase of the newest run, or notApplicable.")
    applicable: bool | None = Field(None, description="Whether the plugin suits the frame.")
    reason: ShortText | None = Field(None, description="Why.")
    message: Message | None = Field(None, description="Why, for people.")
    model_name: ShortText | None = Field(None, description="Model of the newest TRAINED run.")
    metrics: Metrics = Field(default_factory=dict, description="Final metrics of the newest run.")
    outdated: bool = Field(False, description="true: the Plugin was edited after the newest run was made.")


class LeaderboardRow(StatusModel):
    """One trained run in the order of the objective."""

    plugin: ShortText = Field(description="Entry of spec.plugins.")
    run: ShortText = Field(description="The run.")
    value: ShortText = Field(description="The objective's metric.")


class LatestModel(StatusModel):
    """The model that `latest` of a plugin points to."""

    plugin: ShortText = Field(description="Entry of spec.plugins.")
    name: ShortText = Field(description="Name of the model.")
    run: ShortText = Field(description="Run that made it.")
    uri: Annotated[str, StringConstraints(max_length=1024)] = Field(description="Where it is.")
    digest: ShortText = Field(description="sha256 digest of its SHA256SUMS.")
    value: ShortText | None = Field(None, description="The objective's metric.")
    frame: ShortText | None = Field(None, description="Frame that the run was trained on.")


class ProjectStatus(StatusModel):
    """What is so now."""

    id: int | None = Field(None, description="project_id in messages: a stable positive integer.")
    phase: ShortText | None = Field(None, description="Derived from the conditions and the plugins' newest runs.")
    reason: ShortText | None = Field(None, description="Why the phase is as it is.")
    message: Message | None = Field(None, description="Why, for people.")
    observed_generation: int = Field(0, description="Generation of the spec that the status is about.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list,
        description="Ready, DatasetReady, Degraded; Refreshed with refreshSeconds; Reconciled while reconciles fail.",
        json_schema_extra=CONDITIONS_ARE_SHARED,
    )
    claim_name: ShortText | None = Field(
        None,
        description="Claim that holds its frames, runs and models; decided when Chorus first looks at the Project.",
    )
    dataset: FrameSummary | None = Field(None, description="The training frame.")
    preparations: Preparations | None = Field(None, description="How often the data was prepared.")
    looks: Preparations | None = Field(
        None,
        description="Deprecated: the former name of preparations. Read, not written; the next release drops it.",
    )
    plugins: Annotated[list[PluginRow], Field(max_length=20)] = Field(
        default_factory=list, description="One row for each plugin."
    )
    leaderboard: Annotated[list[LeaderboardRow], Field(max_length=10)] = Field(
        default_factory=list, description="The best runs on the present frame."
    )
    latest_model: Annotated[list[LatestModel], Field(max_length=20)] = Field(
        default_factory=list, description="The promoted models."
    )


class Meta(StatusModel):
    """The parts of metadata that Chorus reads."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[dict[str, Any]] = Field(default_factory=list)


class Project(StatusModel):
    """A Project as the API server holds it."""

    metadata: Meta
    spec: ProjectSpec
    status: ProjectStatus = Field(default_factory=ProjectStatus)
