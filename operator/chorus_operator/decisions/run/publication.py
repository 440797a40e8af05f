"""From a finished training to a published model, and which model `latest` is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chorus_api.conditions import ConditionType
from chorus_api.operator_config import OperatorConfig
from chorus_api.project import LatestModel, Objective
from chorus_api.reasons import Reason
from chorus_api.run_config import TerminationRecord
from chorus_api.training_run import PublishedModel, TrainingRunStatus
from chorus_operator.decisions.conditions import find
from chorus_operator.decisions.decision import Decision, DeleteJob, StartPublish
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.outcome.publication import NO_RESULT, PODS_LEFT, of_publish_job
from chorus_operator.decisions.outcome.table import outcome_of
from chorus_operator.decisions.run.attempt import failure_of, force_delete_lost, last_word
from chorus_operator.decisions.run.pod_end import is_held_open, release_failed
from chorus_operator.decisions.run.state import AcceptedDraft, RunView

POD_END_SECONDS = 600
"""How long pods of a run may outlive its training, beyond the grace that they have to stop."""
POD_REQUEUE_SECONDS = 5.0
_METRICS = {"train_loss": "final_loss"}
"""Metrics that an objective calls by another name than the run record."""


def metric_of(metrics: dict[str, str], objective: Objective) -> float | None:
    """Read the objective's metric of a run; None when there is none or it is not finite."""
    text = metrics.get(_METRICS.get(objective.metric, objective.metric))
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_better(value: float, than: float, objective: Objective) -> bool:
    """Compare two values of the objective's metric."""
    return value < than if objective.direction == "minimize" else value > than


def promotes(
    policy: OperatorConfig, latest: Sequence[LatestModel], plugin: str, metrics: dict[str, str], frame: str
) -> bool:
    """Decide whether a new model becomes `latest` of its plugin.

    Losses on different frames cannot be compared, so under IfBetter the first model of a new frame is promoted.
    """
    if policy.promotion != "IfBetter":
        return policy.promotion == "Always"
    if worse_than_base_model(metrics) is not None:
        return False
    held = next((row for row in latest if row.plugin == plugin), None)
    if held is None or held.frame != frame or held.value is None:
        return True
    value = metric_of(metrics, policy.objective)
    return value is not None and is_better(value, float(held.value), policy.objective)


def worse_than_base_model(metrics: Mapping[str, str]) -> str | None:
    """Say by how much an adapter does worse than the base model alone on the rows held back; None when it does not."""
    try:
        with_adapter, without = float(metrics["eval_loss"]), float(metrics["eval_loss_without_adapter"])
    except (KeyError, ValueError):
        return None
    if not with_adapter > without:
        return None
    return (
        f"worse than the base model alone (evaluation loss {with_adapter:.4g} with the adapter, {without:.4g} without)"
    )


def latest_row(plugin: str, run: str, model: PublishedModel, objective: Objective, frame: str) -> LatestModel:
    """Describe a promoted model."""
    value = metric_of(model.metrics, objective)
    return LatestModel(
        plugin=plugin,
        name=model.name,
        run=run,
        uri=model.uri,
        digest=model.digest,
        value=None if value is None else f"{value:.6g}",
        frame=frame,
    )


@dataclass(frozen=True)
class Artefact:
    """What a plugin type leaves: an adapter with its run record, or files."""

    kind: Literal["adapter", "files"]
    base_model: str = ""
    may_be_missing: bool = False
    """Whether MODEL_NAME without a digest says that there is none."""


def publish(draft: AcceptedDraft, artefact: Artefact) -> Decision[TrainingRunStatus]:
    """Carry a run from exit 0 to its published model. `ModelPublished` comes from the publish Job alone."""
    view = draft.view
    record = last_word(draft)
    job = view.publish.job
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.PUBLISHING, "Training is over.")
    draft.conditions.drop(ConditionType.RETRYING)
    if job is None and view.pods_left:
        return _wait_for_pods(draft)
    if job is None:
        draft.actions.append(_start(draft, artefact, record))
        draft.conditions.set(
            ConditionType.MODEL_PUBLISHED, False, Reason.PUBLISHING, "The artefact is being checked and published."
        )
        return draft.done(again=30.0)
    pod = newest(view.publish.pods)
    if pod is not None and pod.record is not None and (job.complete or (pod.exit_code == 0 and is_held_open(pod))):
        if not job.complete:  # an injected sidecar keeps it from completing
            draft.actions.append(DeleteJob(job.name, job.uid))
        return _published(draft, artefact, pod.record)
    draft.actions += release_failed(pod)
    if job.complete and not job.deleting:
        # Its last word is gone with its pod. Publishing twice gives the same, so ask again.
        draft.actions.append(DeleteJob(job.name, job.uid))
        return draft.done(again=1.0)
    if job.failed:
        cause = of_publish_job(outcome_of(job, pod, view.log_tail, claim=view.accepted.operator.claim))
        draft.conditions.set(ConditionType.MODEL_PUBLISHED, False, cause.reason, cause.message)
        draft.fail(cause.reason, cause.message, failure=failure_of(cause, pod, view.log_tail))
    return draft.done(again=30.0)


def announces(view: RunView, decision: Decision[TrainingRunStatus]) -> bool:
    """Tell whether a decision's status is the first to say that the run is being published.

    Once that is written, over the resource version that was decided about, no publish Job can have been made before.
    """
    before = find(view.run.status.conditions, ConditionType.MODEL_PUBLISHED)
    after = find(decision.status.conditions, ConditionType.MODEL_PUBLISHED)
    return before is None and after is not None and after.reason == Reason.PUBLISHING


