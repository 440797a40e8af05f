"""Looking for the source of a Project's data before a Job is made that could only hang waiting for it."""

from __future__ import annotations

from chorus_api.nearest import nearest, with_suggestion
from chorus_api.project import ConfigMapSource, Project
from chorus_api.reasons import Reason
from chorus_kube.resources import CONFIG_MAPS
from chorus_operator.decisions.resolve import NamedClaim
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.context import ReconcileContext
from chorus_operator.reconcile.meant import if_missing

KEYS_SHOWN = 20


async def source_problem(context: ReconcileContext, project: Project) -> tuple[Reason, str] | None:
    """Say which claim, ConfigMap or key is not there; None when all are."""
    source, storage, namespace = project.spec.dataset.source, project.spec.storage, project.metadata.namespace
    claims = []
    if storage is not None and storage.claim_name:
        claims.append(NamedClaim("spec.storage.claimName", storage.claim_name))
    if source.volume is not None:
        claims.append(NamedClaim("spec.dataset.source.volume.claimName", source.volume.claim_name))
    for claim in claims:
        missing = await if_missing(context, namespace, claim)
        if missing is not None:
            return Reason.VOLUME_NOT_FOUND, missing.missing
    return await _key_problem(context, namespace, source.config_map) if source.config_map is not None else None


async def _key_problem(context: ReconcileContext, namespace: str, source: ConfigMapSource) -> tuple[Reason, str] | None:
    stored = await read_named_by_user(context.kube, CONFIG_MAPS, namespace=namespace, name=source.name)
    if stored is None:
        return (
            Reason.CONFIG_MAP_NOT_FOUND,
            f"spec.dataset.source.configMap.name: there is no ConfigMap {source.name!r} in this namespace; create it.",
        )
    keys = sorted([*stored.get("data", {}), *stored.get("binaryData", {})])
    if source.key in keys:
        return None
    message = (
        f"spec.dataset.source.configMap.key: ConfigMap {source.name!r} has no key {source.key!r}; it has "
        f"{', '.join(keys[:KEYS_SHOWN]) or 'none'}."
    )
    return Reason.CONFIG_MAP_NOT_FOUND, with_suggestion(message, nearest(source.key, keys))
