"""Freezing what an accepted run uses, once; and what follows when the frozen configuration is missing or another."""

from __future__ import annotations

from chorus_api.conditions import ConditionType
from chorus_api.nearest import with_suggestion
from chorus_api.project import FrameSummary
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.decision import Decision, Freeze
from chorus_operator.decisions.recipe import Recipe
from chorus_operator.decisions.run import frozen
from chorus_operator.decisions.run.plugin_type import PluginType, RunRequest
from chorus_operator.decisions.run.state import REQUEUE_SECONDS, Draft, RunView
from chorus_operator.decisions.run.unresolved import REFERENCE_GRACE_SECONDS, can_be_resumed

NEW_RUN = "Make a new run."


def freeze(draft: Draft, plugin_type: PluginType, request: RunRequest) -> Decision[TrainingRunStatus]:
    """Write down what the run uses. Plugin and Project are read live, here for the last time."""
    view, project = draft.view, request.project
    recipe = _recipe(view, plugin_type, request)
    former = _is_of_former_version(view)
    if not former and (problem := _problem(view, plugin_type, request, recipe)) is not None:
        if problem.reason is Reason.PARAMETERS_INVALID:
            draft.conditions.set(ConditionType.PARAMETERS_VALID, False, problem.reason, problem.message)
        draft.fail(problem.reason, problem.message)
        return draft.done()
    if not former and view.missing_claim is not None:
        return _without_claim(draft, view.missing_claim)
    if project.status.dataset is None or not project.status.id or not request.plugin.status.id:
        return draft.done(again=REQUEUE_SECONDS)
    content = _content(view, plugin_type, request, recipe, project.status.dataset)
    if view.incomplete is not None and (former or frozen.says_the_same(view.incomplete, content)):
        try:
            content = frozen.completed(view.incomplete, content, plugin_type.config)
        except ValueError as error:
            return _changed(draft, f"What the run uses cannot be completed: {error}.")
    return _write(draft, plugin_type, content)


def restore(draft: Draft, plugin_type: PluginType | None, request: RunRequest | None) -> Decision[TrainingRunStatus]:
    """Write a frozen configuration again that somebody deleted, if it can be made with the same digest."""
    view, resolved = draft.view, draft.before.resolved
    assert resolved is not None
    if view.stored is not None:
        return _changed(draft, f"ConfigMap {resolved.config_map} has another content than the run was accepted with.")
    dataset = request.project.status.dataset if request is not None else None
    if plugin_type is not None and request is not None and dataset is not None:
        recipe = _recipe(view, plugin_type, request)
        if not _problem(view, plugin_type, request, recipe):
            content = _content(view, plugin_type, request, recipe, dataset)
            if frozen.digest_of(content) == resolved.digest:
                return _write(draft, plugin_type, content)
    return _changed(
        draft,
        f"ConfigMap {resolved.config_map} is gone, and Project and Plugin have changed since the run was accepted.",
    )


def _changed(draft: Draft, what: str) -> Decision[TrainingRunStatus]:
    draft.fail(Reason.FROZEN_CONFIG_CHANGED, f"{what} {NEW_RUN}")
    return draft.done()


def _recipe(view: RunView, plugin_type: PluginType, request: RunRequest) -> Recipe:
    return plugin_type.recipe(request.plugin, request.entry, request.run, trainer_image=view.trainer_image)


def _problem(view: RunView, plugin_type: PluginType, request: RunRequest, recipe: Recipe) -> resolve.Problem | None:
    found = plugin_type.problem(request, recipe, judge_url=view.judge_url)
    return found or _resume_problem(view, plugin_type)


def _content(
    view: RunView, plugin_type: PluginType, request: RunRequest, recipe: Recipe, dataset: FrameSummary
) -> dict[str, str]:
    project, plugin = request.project, request.plugin
    common = resolve.run_config_fields(view.run, project, plugin, dataset, messages_url=view.messages_url)
    config = plugin_type.freeze(request, recipe, common, resume=view.resume)
    return frozen.content_of(
        config,
        resolve.operator_config(project, plugin, default_job_resources=view.default_job_resources),
        parameters=recipe.training_data(),
        training_hash=recipe.training_hash(config.frame_name),
        files=plugin_type.files(config),
    )


def _is_of_former_version(view: RunView) -> bool:
    """Tell whether a configuration without a known digest was written by a former version of the operator.

    The run's status names it, or a Job was made that names no digest. Else anybody may have written it, and it counts
    only as far as it says what would be frozen now.
    """
    resolved = view.run.status.resolved
    named = resolved is not None and resolved.hash != ""
    return view.incomplete is not None and (named or any(not job.frozen_digest for job in view.jobs))


def _write(draft: Draft, plugin_type: PluginType, content: dict[str, str]) -> Decision[TrainingRunStatus]:
    view = draft.view
    accepted = frozen.read_accepted(names.config_map(view.run), content, plugin_type.config)
    replaced = view.stored if view.stored is not None and view.stored.digest != accepted.digest else None
    draft.actions.append(Freeze(accepted, content, replaced))
    draft.changes["resolved"] = accepted.resolved()
    return draft.done(again=0.0)


def _without_claim(draft: Draft, missing: resolve.NamedClaim) -> Decision[TrainingRunStatus]:
    """Look for the base model's claim before a pod is made that could only hang waiting for it."""
    message = missing.missing
    accepted = draft.conditions.get(ConditionType.ACCEPTED)
    since = accepted.last_transition_time if accepted else draft.view.now
    if (draft.view.now - since).total_seconds() >= REFERENCE_GRACE_SECONDS:
        draft.fail(Reason.BASE_MODEL_NOT_FOUND, message)
        return draft.done()
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.AWAITING_BASE_MODEL, message)
    return draft.done(again=10.0)


def _resume_problem(view: RunView, plugin_type: PluginType) -> resolve.Problem | None:
    wanted = view.run.spec.resume_from
    if wanted is None:
        return None
    if not plugin_type.can_resume:
        message = f"spec.resumeFrom is not for plugins of type {plugin_type.name}: remove it."
        return resolve.Problem(Reason.BAD_CONFIGURATION, message)
    if view.resume is not None and can_be_resumed(view.resume, project=view.run.spec.project_ref.name):
        return None
    message = f"spec.resumeFrom.run: {wanted.run!r} is not a TRAINED run of Project {view.run.spec.project_ref.name!r}."
    return resolve.Problem(Reason.RESUME_RUN_NOT_FOUND, with_suggestion(message, view.meant))
