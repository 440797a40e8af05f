"""A LoRA run: its base model is fetched onto the claim before a GPU is asked for, then the trainer's Job trains."""

from __future__ import annotations

from dataclasses import replace

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.run_config import RunConfig
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.decision import Decision, DeleteJob, StartFetch
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.outcome.model import Observation
from chorus_operator.decisions.outcome.table import classify, outcome_of
from chorus_operator.decisions.run import attempt, pod_end
from chorus_operator.decisions.run.publication import Artefact, publish
from chorus_operator.decisions.run.state import AcceptedDraft
from chorus_operator.decisions.run.train import train as train_by_job
from chorus_operator.decisions.startup import is_over_limit, waiting_for
from chorus_operator.plugin_types.lora import outcomes


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
        claim = view.accepted.operator.claim
        cause = outcomes.of_fetch(outcome_of(fetch, pod, view.log_tail, claim=claim), config)
        draft.fail(cause.reason, cause.message, failure=attempt.failure_of(cause, pod, view.log_tail))
        return False
    if pod is not None and pod.exit_code == 0 and pod_end.is_held_open(pod):
        # An injected sidecar keeps the Job from completing: what it was to do is done.
        draft.actions.append(DeleteJob(fetch.name, fetch.uid))
        return True
    draft.actions += pod_end.release_failed(pod)
    started = pod is not None and pod.started is not None
    wait = waiting_for(fetch, pod, view.fetch.events)
    if wait.reason is Reason.SECRET_NOT_FOUND:
        wait = replace(wait, message=f"lora.baseModel.secretRef.name: {wait.message}")
    blocked = wait if is_over_limit(wait, now=view.now, job=fetch, pod=pod) else None
    draft.conditions.set(
        ConditionType.PODS_READY,
        False,
        Reason.AWAITING_BASE_MODEL,
        f"Fetching {config.base_model_uri}." if started else f"{wait.reason}: {wait.message}",
    )
    late = classify(Observation(blocked=blocked, overdue=attempt.past_start_deadline(draft)))
    if late is not None:
        draft.fail(late.reason, late.message, failure=attempt.failure_of(late, pod, None))
    return False


def train(draft: AcceptedDraft, config: RunConfig) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward, to a published adapter."""
    artefact = Artefact("adapter", base_model=config.base_model_uri)
    return train_by_job(draft, trained=lambda draft: publish(draft, artefact), own=outcomes.ROWS)
