"""CustomResourceDefinitions as they are, and as they were before most of a status became atomic."""

from __future__ import annotations

import copy
from typing import Any

from chorus_api import crd

Definition = dict[str, Any]
WITH_KEYS_BEFORE = {"plugins": "name", "latestModel": "plugin"}
"""Lists of a Project's status whose rows had an entry each in managedFields."""


def definition_of(kind: str, *, group: str | None = None) -> Definition:
    """Give the definition of a kind of Chorus; `group`: of its twin in that group, which disturbs nobody."""
    [wanted] = [each for each in crd.KINDS if each.name == kind]
    definition = copy.deepcopy(crd.definition(wanted))
    if group is not None:
        definition["spec"]["group"] = group
        definition["metadata"]["name"] = f"{wanted.plural}.{group}"
        names = definition["spec"]["names"]
        del names["shortNames"], names["categories"]
    return definition


def granular(definition: Definition) -> Definition:
    """Give the definition with an owner for each field of a status, as it was."""
    before = copy.deepcopy(definition)
    for name, part in status_fields(before).items():
        part.pop("x-kubernetes-map-type", None)
        part.get("items", {}).pop("x-kubernetes-map-type", None)
        if name in WITH_KEYS_BEFORE:
            part |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [WITH_KEYS_BEFORE[name]]}
    return before


def status_fields(definition: Definition) -> dict[str, Definition]:
    """Give the schema of each field of the status."""
    [version] = definition["spec"]["versions"]
    fields: dict[str, Definition] = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    return fields
