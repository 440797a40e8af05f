"""Which claim holds what a Project has: decided once, when the operator first looks at it, and kept in its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chorus_api import contract
from chorus_api.project import Project
from chorus_kube.client import Kube
from chorus_kube.errors import AlreadyExists, Conflict
from chorus_kube.resources import CLAIMS
from chorus_operator.decisions import names
from chorus_operator.manifests.job import project_claim
from chorus_operator.reconcile.children import is_claim_of, read_claim, read_named_by_user


async def with_claim(kube: Kube, project: Project) -> Project:
    """Fill in `status.claimName` unless it is there. An operator that ends before it is written decides the same again.

    In this order: a claim that the spec names; one that was made for this very Project; one of the former name, and
    then the newest, that a Project of the same name has left (`onDelete: Retain`); else the name of a new one.
    """
    if project.status.claim_name:
        return project
    storage = project.spec.storage
    if storage and storage.claim_name:
        return _with(project, storage.claim_name)
    own, former = names.new_claim(project), names.former_claim(project)
    labels = {contract.MANAGED_BY_LABEL: contract.MANAGED_BY, contract.PROJECT_LABEL: project.metadata.name}
    listed = await kube.list(CLAIMS, namespace=project.metadata.namespace, labels=labels)
    found = {
        claim["metadata"]["name"]: claim
        for claim in listed
        if is_claim_of(claim, project) and "deletionTimestamp" not in claim["metadata"]
    }
    for name in (own, former):
        if name in found:
            return _with(project, name)
    if project.status.dataset is not None:
        # A version that looked at no labels put its frames there: whoever made the claim, the Project's data is on it.
        there = await read_named_by_user(kube, CLAIMS, namespace=project.metadata.namespace, name=former)
        if there is not None:
            return _with(project, former)
    return _with(project, max(found, key=lambda name: _age(found[name]), default=own))


async def make_claim(kube: Kube, project: Project) -> None:
    """Make a Project's claim; Foreign when another claim has the name."""
    name = names.claim(project)
    try:
        await kube.create(project_claim(project))
    except AlreadyExists:
        if await read_claim(kube, name=name, project=project) is None:
            raise Conflict(f"PersistentVolumeClaim {name} was just deleted", status=409, reason="Conflict") from None


def _age(claim: Mapping[str, Any]) -> tuple[str, str]:
    return claim["metadata"].get("creationTimestamp", ""), claim["metadata"]["name"]


def _with(project: Project, claim: str) -> Project:
    return project.model_copy(update={"status": project.status.model_copy(update={"claim_name": claim})})
