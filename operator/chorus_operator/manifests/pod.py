"""The parts that all pods of Chorus share: the restricted profile, the identity, the volumes, the placement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chorus_api import contract
from chorus_api.plugin import PodOptions
from chorus_api.quantity import amount
from chorus_api.scratch import Scratch
from chorus_operator.manifests.storage import bounded, bounded_beside, scratch_volume

Manifest = dict[str, Any]

UID = 65532
TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class Mount:
    """One place in the container, and the volume behind it."""

    volume: str
    path: str
    sub_path: str | None = None
    read_only: bool = False

    def manifest(self) -> Manifest:
        """Give the volumeMount."""
        optional = {"subPath": self.sub_path} if self.sub_path else {}
        return {"name": self.volume, "mountPath": self.path, "readOnly": self.read_only} | optional


@dataclass(frozen=True)
class Placement:
    """Where a pod may run, and what it may pull."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Manifest] = ()
    image_pull_secrets: Sequence[str] = ()
    priority_class: str | None = None
    runtime_class: str | None = None


def placement_of(options: Sequence[PodOptions], *, training: bool) -> Placement:
    """Place a pod by the plugins' options.

    A training pod has one set. A prepare Job has those of all plugins, since its volume will stay on the node: it takes
    the labels that they agree on, and tolerates what any of them does.
    """
    agreed = dict(options[0].node_selector) if options else {}
    for other in options[1:]:
        agreed = {key: value for key, value in agreed.items() if other.node_selector.get(key) == value}
    tolerations: list[Manifest] = []
    secrets: list[str] = []
    for option in options:
        for toleration in option.tolerations:
            manifest = toleration.model_dump(by_alias=True, exclude_none=True)
            if manifest not in tolerations:
                tolerations.append(manifest)
        secrets += [ref.name for ref in option.image_pull_secrets if ref.name not in secrets]
    return Placement(
        agreed,
        tolerations,
        secrets,
        options[0].priority_class_name if options and training else None,
        options[0].runtime_class_name if options and training else None,
    )


def claim_volume(name: str, claim: str, *, read_only: bool = False) -> Manifest:
    """Mount a claim."""
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}


def config_map_volume(name: str, config_map: str) -> Manifest:
    """Mount a ConfigMap."""
    return {"name": name, "configMap": {"name": config_map}}


def identity_volume() -> Manifest:
    """The pod's token for the message receiver, and the CA bundle to know the receiver by."""
    token = {"audience": contract.AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    bundle = {"name": contract.CA_CONFIG_MAP, "items": [{"key": contract.CA_KEY, "path": contract.CA_KEY}]}
    return {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": bundle}]}}


IDENTITY_MOUNT = Mount("identity", str(contract.IDENTITY_DIR), read_only=True)


def same_node(project: str, *, one_node: bool) -> Manifest:
    """Keep the pods of a Project on one node when its volume can be on one node only; the first may go anywhere."""
    if not one_node:
        return {}
    term = {
        "labelSelector": {"matchLabels": {contract.PROJECT_LABEL: project}},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def whole_cpus(resources: Mapping[str, Mapping[str, str]]) -> int | None:
    """Count the CPUs of a container for its thread pools: the limit, else the request, rounded up."""
    quantity = resources.get("limits", {}).get("cpu") or resources.get("requests", {}).get("cpu")
    return None if quantity is None else max(1, math.ceil(amount(quantity)))


def restricted(container: Manifest, mounts: Sequence[Mount], *, tmp: bool = True) -> Manifest:
    """Complete a container: the restricted profile, and its mounts, with a /tmp to write to unless `tmp` is false."""
    return {
        "terminationMessagePath": str(contract.TERMINATION_LOG),
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [mount.manifest() for mount in (*mounts, *([Mount("tmp", "/tmp")] if tmp else ()))],
        **container,
    }


def pod_template(
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    container: Manifest,
    volumes: Sequence[Manifest],
    mounts: Sequence[Mount],
    placement: Placement,
    affinity: Manifest,
    grace_seconds: int,
    scratch: Scratch,
    init_containers: Sequence[Manifest] = (),
    tmp: bool = True,
) -> Manifest:
    """Build a pod that passes the restricted profile, has no API token, and can write to its mounts and /tmp alone.

    `scratch`: what /tmp may hold, and with it what the pod may use of its node's disk. `tmp`: whether there is a /tmp.
    """
    main = bounded(restricted(container, mounts, tmp=tmp), scratch)
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": contract.RUN_SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [main],
        **({"initContainers": [bounded_beside(each) for each in init_containers]} if init_containers else {}),
        "volumes": [*volumes, *([scratch_volume("tmp", scratch)] if tmp else ())],
        "nodeSelector": dict(placement.node_selector),
        "tolerations": list(placement.tolerations),
        "affinity": affinity,
        "imagePullSecrets": [{"name": name} for name in placement.image_pull_secrets],
    }
    if placement.priority_class:
        spec["priorityClassName"] = placement.priority_class
    if placement.runtime_class:
        spec["runtimeClassName"] = placement.runtime_class
    noted = {**annotations, contract.MAIN_CONTAINER_ANNOTATION: container["name"]}
    return {"metadata": {"labels": dict(labels), "annotations": noted}, "spec": spec}
