"""The chart's values as models: names, types, defaults, meanings. `hack/chart.py` writes the rest from it.

Every model is closed, so that a misspelt value is refused. `global` alone is open: other charts keep theirs there too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
CIDR = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"

OptionalName = Annotated[str, StringConstraints(pattern=rf"^({NAME})?$", max_length=63)]
Registry = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.\[\]-]+(:[0-9]+)?(/[a-z0-9._-]+)*)?$")]
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$")]
Tag = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")]
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY)]
Port = Annotated[int, Field(ge=1, le=65535)]
Texts = dict[str, str]
Objects = list[dict[str, Any]]


class Model(BaseModel):
    """Keys in camel case; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Reference(Model):
    """An object of the same namespace, by name."""

    name: Annotated[str, StringConstraints(pattern=rf"^{NAME}(\.{NAME})*$", max_length=253)]


class Toleration(Model):
    """A toleration of a pod."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Spread(Model):
    """A topology spread constraint of a pod."""

    max_skew: Annotated[int, Field(ge=1)]
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: dict[str, Any] | None = None
    match_label_keys: list[str] | None = None
    min_domains: int | None = None
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    node_taints_policy: Literal["Honor", "Ignore"] | None = None


class Affinity(Model):
    """The affinity of a pod."""

    node_affinity: dict[str, Any] | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class Variable(Model):
    """A variable of a container."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str | None = None
    value_from: dict[str, Any] | None = None


class Resources(Model):
    """Requests and limits of a container."""

    requests: dict[str, Quantity] = Field({}, description="What is set aside for it.")
    limits: dict[str, Quantity] = Field({}, description="What it may use at most.")


JobResource = Literal["cpu", "memory", "ephemeral-storage"]


class JobResources(Model):
    """Requests and limits of the CPU Jobs."""

    requests: dict[JobResource, Quantity] = Field(
        {}, description="Requests where a Project sets none; cpu `100m` and memory `256Mi` when unset."
    )
    limits: dict[JobResource, Quantity] = Field(
        {},
        description="Limits where a Project sets none; memory `1Gi` when unset. Set `cpu` where a ResourceQuota asks "
        "for it: then every container that Chorus makes has that limit too.",
    )


class Image(Model):
    """An image: `[registry/]name[:tag][@digest]`."""

    registry: Registry = Field("", description="Registry of this image; `global.imageRegistry` when empty.")
    name: ImageName = Field("chorus-operator", description="Name in the registry.")
    tag: Tag = Field("", description="Tag; the chart's appVersion when this and the digest are empty.")
    digest: Digest = Field("", description="Digest, such as `sha256:…`; it wins over the tag.")


class OperatorImage(Image):
    """The operator's image."""

    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="When the operator's own pod pulls it. Pods of runs pull what is not present."
    )


class TrainerImage(Image):
    """The training pods' image."""

    name: ImageName = Field("chorus-trainer", description="Name in the registry.")


class Global(BaseModel):
    """Shared with other charts of an umbrella, so further keys are allowed."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, validate_by_name=True)

    image_registry: Registry = Field(
        "", description="Registry of both images, such as `registry.example:5000/ml`; none when empty."
    )
    image_pull_secrets: list[Reference] = Field(
        [],
        description="Pull secrets of the operator and of `helm test`, as `{name: …}`. "
        "Pods of runs take theirs from `spec.pod.imagePullSecrets` of the Plugin.",
    )


class Crds(Model):
    """The definitions of the three kinds."""

    enabled: bool = Field(
        True, description="Install and upgrade the CRDs with the release. `false` when somebody else applies `crds/`."
    )
    keep: bool = Field(
        True,
        description="Keep the CRDs, and with them every Project, Plugin and TrainingRun, when the release is "
        "uninstalled. With `false` all of them are deleted.",
    )


class Rbac(Model):
    """Rights."""

    create: bool = Field(
        True,
        description="Make the operator's roles and bindings. `false` when you bind rights to its account yourself.",
    )
    scope: Literal["Cluster", "Namespaces"] = Field(
        "Cluster",
        description="`Cluster`: serve every namespace, by a ClusterRole. `Namespaces`: serve those listed, by Roles in "
        "each of them, and no ClusterRole.",
    )
    namespaces: list[Annotated[str, StringConstraints(pattern=rf"^{NAME}$", max_length=63)]] = Field(
        [],
        description="What is served with `scope: Namespaces`; the release's own namespace when empty. They must exist.",
    )
    user_roles: bool = Field(
        True,
        description="Make the ClusterRoles that let those who may view, edit or administer a namespace do so with the "
        "three kinds too. They are not for the operator.",
    )


class AdmissionPolicy(Model):
    """What the operator's account is kept from beyond its rights."""

    enabled: bool = Field(
        True,
        description="With `rbac.scope: Cluster`, and where the API server serves them: make "
        "ValidatingAdmissionPolicies, by which the operator's account writes nothing but objects with its label, "
        "`restricted` pods and headless Services. Whoever installs needs the right to make such policies.",
    )


