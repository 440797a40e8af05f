"""A hub's base model: fetched onto the claim before a GPU is asked for."""

from __future__ import annotations

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.run_config import RunConfig
from chorus_operator.decisions.classify import cause_of
from chorus_operator.decisions.decision import StartFetch
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.state import AcceptedDraft, AcceptedView
from chorus_operator.decisions.startup import waiting_for


def base_model_id(view: AcceptedView) -> str | None:
    """Tell which base model is to be fetched; None when the model is mounted or in the image."""
    config = view.accepted.config
    return config.base_model.base_model_id if isinstance(config, RunConfig) else None


def base_ready(draft: AcceptedDraft) -> bool:
    """Make sure that a hub's base model is on the claim before a GPU is asked for."""
    view, config = draft.view, draft.view.accepted.config
    key = base_model_id(view)
    if key is None or view.jobs or (view.fetch is not None and view.fetch.complete):
        return True
    assert isinstance(config, RunConfig)
    if view.fetch is None:
        draft.actions.append(StartFetch(key))
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.AWAITING_BASE_MODEL, f"Fetching {config.base_model_uri}."
        )
        return False
    pod = newest(view.fetch_pods)
    if view.fetch.failed:
        cause = cause_of(view.fetch, pod)
        reason = cause.reason if cause.reason is not Reason.BAD_CONFIGURATION else Reason.BASE_MODEL_NOT_FOUND
        message = f"lora.baseModel.uri {config.base_model_uri}: {cause.message}"
        draft.fail(reason, message, failure=attempt.failure_of(cause, pod, view.log_tail))
        return False
    started = pod is not None and pod.started is not None
    wait = waiting_for(view.fetch, pod)
    draft.conditions.set(
        ConditionType.PODS_READY,
        False,
        Reason.AWAITING_BASE_MODEL,
        f"Fetching {config.base_model_uri}." if started else f"{wait.reason}: {wait.message}",
    )
    attempt.check_start_deadline(draft)
    return False