def _wait_for_pods(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    """Wait until nobody holds a file of the artefact open: what is checked must be what is published."""
    view, published = draft.view, draft.conditions.get(ConditionType.MODEL_PUBLISHED)
    since = published.last_transition_time if published is not None and published.status == "False" else view.now
    limit = view.accepted.operator.checkpoint.grace_seconds + POD_END_SECONDS
    shown = ", ".join(pod.name for pod in view.pods_left)
    if (view.now - since).total_seconds() > limit:
        cause = PODS_LEFT.saying(f"Training is over, but pods of the run have not ended within {limit} s: {shown}.")
        draft.conditions.set(ConditionType.MODEL_PUBLISHED, False, cause.reason, cause.message)
        draft.fail(cause.reason, cause.message, failure=failure_of(cause, None, None))
        return draft.done()
    force_delete_lost(draft, view.pods_left)
    draft.conditions.set(
        ConditionType.MODEL_PUBLISHED, False, Reason.PUBLISHING, f"Waiting for pods of the run to end: {shown}."
    )
    return draft.done(again=POD_REQUEUE_SECONDS)


def without_artefact(draft: AcceptedDraft, name: str) -> Decision[TrainingRunStatus]:
    """End a run whose plugin declares no artefact, or whose service left none: there is nothing to publish."""
    reported = draft.before.report.model_name if draft.before.report else None
    draft.changes["model"] = PublishedModel(
        name=name,
        uri="",
        digest=(reported.digest if reported else None) or "",
        metrics=dict(reported.metrics) if reported else {},
    )
    draft.changes["completion_time"] = draft.view.now
    draft.changes["failure"] = None
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.TRAINED, "Training is over.")
    draft.conditions.drop(ConditionType.RETRYING)
    draft.conditions.set(ConditionType.SUCCEEDED, True, Reason.TRAINED, f"Model {name}; the plugin has no artefact.")
    return draft.done()


def _start(draft: AcceptedDraft, artefact: Artefact, record: TerminationRecord | None) -> StartPublish:
    view = draft.view
    reported = draft.before.report.model_name if draft.before.report else None
    metrics = dict(reported.metrics) if reported else {}
    if record is not None:
        metrics |= _metrics(record)
    return StartPublish(
        promote=promotes(
            view.accepted.operator,
            view.project.status.latest_model,
            view.run.spec.plugin,
            metrics,
            view.accepted.config.frame_name,
        ),
        kind=artefact.kind,
        # Who reports a digest has left something.
        optional=artefact.may_be_missing and (reported is None or reported.digest is None),
        expected_digest=(record.digest if record else None) or (reported.digest if reported else None),
    )


def _metrics(record: TerminationRecord) -> dict[str, str]:
    values = {
        "final_loss": record.final_loss,
        "eval_loss": record.eval_loss,
        "eval_loss_without_adapter": record.eval_loss_without_adapter,
    }
    return {name: f"{value:.6g}" for name, value in values.items() if value is not None}


def _published(draft: AcceptedDraft, artefact: Artefact, record: TerminationRecord) -> Decision[TrainingRunStatus]:
    view = draft.view
    reported = draft.before.report.model_name if draft.before.report else None
    if artefact.may_be_missing and record.digest is None and reported is not None:
        draft.conditions.drop(ConditionType.MODEL_PUBLISHED)
        return without_artefact(draft, reported.model_name)
    if record.digest is None or (artefact.kind == "adapter" and record.final_loss is None):
        draft.fail(NO_RESULT.reason, NO_RESULT.message, failure=failure_of(NO_RESULT, newest(view.publish.pods), None))
        return draft.done()
    name = record.model_name or view.accepted.config.model_name
    metrics = (dict(reported.metrics) if reported else {}) | _metrics(record)
    draft.changes["model"] = PublishedModel(
        name=name,
        uri=f"pvc://{view.accepted.operator.claim}/models/{name}",
        digest=record.digest,
        bytes=record.bytes or 0,
        base_model=artefact.base_model,
        samples=record.samples or 0,
        final_loss=None if record.final_loss is None else f"{record.final_loss:.6g}",
        metrics=metrics,
        promoted=bool(record.promoted),
    )
    draft.changes["completion_time"] = view.now
    draft.changes["failure"] = None
    draft.conditions.set(ConditionType.MODEL_PUBLISHED, True, Reason.MODEL_PUBLISHED, f"Model {name}.")
    if record.latest_owner is not None:
        plugin, claim = view.run.spec.plugin, view.accepted.operator.claim
        draft.conditions.set(
            ConditionType.DEGRADED,
            True,
            Reason.LATEST_NOT_OWNED,
            f"latest/{plugin} of claim {claim} belongs to {record.latest_owner} and was left as it is. Give the plugin "
            f"another name; or delete latest/{plugin} and latest/.owners/{plugin} there, and the next model takes it.",
        )
    loss = "" if record.final_loss is None else f", final loss {record.final_loss:.4g}"
    worse = worse_than_base_model(metrics)
    if worse is not None and record.latest_owner is None:
        draft.conditions.set(ConditionType.DEGRADED, True, Reason.WORSE_THAN_BASE_MODEL, f"Model {name} is {worse}.")
    more = f", {worse}" if worse is not None else ""
    draft.conditions.set(ConditionType.SUCCEEDED, True, Reason.TRAINED, f"Model {name}{loss}{more}.")
    return draft.done()
