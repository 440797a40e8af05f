"""What is kept of an object between two reads: what decisions read, and nothing of what its owner may write at will.

An object's metadata holds up to 256 KiB of annotations, and managedFields and labels without a limit of their own. Spec
and status are bounded by their CRD. Of Jobs and pods next to nothing of the spec is read, which is most of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from chorus_api import contract

MAX_ANNOTATION = 253
"""Characters of an annotation that is kept. What Chorus writes itself is shorter; a longer one is somebody else's."""
_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_LABELS = (
    contract.MANAGED_BY_LABEL,
    contract.RUN_LABEL,
    contract.PROJECT_LABEL,
    contract.DESCRIBES_LABEL,
    contract.JOB_NAME_LABEL,
)
_POD_LABELS = (*_LABELS, contract.ROLE_LABEL, contract.ATTEMPT_LABEL, contract.PREPARE_KEY_LABEL)
_CHILD_ANNOTATIONS = (
    contract.RUN_UID_ANNOTATION,
    contract.MAIN_CONTAINER_ANNOTATION,
    contract.SUSPENDED_ANNOTATION,
    contract.FROZEN_DIGEST_ANNOTATION,
)
_POD_ANNOTATIONS = (
    *_CHILD_ANNOTATIONS,
    contract.PROJECT_ID_ANNOTATION,
    contract.PLUGIN_ID_ANNOTATION,
    contract.PLUGIN_UID_ANNOTATION,
    contract.PLUGIN_GENERATION_ANNOTATION,
)
_TRACKING = "batch.kubernetes.io/job-tracking"
_ASKED = ("generation", "deletionTimestamp")
_ASKED_ANNOTATIONS = (contract.PREPARE_ANNOTATION, contract.TRIGGER_KEY_ANNOTATION)

Object = dict[str, Any]


def kept(stored: Object) -> Object:
    """Take from a Plugin or a run what decisions read of it; the object itself is not changed.

    Of its metadata: what names and dates it, the owner that controls it, Chorus's own mark, and the trigger key.
    """
    return {**stored, "metadata": _slim(stored["metadata"], annotations=[contract.TRIGGER_KEY_ANNOTATION])}


def kept_project(stored: Object) -> Object:
    """Take from a Project what decisions read of it: as `kept`, and what a user last asked to be prepared.

    That annotation is kept whatever its length, since a preparation is named after all of it. A Project that becomes
    too large by it is not kept at all.
    """
    slim = kept(stored)
    asked = (stored["metadata"].get("annotations") or {}).get(contract.PREPARE_ANNOTATION)
    if asked is not None:
        slim["metadata"]["annotations"] = {contract.PREPARE_ANNOTATION: asked}
    return slim


def kept_job(stored: Object) -> Object:
    """Take from a Job what `observed.job_view` and the reconciles read of it."""
    status = stored.get("status") or {}
    return _typed(stored) | {
        "metadata": _slim(stored["metadata"], annotations=_CHILD_ANNOTATIONS, every_owner=True),
        "spec": _some(stored.get("spec") or {}, "suspend"),
        "status": _some(status, "active") | {"conditions": _conditions(status)},
    }


def kept_pod(stored: Object) -> Object:
    """Take from a pod what `observed.pod_view` and the reconciles read of it, and what it is to the receiver."""
    metadata, spec, status = stored["metadata"], stored.get("spec") or {}, stored.get("status") or {}
    slim = _slim(metadata, annotations=_POD_ANNOTATIONS, labels=_POD_LABELS, every_owner=True)
    if _TRACKING in (metadata.get("finalizers") or ()):
        slim["finalizers"] = [_TRACKING]
    return _typed(stored) | {
        "metadata": slim,
        "spec": _some(spec, "nodeName")
        | {"containers": [{"name": container["name"]} for container in spec.get("containers") or ()]},
        "status": _some(status, "phase", "reason", "message")
        | {"conditions": _conditions(status)}
        | {
            name: [_some(each, "name", "state", "started") for each in status.get(name) or ()]
            for name in ("containerStatuses", "initContainerStatuses")
        },
    }


def _typed(stored: Object) -> Object:
    return {"apiVersion": stored["apiVersion"], "kind": stored["kind"]}


def _some(values: Mapping[str, Any], *names: str) -> Object:
    return {name: values[name] for name in names if name in values}


def _conditions(status: Mapping[str, Any]) -> list[Object]:
    shown = ("type", "status", "reason", "message", "lastTransitionTime")
    return [_some(condition, *shown) for condition in status.get("conditions") or ()]


def _slim(
    metadata: Mapping[str, Any],
    *,
    annotations: Sequence[str],
    labels: Sequence[str] = _LABELS,
    every_owner: bool = False,
) -> Object:
    slim = _some(metadata, *_METADATA)
    owners = [owner for owner in metadata.get("ownerReferences") or () if every_owner or owner.get("controller")]
    if owners:
        slim["ownerReferences"] = owners if every_owner else owners[:1]  # one owner alone can be the controller
    given = metadata.get("labels") or {}
    if kept_labels := {name: given[name] for name in labels if name in given}:
        slim["labels"] = kept_labels
    written = metadata.get("annotations") or {}
    own = {name: written[name] for name in annotations if name in written and len(written[name]) <= MAX_ANNOTATION}
    if own:
        slim["annotations"] = own
    return slim


def asked(stored: Object) -> bytes:
    """Digest what tells a user's change of an object from one that the operator wrote into its status."""
    metadata = stored["metadata"]
    annotations = metadata.get("annotations") or {}
    return digest(
        [[metadata.get(name) for name in _ASKED], [annotations.get(name) for name in _ASKED_ANNOTATIONS]],
    )


def digest(value: Any) -> bytes:
    """Hash a JSON value, whatever the order of its keys, for who only has to know it again: 32 bytes."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
