"""Jobs: the training attempt, which the operator retries itself, and the short CPU Jobs around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chorus_api import contract
from chorus_api.operator_config import OperatorConfig
from chorus_api.plugin import PluginSpec, PodOptions
from chorus_api.project import Project
from chorus_api.reasons import ExitCode
from chorus_api.resources import Resources
from chorus_api.scratch import Scratch
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from chorus_operator.decisions.accepted import AcceptedRun
from chorus_operator.decisions.outcome.pod_rows import POLICY_EXIT_CODES
from chorus_operator.decisions.resolve import on_one_node
from chorus_operator.manifests.pod import (
    IDENTITY_MOUNT,
    Manifest,
    Mount,
    claim_volume,
    config_map_volume,
    identity_volume,
    placement_of,
    pod_template,
    same_node,
    whole_cpus,
)
from chorus_operator.manifests.resources import in_manifest

CPU_JOB_RETRIES = 3
CPU_JOB_SECONDS = 6 * 3600
CPU_JOB_GRACE_SECONDS = 30


def attempt_policy(container: str) -> Manifest:
    """Fail the Job at once, by the rule that names the cause: the Job's condition keeps it when the pod is gone."""

    def fail_on(operator: str, codes: list[int]) -> Manifest:
        codes_rule = {"containerName": container, "operator": operator, "values": codes}
        return {"action": "FailJob", "onExitCodes": codes_rule}

    disruption = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {
        "rules": [
            disruption,
            *(fail_on("In", [code]) for code in POLICY_EXIT_CODES),
            fail_on("NotIn", [0]),
        ]
    }


def _cpu_policy(container: str) -> Manifest:
    final = [ExitCode.BAD_CONFIGURATION, ExitCode.BAD_DATA]
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": container, "operator": "In", "values": final},
            },
        ]
    }


def metadata(
    name: str, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str], owner: Manifest
) -> Manifest:
    """Metadata of a child."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": dict(labels),
        "annotations": dict(annotations),
        "ownerReferences": [owner],
    }


def config_map(
    name: str, namespace: str, labels: Mapping[str, str], owner: Manifest, data: Mapping[str, str]
) -> Manifest:
    """An immutable ConfigMap: what a Job was told, for as long as its owner lives."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, namespace, labels, {}, owner),
        "immutable": True,
        "data": dict(data),
    }


def run_owner(run: TrainingRun) -> Manifest:
    """Owner reference to a run."""
    return names.owner_reference("TrainingRun", run.metadata.name, run.metadata.uid)


def project_owner(project: Project) -> Manifest:
    """Owner reference to a Project."""
    return names.owner_reference("Project", project.metadata.name, project.metadata.uid)


def run_volumes(accepted: AcceptedRun) -> list[Manifest]:
    """The volumes that every training pod has: the Project's claim, what was frozen, and its identity."""
    return [
        claim_volume("data", accepted.operator.claim),
        config_map_volume("config", accepted.config_map),
        identity_volume(),
    ]


def run_mounts(run: TrainingRun) -> list[Mount]:
    """Where every training pod finds its own directory, its configuration and its identity."""
    return [
        Mount("data", str(contract.RUN_DIR), f"{contract.RUNS}/{run.metadata.uid}"),
        Mount("config", str(contract.RUN_CONFIG), "run.json", read_only=True),
        Mount("config", str(contract.TRAINING_DATA), "training_data.json", read_only=True),
        IDENTITY_MOUNT,
    ]


def attempt_job(
    run: TrainingRun,
    accepted: AcceptedRun,
    *,
    attempt: int,
    container: Manifest,
    volumes: Sequence[Manifest],
    mounts: Sequence[Mount],
    init_containers: Sequence[Manifest] = (),
    role: str = "train",
    suffix: str = "",
    grace_seconds: int | None = None,
) -> Manifest:
    """The Job of an attempt: never tried again by itself, and failed by the rule that names the cause.

    `suffix`: what follows the attempt's name, of Jobs beside the first. `grace_seconds`: the Plugin's
    checkpoint.graceSeconds when None.
    """
    name, config, operator = names.attempt_job(run, attempt, suffix=suffix), accepted.config, accepted.operator
    labels = names.labels(config.project, role=role, plugin=run.spec.plugin, run=run.metadata.name)
    labels[contract.ATTEMPT_LABEL] = str(attempt)
    annotations = {
        contract.RUN_UID_ANNOTATION: run.metadata.uid,
        contract.PROJECT_ID_ANNOTATION: str(config.project_id),
        contract.PLUGIN_ID_ANNOTATION: str(config.plugin_id),
    }
    template = pod_template(
        labels=labels,
        annotations=annotations,
        container=container,
        volumes=volumes,
        mounts=mounts,
        placement=placement_of([operator.pod], training=True),
        affinity=same_node(config.project, one_node=operator.one_node),
        grace_seconds=operator.checkpoint.grace_seconds if grace_seconds is None else grace_seconds,
        scratch=operator.scratch,
        init_containers=init_containers,
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(
            name,
            run.metadata.namespace,
            labels | ({contract.QUEUE_NAME_LABEL: operator.pod.queue_name} if operator.pod.queue_name else {}),
            annotations | {contract.FROZEN_DIGEST_ANNOTATION: accepted.digest},
            run_owner(run),
        ),
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": attempt_policy(container["name"]),
            "template": template,
        },
    }


