"""Messages, pods and runs for tests of the receiver."""

from __future__ import annotations

import json
from typing import Any

from chorus_api.contract import (
    ATTEMPT_LABEL,
    DESCRIBES_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PLUGIN_GENERATION_ANNOTATION,
    PLUGIN_ID_ANNOTATION,
    PLUGIN_UID_ANNOTATION,
    PREPARE_KEY_LABEL,
    PROJECT_ID_ANNOTATION,
    PROJECT_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    RUN_SERVICE_ACCOUNT,
    RUN_UID_ANNOTATION,
)
from chorus_operator.decisions.names import owner_reference

PROJECT_ID, PLUGIN_ID = 4095123, 77
IDS = {"project_id": PROJECT_ID, "plugin_id": PLUGIN_ID}
FRAME = {
    "name": "df-0123456789ab",
    "digest": "sha256:" + "ab" * 32,
    "rows": 100,
    "eval_rows": 5,
    "read_rows": 105,
    "columns": [{"name": "prompt", "type": "string"}],
}


def message(
    kind: str,
    *,
    subject: str,
    attempt: int = 1,
    sequence: int = 1,
    ids: dict[str, int] | None = None,
    attributes: dict[str, Any] | None = None,
    **data: Any,
) -> bytes:
    """Build the body of a message; `attributes` replace the envelope's (None removes one)."""
    event = {
        "specversion": "1.0",
        "id": f"m-{sequence}",
        "source": "/namespaces/default/pods/train",
        "type": f"dev.chorus.{kind}",
        "datacontenttype": "application/json",
        "subjectuid": subject,
        "attempt": str(attempt),
        "sequence": str(sequence),
        "data": {**(IDS if ids is None else ids), **data},
        **(attributes or {}),
    }
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def training_pod(
    run: dict[str, Any], *, name: str = "pod-1", attempt: int = 1, project: str = "home", **metadata: Any
) -> dict[str, Any]:
    """Build the pod of a run's attempt, as the operator labels it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": run["metadata"]["namespace"],
            "labels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                PROJECT_LABEL: project,
                ROLE_LABEL: "train",
                RUN_LABEL: run["metadata"]["name"],
                ATTEMPT_LABEL: str(attempt),
            },
            "annotations": {
                RUN_UID_ANNOTATION: run["metadata"]["uid"],
                PROJECT_ID_ANNOTATION: str(PROJECT_ID),
                PLUGIN_ID_ANNOTATION: str(PLUGIN_ID),
            },
            **metadata,
        },
        "spec": {"serviceAccountName": RUN_SERVICE_ACCOUNT, "containers": [{"name": "trainer", "image": "trainer:1"}]},
    }


def prepare_pod(project: dict[str, Any], *, name: str = "prepare-1", key: str = "abc123") -> dict[str, Any]:
    """Build the pod that prepares a Project's frame, as the operator labels it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": project["metadata"]["namespace"],
            "labels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                PROJECT_LABEL: project["metadata"]["name"],
                ROLE_LABEL: "prepare",
                PREPARE_KEY_LABEL: key,
            },
            "annotations": {PROJECT_ID_ANNOTATION: str(PROJECT_ID)},
        },
        "spec": {"serviceAccountName": RUN_SERVICE_ACCOUNT, "containers": [{"name": "prepare", "image": "operator:1"}]},
    }


def service_account(name: str, *, namespace: str = "default") -> dict[str, Any]:
    """Build a service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def service_pod(*, account: str = "far", name: str = "far-0", namespace: str = "default") -> dict[str, Any]:
    """Build a pod of a service, which Chorus did not make."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "far"}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "far", "image": "registry.test/far:1"}]},
    }


def service_config(run: dict[str, Any], *, account: str | None = "far", **changes: Any) -> dict[str, Any]:
    """Build the ConfigMap with what a service's run was accepted with; `changes` replace what run.json says."""
    metadata = run["metadata"]
    told = {
        "type": "service",
        "runName": metadata["name"],
        "runUid": metadata["uid"],
        "runId": "run_20260101_000000_abcd",
        "namespace": metadata["namespace"],
        "project": "home",
        "plugin": "far",
        "projectId": PROJECT_ID,
        "pluginId": PLUGIN_ID,
        "frameName": FRAME["name"],
        "frameDigest": FRAME["digest"],
        "modelName": f"{metadata['name']}-abcde",
        "messaging": {"url": "https://unused", "tokenFile": "", "caFile": "", "subjectUid": "", "source": "/unused"},
        "url": "https://far.example.org/chorus",
        "serviceAccount": account,
        **changes,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{metadata['name']}-{metadata['uid'][:5]}-frozen",
            "namespace": metadata["namespace"],
            "ownerReferences": [owner_reference("TrainingRun", metadata["name"], metadata["uid"])],
        },
        "data": {"run.json": json.dumps(told), "train-key": "abc"},
        "immutable": True,
    }


def accepted_by_service(run: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Give a run with the status that names the ConfigMap of what it was accepted with."""
    resolved = {"configMap": config["metadata"]["name"], "hash": "abc"}
    return {**run, "status": {**run.get("status", {}), "resolved": resolved}}


def training_run(
    name: str = "home-soft-1", *, project: str = "home", attempt: int = 1, **status: Any
) -> dict[str, Any]:
    """Build a run at an attempt."""
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"projectRef": {"name": project}, "plugin": "soft"},
        "status": {"attempts": {"current": attempt}, **status},
    }


def ended(status: str = "True") -> dict[str, Any]:
    """Give the condition of a run that has ended."""
    return {
        "type": "Succeeded",
        "status": status,
        "reason": "Trained",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def project(name: str = "home") -> dict[str, Any]:
    """Build a Project."""
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "dataset": {"source": {"inline": {"data": "prompt,response\na,b\n"}}, "format": "csv"},
            "plugins": [{"name": "soft", "pluginRef": {"name": "soft"}}],
        },
    }


def plugin(name: str = "soft") -> dict[str, Any]:
    """Build a Plugin of type container."""
    return {
        "apiVersion": "chorus.dev/v1alpha1",
        "kind": "Plugin",
        "metadata": {"name": name, "namespace": "default", "generation": 1},
        "spec": {"type": "container", "container": {"image": "registry.test/classifier:1"}},
    }


def describe_pod(plugin: dict[str, Any], *, name: str = "describe-1") -> dict[str, Any]:
    """Build the pod that asks a Plugin's image, as the operator labels it."""
    metadata = plugin["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, DESCRIBES_LABEL: metadata["name"], ROLE_LABEL: "describe"},
            "annotations": {PLUGIN_UID_ANNOTATION: metadata["uid"], PLUGIN_GENERATION_ANNOTATION: "1"},
        },
        "spec": {
            "serviceAccountName": RUN_SERVICE_ACCOUNT,
            "containers": [{"name": "plugin", "image": "registry.test/classifier:1"}],
        },
    }
