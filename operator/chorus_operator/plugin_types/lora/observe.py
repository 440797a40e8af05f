"""A LoRA run: its base model is fetched onto the claim before a GPU is asked for, then the trainer's Job trains."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from chorus_api.conditions import ConditionType
from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import RunConfig
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.decision import Decision, StartFetch
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.outcome import Outcome, outcome_of
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.publication import Artefact, publish
from chorus_operator.decisions.run.retry import failed_attempt
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.decisions.run.train import train as train_by_job
from chorus_operator.decisions.startup import is_over_limit, waiting_for

OUT_OF_MEMORY_HINT = "Raise the Plugin's resources.limits.memory, or lower batchSize or the token limits."


def is_ready(draft: AcceptedDraft, config: RunConfig) -> bool:
    """Make sure that a hub's base model is on the claim."""
    view, fetch, key = draft.view, draft.view.fetch.job, config.base_model.base_model_id
    if key is None or view.jobs or (fetch is not None and fetch.complete):
        return True
    if fetch is None:
        draft.actions.append(StartFetch(key))
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.AWAITING_BASE_MODEL, f"Fetching {config.base_model_uri}."
        )
        return False
    pod = newest(view.fetch.pods)
    if fetch.failed:
        cause = outcome_of(fetch, pod, view.log_tail)
        reason = cause.reason if cause.reason is not Reason.BAD_CONFIGURATION else Reason.BASE_MODEL_NOT_FOUND
        message = f"lora.baseModel.uri {config.base_model_uri}: {cause.message}"
        draft.fail(reason, message, failure=attempt.failure_of(cause, pod, view.log_tail))
        return False
    started = pod is not None and pod.started is not None
    wait = waiting_for(fetch, pod, view.fetch.events)
    if wait.reason is Reason.SECRET_NOT_FOUND:
        wait = replace(wait, message=f"lora.baseModel.secretRef.name: {wait.message}")
    if is_over_limit(wait, now=view.now, job=fetch, pod=pod):
        cause = Outcome(FailureClass.USER, wait.failed_reason, wait.message)
        draft.fail(cause.reason, cause.message, failure=attempt.failure_of(cause, pod, None))
        return False
    draft.conditions.set(
        ConditionType.PODS_READY,
        False,
        Reason.AWAITING_BASE_MODEL,
        f"Fetching {config.base_model_uri}." if started else f"{wait.reason}: {wait.message}",
    )
    attempt.check_start_deadline(draft)
    return False


def train(draft: AcceptedDraft, config: RunConfig) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward, to a published adapter."""
    artefact = Artefact("adapter", base_model=config.base_model_uri)
    return train_by_job(
        draft,
        trained=lambda draft: publish(draft, artefact),
        failed=partial(failed_attempt, named=lambda cause: _named(cause, config)),
    )


def _named(cause: Outcome, config: RunConfig) -> Outcome:
    """Name the base model as the user did: the pod knows it by its mount alone. Name the parameters that help."""
    if cause.reason is Reason.OUT_OF_MEMORY:
        return replace(cause, hint=OUT_OF_MEMORY_HINT)
    if cause.reason is not Reason.BASE_MODEL_NOT_FOUND:
        return cause
    return replace(cause, message=f"lora.baseModel.uri {config.base_model_uri}: {cause.message}")
