"""A hub's base model: fetched onto the claim before a GPU is asked for."""

from __future__ import annotations

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.run_config import RunConfig
from chorus_operator.decisions import resolve
from chorus_operator.decisions.classify import cause_of
from chorus_operator.decisions.decision import StartFetch
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.state import Draft, RunView
from chorus_operator.decisions.startup import waiting_for


def base_model_id(view: RunView) -> str | None:
    """Tell which base model is to be fetched; None when the model is mounted or in the image."""
    if view.plugin is None or view.project is None:
        return None
    entry = resolve.entry_of(view.project, view.run.spec.plugin)
    if entry is None or not isinstance(view.frozen, RunConfig):
        return None
    source = resolve.base_model_of(view.plugin, entry, view.run)
    if not view.frozen.base_model_uri.startswith("hf://") or source is None:
        return None
    return resolve.base_location(source, view.project).base_model_id


def base_ready(draft: Draft) -> bool:
    """Make sure that a hub's base model is on the claim before a GPU is asked for."""
    view = draft.view
    assert view.project is not None
    assert view.frozen is not None
    key = base_model_id(view)
    if key is None or view.job is not None or (view.fetch is not None and view.fetch.complete):
        return True
    assert isinstance(view.frozen, RunConfig)
    if view.fetch is None:
        draft.actions.append(StartFetch(key))
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.AWAITING_BASE_MODEL, f"Fetching {view.frozen.base_model_uri}."
        )
        return False
    pod = newest(view.fetch_pods)
    if view.fetch.failed:
        cause = cause_of(view.fetch, pod)
        reason = cause.reason if cause.reason is not Reason.BAD_CONFIGURATION else Reason.BASE_MODEL_NOT_FOUND
        message = f"lora.baseModel.uri {view.frozen.base_model_uri}: {cause.message}"
        draft.fail(reason, message, failure=attempt.failure_of(cause, pod, view.log_tail))
        return False
    started = pod is not None and pod.started is not None
    wait = waiting_for(view.fetch, pod)
    draft.conditions.set(
        ConditionType.PODS_READY,
        False,
        Reason.AWAITING_BASE_MODEL,
        f"Fetching {view.frozen.base_model_uri}." if started else f"{wait.reason}: {wait.message}",
    )
    attempt.check_start_deadline(draft)
    return False