def compute(spec: PluginSpec | OperatorConfig, env: dict[str, str]) -> Manifest:
    """The part of a training container that the Plugin says: resources, accelerator, environment."""
    resources = in_manifest(spec.resources)
    cpus = whole_cpus(resources)
    accelerator = spec.accelerator
    if accelerator is not None:
        resources["limits"][accelerator.resource_name] = str(accelerator.count)
    threads = {"OMP_NUM_THREADS": str(cpus)} if cpus else {}
    return {
        "env": [
            *({"name": name, "value": value} for name, value in (env | threads).items()),
            *(variable.model_dump(by_alias=True) for variable in spec.pod.env),
        ],
        "resources": resources,
        "terminationMessagePolicy": "File",
    }


@dataclass(frozen=True)
class ClaimPlace:
    """Where a Project's claim can be mounted, and what its CPU Jobs may use."""

    project: str
    claim: str
    one_node: bool
    scratch: Scratch
    resources: Resources

    @classmethod
    def of(cls, project: Project, resources: Resources) -> ClaimPlace:
        """Read what the Project says now; `resources`: what it comes to with the operator's defaults."""
        scratch = project.spec.scratch or Scratch()
        return cls(project.metadata.name, names.claim(project), on_one_node(project), scratch, resources)

    @classmethod
    def of_run(cls, accepted: AcceptedRun) -> ClaimPlace:
        """Read what the Project said when a run was accepted."""
        operator = accepted.operator
        name, one_node = accepted.config.project, operator.one_node
        return cls(name, operator.claim, one_node, operator.job_scratch, operator.job_resources)


@dataclass(frozen=True)
class Given:
    """What a CPU Job has beside the Project's claim, which is at VOLUME_DIR."""

    env: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[Manifest] = ()
    mounts: Sequence[Mount] = ()
    tmp: bool = True
    """Whether it needs a /tmp to write to."""

    def and_config_map(self, name: str) -> Given:
        """Add the configuration, from the key job.json of a ConfigMap."""
        mount = Mount("config", str(contract.JOB_CONFIG), "job.json", read_only=True)
        return replace(self, volumes=[config_map_volume("config", name), *self.volumes], mounts=[mount, *self.mounts])


def given_to_fetch(volumes: Sequence[Manifest], mounts: Sequence[Mount]) -> Given:
    """What a Job has that fetches from elsewhere: an identity, a home directory, and what the caller adds."""
    # The hub's client keeps what it has fetched once more in the home directory, unless it is told not to.
    env = {"HOME": "/tmp", "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0"}
    return Given(env, [identity_volume(), *volumes], [IDENTITY_MOUNT, *mounts])


def cpu_job(
    *,
    name: str,
    namespace: str,
    place: ClaimPlace,
    owner: Manifest,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    command: str,
    image: str,
    pods: Sequence[PodOptions],
    given: Given,
) -> Manifest:
    """A short Job of the control-plane image on the Project's claim: prepare, fetch or publish. It asks for no GPU."""
    env = [{"name": variable, "value": value} for variable, value in given.env.items()]
    template = pod_template(
        labels=labels,
        annotations=annotations,
        container={
            "name": command,
            "image": image,
            "command": ["python", "-m", "chorus_dataset", command],
            **({"env": env} if env else {}),
            "resources": in_manifest(place.resources),
            "terminationMessagePolicy": "File",
        },
        volumes=[claim_volume("data", place.claim), *given.volumes],
        mounts=[Mount("data", str(contract.VOLUME_DIR)), *given.mounts],
        placement=placement_of(pods, training=False),
        affinity=same_node(place.project, one_node=place.one_node),
        grace_seconds=CPU_JOB_GRACE_SECONDS,
        scratch=place.scratch,
        tmp=given.tmp,
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, namespace, labels, annotations, owner),
        "spec": {
            "backoffLimit": CPU_JOB_RETRIES,
            "activeDeadlineSeconds": CPU_JOB_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _cpu_policy(command),
            "template": template,
        },
    }


def project_claim(project: Project) -> Manifest:
    """The claim that holds a Project's frames, runs and models."""
    storage = project.spec.storage
    spec: dict[str, Any] = {
        "accessModes": [storage.access_mode if storage else "ReadWriteOnce"],
        "resources": {"requests": {"storage": (storage.size if storage and storage.size else "10Gi")}},
    }
    if storage and storage.storage_class_name:
        spec["storageClassName"] = storage.storage_class_name
    described: Manifest = {
        "name": names.claim(project),
        "namespace": project.metadata.namespace,
        "labels": {
            contract.MANAGED_BY_LABEL: contract.MANAGED_BY,
            contract.PROJECT_LABEL: project.metadata.name,
        },
    }
    if storage and storage.on_delete == "Delete":
        described["ownerReferences"] = [project_owner(project)]
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": described, "spec": spec}


def training_run(project: Project, plugin: str, name: str, trigger_key: str) -> Manifest:
    """An automatic run. It carries what it was made for, should the operator end before it can write so in status."""
    labels = names.labels(project.metadata.name, role="run", plugin=plugin)
    annotations = {contract.TRIGGER_KEY_ANNOTATION: trigger_key}
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": metadata(name, project.metadata.namespace, labels, annotations, project_owner(project)),
        "spec": {"projectRef": {"name": project.metadata.name}, "plugin": plugin, "triggeredBy": "chorus"},
    }


def service_account(namespace: str) -> Manifest:
    """The identity of run pods: it has no rights at all."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": contract.RUN_SERVICE_ACCOUNT,
            "namespace": namespace,
            "labels": {contract.MANAGED_BY_LABEL: contract.MANAGED_BY},
        },
        "automountServiceAccountToken": False,
    }