class ServiceAccount(Model):
    """The operator's identity."""

    create: bool = Field(True, description="Make the ServiceAccount.")
    name: OptionalName = Field("", description="Its name; that of the Deployment when empty.")
    annotations: Texts = Field({}, description="Its annotations.")


class DisruptionBudget(Model):
    """The operator's PodDisruptionBudget."""

    enabled: bool = Field(False, description="Make a PodDisruptionBudget. It is of use with two replicas.")
    max_unavailable: Annotated[int, Field(ge=0, le=1)] = Field(
        1, description="Replicas that evictions may take at once. With 0, no node of the operator can be drained."
    )


class Operator(Model):
    """The operator's Deployment."""

    image: OperatorImage = Field(
        OperatorImage(), description="Image of the operator, and of the Jobs that prepare data and publish."
    )
    replicas: Annotated[int, Field(ge=1, le=2)] = Field(
        1, description="1, or 2: both receive messages, the one that holds the Lease reconciles, the other takes over."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="Form of the log lines.")
    resources: Resources = Field(
        Resources(
            requests={"cpu": "200m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
            limits={"memory": "512Mi", "ephemeral-storage": "256Mi"},
        ),
        description="Requests and limits of the operator's container.",
    )
    node_selector: Texts = Field({}, description="Labels that its node must have.")
    tolerations: list[Toleration] = Field([], description="Taints of nodes that it tolerates.")
    affinity: Affinity = Field(Affinity(), description="Its affinity.")
    topology_spread_constraints: list[Spread] = Field(
        [], description="How replicas spread. A constraint without `labelSelector` counts the operator's pods."
    )
    priority_class_name: str = Field("", description="Its priority class, such as `system-cluster-critical`.")
    pod_labels: Texts = Field({}, description="Further labels of its pods.")
    pod_annotations: Texts = Field({}, description="Annotations of its pods.")
    extra_env: list[Variable] = Field(
        [], description="Further variables of its container, such as `{name: HTTPS_PROXY, value: …}`."
    )
    pod_disruption_budget: DisruptionBudget = Field(DisruptionBudget(), description="Its PodDisruptionBudget.")


class Trainer(Model):
    """Training pods."""

    image: TrainerImage = Field(TrainerImage(), description="Image of training pods, and of `helm test`.")


class ApiServer(Model):
    """Where the API server is, for the egress rule."""

    cidrs: list[Annotated[str, StringConstraints(pattern=CIDR)]] = Field(
        [],
        description="Addresses of the API server. Anywhere when empty, since a policy sees the address behind the "
        "Service `kubernetes`, which differs from cluster to cluster: "
        "`kubectl get endpointslices kubernetes` shows it.",
    )
    ports: list[Port] = Field([443, 6443], description="Its ports, behind the Service and on it.")


class NetworkPolicy(Model):
    """What may reach the operator, and what it may reach. Whatever is not listed is refused."""

    enabled: bool = Field(False, description="Make a NetworkPolicy for the operator's pods, in and out.")
    metrics_from: Objects = Field(
        [{"namespaceSelector": {}}],
        description="Peers that may read metrics and probes at port 8080. Kubelets may in any case.",
    )
    api_server: ApiServer = Field(ApiServer(), description="Where the API server is.")
    extra_ingress: Objects = Field([], description="Further ingress rules.")
    extra_egress: Objects = Field([], description="Further egress rules, such as one to a proxy.")


class ServiceMonitor(Model):
    """The ServiceMonitor."""

    enabled: bool = Field(
        False, description="Make a ServiceMonitor for `/metrics` (needs the Prometheus operator's CRDs)."
    )
    interval: Annotated[str, StringConstraints(pattern=r"^([0-9]+(s|m|h))?$")] = Field(
        "30s", description="How often it is read; Prometheus's own setting when empty."
    )
    labels: Texts = Field({}, description="Further labels, by which your Prometheus chooses.")


class PrometheusRule(Model):
    """The alerts."""

    enabled: bool = Field(
        False, description="Make a PrometheusRule with the alerts (needs the Prometheus operator's CRDs)."
    )
    labels: Texts = Field({}, description="Further labels, by which your Prometheus chooses.")
    runbook_base: str = Field(
        "", description="Where you serve the folder docs/: what `runbook_url` of the alerts begins with in its place."
    )


class Dashboard(Model):
    """The dashboard."""

    enabled: bool = Field(False, description="Make a ConfigMap with the Grafana dashboard.")
    labels: Texts = Field({"grafana_dashboard": "1"}, description="Labels by which Grafana's sidecar finds it.")
    annotations: Texts = Field({}, description="Annotations, such as the folder for Grafana's sidecar.")


class Monitoring(Model):
    """Metrics, alerts, dashboard."""

    service_monitor: ServiceMonitor = Field(ServiceMonitor(), description="The ServiceMonitor.")
    prometheus_rule: PrometheusRule = Field(PrometheusRule(), description="The alerts.")
    grafana_dashboard: Dashboard = Field(Dashboard(), description="The dashboard.")


class HelmTest(Model):
    """`helm test`: trains a model that it makes itself, on the CPU, and checks what is published."""

    enabled: bool = Field(True, description="Have `helm test` train something small.")
    deadline_seconds: Annotated[int, Field(ge=30, le=3600)] = Field(
        270,
        description="How long training may take from the start of the test's pod. Helm waits 5 minutes, the first pull "
        "of the trainer image included, unless told otherwise by `--timeout`.",
    )
    storage_class_name: str = Field("", description="StorageClass of the test's claim; the default one when empty.")
    storage_size: Quantity = Field("1Gi", description="Size of the test's claim. It is deleted with the test's pod.")
    node_selector: Texts = Field({}, description="Labels that the nodes of all pods of the test must have.")
    tolerations: list[Toleration] = Field([], description="Taints that all pods of the test tolerate.")


class Values(Model):
    """Everything that can be set."""

    global_: Global = Field(Global(), alias="global", description="Shared with other charts of an umbrella chart.")
    fullname_override: OptionalName = Field(
        "", description="First part of all names; made of the release's name when empty."
    )
    common_labels: Texts = Field({}, description="Further labels of every object and of the operator's pods.")
    crds: Crds = Field(Crds(), description="The definitions of the three kinds.")
    rbac: Rbac = Field(Rbac(), description="Rights of the operator and of users.")
    admission_policy: AdmissionPolicy = Field(
        AdmissionPolicy(), description="What the operator's account is kept from beyond its rights."
    )
    service_account: ServiceAccount = Field(ServiceAccount(), description="The operator's identity.")
    operator: Operator = Field(Operator(), description="The operator.")
    job_resources: JobResources = Field(
        JobResources(),
        description="Resources of the Jobs that prepare data, fetch, publish, serve exchanges and ask images what they "
        "need. `spec.jobResources` of a Project wins, name by name.",
    )
    trainer: Trainer = Field(Trainer(), description="Training pods.")
    network_policy: NetworkPolicy = Field(NetworkPolicy(), description="A NetworkPolicy for the operator.")
    monitoring: Monitoring = Field(Monitoring(), description="Metrics, alerts and dashboard.")
    test: HelmTest = Field(HelmTest(), description="What `helm test` does.")
    extra_objects: Objects = Field(
        [], description="Further objects of the release. Strings in them may hold templates."
    )
