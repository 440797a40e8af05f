"""What is kept of an object between two reads: what decisions read, and nothing of what its owner may write at will.

An object's metadata holds up to 256 KiB of annotations, and managedFields and labels without a limit of their own. Spec
and status are bounded by their CRD.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from chorus_api.contract import MANAGED_BY_LABEL, PREPARE_ANNOTATION, TRIGGER_KEY_ANNOTATION

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
)
_ASKED = ("generation", "deletionTimestamp")
_ASKED_ANNOTATIONS = (PREPARE_ANNOTATION, TRIGGER_KEY_ANNOTATION)

Object = dict[str, Any]


def kept(stored: Object) -> Object:
    """Take from an object what decisions read of it; the object itself is not changed.

    Of its metadata: what names and dates it, the owner that controls it, Chorus's own mark, and the trigger key.
    """
    metadata = stored["metadata"]
    slim = {name: metadata[name] for name in _METADATA if name in metadata}
    if owners := [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]:
        slim["ownerReferences"] = owners[:1]  # the API server lets one owner alone be the controller
    labels = metadata.get("labels") or {}
    if MANAGED_BY_LABEL in labels:
        slim["labels"] = {MANAGED_BY_LABEL: labels[MANAGED_BY_LABEL]}
    key = (metadata.get("annotations") or {}).get(TRIGGER_KEY_ANNOTATION)
    if key is not None and len(key) <= MAX_ANNOTATION:
        slim["annotations"] = {TRIGGER_KEY_ANNOTATION: key}
    return {**stored, "metadata": slim}


def asked(stored: Object) -> bytes:
    """Digest what tells a user's change of an object from one that the operator wrote into its status."""
    metadata = stored["metadata"]
    annotations = metadata.get("annotations") or {}
    return digest(
        [[metadata.get(name) for name in _ASKED], [annotations.get(name) for name in _ASKED_ANNOTATIONS]],
    )


def digest(value: Any) -> bytes:
    """Hash a JSON value, whatever the order of its keys, for who only has to know it again: 32 bytes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
