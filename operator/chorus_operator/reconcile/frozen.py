"""Read the frozen configuration of an accepted run: only a content whose digest is known is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chorus_api.training_run import Resolved, TrainingRun
from chorus_kube.resources import CONFIG_MAPS
from chorus_operator.decisions import names
from chorus_operator.decisions.accepted import AcceptedRun, StoredConfig
from chorus_operator.decisions.run.frozen import digest_of, read_accepted, type_of
from chorus_operator.reconcile.children import Owner, read_child, read_if_owned
from chorus_operator.reconcile.context import ReconcileContext


@dataclass(frozen=True)
class FrozenConfig:
    """What was found: the configuration, or what may become it."""

    accepted: AcceptedRun | None = None
    stored: StoredConfig | None = None
    incomplete: StoredConfig | None = None


async def with_former_names(context: ReconcileContext, run: TrainingRun) -> TrainingRun:
    """Have a run that a former version froze say so: its other children are named like its configuration.

    That version ended before it wrote so into the status, which has no `resolved` yet.
    """
    name = names.former_config_map(run)
    if await read_if_owned(context.kube, CONFIG_MAPS, name=name, owner=Owner.of(run)) is None:
        return run
    named = run.status.model_copy(update={"resolved": Resolved(config_map=name, hash="")})
    return run.model_copy(update={"status": named})


async def read_frozen(context: ReconcileContext, run: TrainingRun, *, known: str | None) -> FrozenConfig:
    """Read it; `known`: a digest that is known although the status may not have it yet.

    Raises Foreign or EarlierLife when another object has the name.
    """
    resolved = run.status.resolved
    in_status = resolved.digest if resolved is not None else None
    digest = in_status or known
    if digest:
        cached = await context.stores.frozen(
            lambda: _accepted(context, run, digest), run_uid=run.metadata.uid, digest=digest
        )
        if cached is not None:
            return FrozenConfig(accepted=cached)
    stored = await _stored(context, run)
    if in_status is not None:
        return FrozenConfig(stored=stored)
    name = resolved.config_map if resolved is not None else names.incomplete_config_map(run)
    found = await read_if_owned(context.kube, CONFIG_MAPS, name=name, owner=Owner.of(run))
    return FrozenConfig(stored=stored, incomplete=stored_config(found))


async def _accepted(context: ReconcileContext, run: TrainingRun, digest: str) -> AcceptedRun | None:
    stored = await _stored(context, run)
    if stored is None or stored.digest != digest:
        return None
    name = type_of(stored.content)
    if name not in context.plugin_types:
        raise ValueError(f"run {run.metadata.name} has a plugin of type {name!r}, which this version does not know")
    return read_accepted(stored.name, stored.content, context.plugin_types[name].config)


async def _stored(context: ReconcileContext, run: TrainingRun) -> StoredConfig | None:
    resolved = run.status.resolved
    named = resolved.config_map if resolved is not None and resolved.digest is not None else names.config_map(run)
    return stored_config(await read_child(context.kube, CONFIG_MAPS, name=named, owner=Owner.of(run)))


def stored_config(stored: Mapping[str, Any] | None) -> StoredConfig | None:
    """Reduce a ConfigMap to its content and the digest of that."""
    if stored is None:
        return None
    content = {**stored.get("data", {}), **stored.get("binaryData", {})}
    metadata = stored["metadata"]
    return StoredConfig(metadata["name"], metadata["uid"], content, digest_of(content))
