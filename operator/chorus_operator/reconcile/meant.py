"""The name that was most likely meant, where a reference leads nowhere: looked for only then, never on the good path.

Of Projects, Plugins and claims the names alone are listed. ConfigMaps and Secrets are never listed, so that there is no
suggestion for their names.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from chorus_api.nearest import nearest
from chorus_api.plugin import Plugin
from chorus_api.project import Project
from chorus_api.training_run import TrainingRun
from chorus_kube.errors import KubeError
from chorus_kube.resources import CLAIMS, PLUGINS, PROJECTS, TRAINING_RUNS, Resource
from chorus_operator.decisions import resolve
from chorus_operator.decisions.resolve import NamedClaim
from chorus_operator.decisions.run.unresolved import can_be_resumed, found_before
from chorus_operator.reconcile.children import read_named_by_user
from chorus_operator.reconcile.context import ReconcileContext

log = structlog.get_logger()
MOST_NAMES = 500


async def meant_names(
    context: ReconcileContext, resource: Resource, *, namespace: str, wanted: Sequence[str]
) -> dict[str, str | None]:
    """Find for each name that is not there the one that is like it. What was found is asked for once a minute."""
    listed: Sequence[str] | None = None
    found: dict[str, str | None] = {}
    for name in wanted:

        async def look(name: str = name) -> str | None:
            nonlocal listed
            if listed is None:
                listed = await _names(context, resource, namespace)
            return nearest(name, listed)

        found[name] = await context.stores.constant(look, "meant", resource.kind, namespace, name)
    return found


async def meant_name(context: ReconcileContext, resource: Resource, *, namespace: str, name: str) -> str | None:
    """Find the name that was most likely meant by one that is not there."""
    return (await meant_names(context, resource, namespace=namespace, wanted=[name]))[name]


async def _names(context: ReconcileContext, resource: Resource, namespace: str) -> Sequence[str]:
    """List names; none when the API server does not say: a message is written without a suggestion as well."""
    try:
        return await context.kube.names(resource, namespace=namespace, most=MOST_NAMES)
    except KubeError as error:  # the Role of an older version has no list
        log.debug("no names to suggest", kind=resource.kind, namespace=namespace, error=error.message[:200])
        return ()


async def meant_reference(
    context: ReconcileContext, run: TrainingRun, project: Project | None, plugin: Plugin | None
) -> str | None:
    """Find the Project or Plugin that was most likely meant by a run. What was there before was meant as it is."""
    namespace = run.metadata.namespace
    if project is None:
        name = run.spec.project_ref.name
        return None if found_before(run) else await meant_name(context, PROJECTS, namespace=namespace, name=name)
    entry = resolve.entry_of(project, run.spec.plugin)
    if plugin is not None or entry is None or resolve.was_found(run, entry):
        return None
    return await meant_name(context, PLUGINS, namespace=namespace, name=entry.plugin_ref.name)


async def meant_run(context: ReconcileContext, run: TrainingRun) -> str | None:
    """Find the run that was most likely meant by `spec.resumeFrom`, among those that can be resumed."""
    if run.spec.resume_from is None:
        return None
    project = run.spec.project_ref.name
    known = await context.stores.all_of(TRAINING_RUNS, "project", run.metadata.namespace, project)
    others = [TrainingRun.model_validate(each) for each in known]
    fit = [each.metadata.name for each in others if can_be_resumed(each, project=project)]
    return nearest(run.spec.resume_from.run, fit)


async def if_missing(context: ReconcileContext, namespace: str, claim: NamedClaim) -> NamedClaim | None:
    """Look for a claim that a user names; None when it is there, else with the name that was most likely meant."""
    if await read_named_by_user(context.kube, CLAIMS, namespace=namespace, name=claim.claim) is not None:
        return None
    meant = await meant_name(context, CLAIMS, namespace=namespace, name=claim.claim)
    return NamedClaim(claim.field, claim.claim, meant)
