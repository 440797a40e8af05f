"""A run whose plugin is a service: an exchange holds its data, messages go both ways, and every silence has an end.

The Job of an attempt is its exchange. It serves until it is told to stop: MODEL_NAME or ERROR_REPORT end it, and what
follows is decided when its pod is gone, for then nothing can be put into the artefact any more.
"""

from __future__ import annotations

from dataclasses import fields, replace

from chorus_api.conditions import ConditionType
from chorus_api.reasons import Reason
from chorus_api.run_config import ServiceConfig
from chorus_api.training_run import Attempts, ErrorEntry, TrainingRunStatus
from chorus_operator.decisions.decision import Decision, DeleteJob, Deliver, Endpoint, StartAttempt
from chorus_operator.decisions.outcome.attempt_rows import NODE_LOST
from chorus_operator.decisions.outcome.model import Deadline, Outcome, Overdue
from chorus_operator.decisions.outcome.table import classify
from chorus_operator.decisions.run import attempt, publication
from chorus_operator.decisions.run.retry import failed_attempt, failure_now, is_paused, start_after_pause
from chorus_operator.decisions.run.state import AcceptedDraft, AcceptedView
from chorus_operator.plugin_types.service.outcomes import ROWS, ServiceObservation

REQUEUE_SECONDS = 5.0
DELIVERED = ConditionType.TRAINING_DATA_DELIVERED
IN_QUEUE = "it waits for its turn, behind other messages of this namespace or to the same host"


def train(draft: AcceptedDraft, config: ServiceConfig) -> Decision[TrainingRunStatus]:
    """Bring an attempt forward."""
    job = draft.view.job
    _observe_delivery(draft)
    if is_paused(draft):
        return start_after_pause(draft)
    draft.attempts = draft.attempts.model_copy(update={"not_before": None})
    if job is None:
        return _without_exchange(draft, config)
    if job.deleting:
        return _wait_for_its_end(draft)
    if not attempt.data_refusal(draft) and (is_over(draft) or _error(draft) is not None):
        return _end_exchange(draft, config)
    cause = classify(_seen(draft), ROWS)
    if cause is not None:
        return _fail(draft, cause)
    if attempt.tell_lost(draft):
        return draft.done(again=0.0)
    due = _deliver(draft, config)
    return draft.done(again=min(due, _requeue_seconds(draft)))


def _seen(draft: AcceptedDraft, *, over: bool = False) -> ServiceObservation:
    """Put together what is seen; `over`: the exchange has stopped."""
    view, job, seen = draft.view, draft.view.job, attempt.observation(draft)
    known = {each.name: getattr(seen, each.name) for each in fields(seen)}
    late = seen.overdue if over else _unnamed(draft) or seen.overdue
    undelivered = (
        "" if draft.conditions.is_true(DELIVERED) else f" TRAINING_DATA was not delivered: {_waits_for(draft)}."
    )
    if late is not None and late.deadline is Deadline.DATA_REPORT:
        late = replace(late, detail=undelivered)
    silent = view.plugin is not None and view.plugin.status.last_seen_time is None
    known |= {
        "refusal": attempt.data_refusal(draft),
        "gone": job is None,
        "overdue": late if job is not None and not job.finished else None,
    }
    return ServiceObservation(
        **known,
        plugin=view.plugin.metadata.name if silent and view.plugin is not None else "",
        undelivered=undelivered,
        ended_by_itself=job.name if job is not None and job.complete and not over else "",
        over=over,
    )


def _fail(draft: AcceptedDraft, cause: Outcome) -> Decision[TrainingRunStatus]:
    failure = failure_now(draft, cause)
    if not cause.final:
        draft.conditions.drop(DELIVERED)
    if cause.reason is Reason.NODE_LOST:
        attempt.remove_lost(draft)
    return failed_attempt(draft, cause, failure)


def is_over(draft: AcceptedDraft) -> bool:
    """Tell whether the service has named its model: what comes now is for Chorus to do."""
    return has_named(draft.view) and not attempt.was_suspended(draft)


def has_named(view: AcceptedView) -> bool:
    """Tell whether the present attempt's service has sent MODEL_NAME."""
    status = view.run.status
    report = status.report
    return report is not None and report.attempt == status.attempts.current and report.model_name is not None


def _unnamed(draft: AcceptedDraft) -> Overdue | None:
    view, progress = draft.view, draft.before.progress
    if progress is None or progress.attempt != draft.attempts.current or progress.percent < 100:
        return None
    limit = view.accepted.operator.deadlines.model_name_seconds
    if (view.now - max(progress.time, view.operator_since)).total_seconds() <= limit:
        return None
    return Overdue(Deadline.MODEL_NAME, limit)


def _requeue_seconds(draft: AcceptedDraft) -> float:
    view = draft.view
    return min(attempt.requeue_seconds(draft), max(view.accepted.operator.deadlines.model_name_seconds / 4, 1.0))


def _observe_delivery(draft: AcceptedDraft) -> None:
    """Write down that the service has TRAINING_DATA: it took it, or speaks as only one that has it can."""
    said = attempt.said_now(draft)
    if said is None or said.exchange is None:
        draft.conditions.drop(DELIVERED)
        return
    speaks = any((said.data_report, said.training_start, said.model_name, said.error)) or attempt.has_begun(draft)
    if draft.view.delivery.delivered or speaks:
        draft.conditions.set(DELIVERED, True, Reason.DELIVERED, "The service has taken TRAINING_DATA.")


def _deliver(draft: AcceptedDraft, config: ServiceConfig) -> float:
    """Send TRAINING_DATA once the exchange serves, until the service takes it; seconds until the next look."""
    said, conditions, delivery = attempt.said_now(draft), draft.conditions, draft.view.delivery
    if said is None or said.exchange is None or conditions.is_true(DELIVERED):
        return attempt.MAX_REQUEUE_SECONDS
    due = delivery.seconds_until_due(draft.view.now)
    if due <= 0 and not delivery.under_way:
        endpoint = Endpoint(config.url, config.ca_config_map, config.ca_key)
        sent = Deliver(draft.attempts.current, endpoint, said.exchange.certificate, dict(config.parameters))
        draft.actions.append(sent)
    message = "It is being sent."
    if delivery.error or delivery.queued:
        message = f"The service has not taken TRAINING_DATA: {_waits_for(draft)}."
    conditions.set(DELIVERED, False, Reason.UNDELIVERED, message)
    return max(due, REQUEUE_SECONDS)


def _waits_for(draft: AcceptedDraft) -> str:
    """Say why TRAINING_DATA has not been taken yet."""
    delivery, said = draft.view.delivery, attempt.said_now(draft)
    if said is None or said.exchange is None:
        return "the exchange has not said that it serves"
    if delivery.error:
        return delivery.error
    return IN_QUEUE if delivery.queued else "it is being sent"


def _end_exchange(draft: AcceptedDraft, config: ServiceConfig) -> Decision[TrainingRunStatus]:
    """Stop the exchange; go on when no pod of it is left."""
    job = draft.view.job
    assert job is not None
    if not job.finished:
        draft.actions.append(DeleteJob(job.name, job.uid))
    if not job.finished or any(not pod.ended for pod in draft.view.pods):
        return _wait_for_its_end(draft)
    return _after_exchange(draft, config)


def _without_exchange(draft: AcceptedDraft, config: ServiceConfig) -> Decision[TrainingRunStatus]:
    """Start the first exchange, or decide what follows from the end of the last one."""
    current = draft.attempts.current
    if current == 0:
        return _start(draft, 1)
    lost = attempt.lost_with_node(draft)
    if lost:
        attempt.remove_lost(draft)
    elif any(not pod.ended for pod in draft.view.pods):
        # Two pods must not write to one run directory.
        return _wait_for_its_end(draft)
    if attempt.was_suspended(draft):
        return _start(draft, current + 1)
    if lost and not is_over(draft):
        draft.conditions.drop(DELIVERED)
        cause = NODE_LOST.saying(lost)
        return failed_attempt(draft, cause, failure_now(draft, cause))
    return _after_exchange(draft, config)


def _after_exchange(draft: AcceptedDraft, config: ServiceConfig) -> Decision[TrainingRunStatus]:
    name = attempt.model_name(draft) if is_over(draft) else None
    if name is not None:
        if config.artefact == "None":
            return publication.without_artefact(draft, name)
        return publication.publish(draft, publication.Artefact("files", may_be_missing=True))
    draft.conditions.drop(DELIVERED)
    # Its Job was stopped, or somebody deleted it: how it ended says nothing.
    seen = replace(_seen(draft, over=True), job=None, lost="", blocked=None, gone=True)
    cause = classify(seen, ROWS)
    assert cause is not None, "without a Job there is always a row that fits"
    return failed_attempt(draft, cause, failure_now(draft, cause))


def _start(draft: AcceptedDraft, number: int) -> Decision[TrainingRunStatus]:
    draft.actions.append(StartAttempt(number))
    draft.attempts = Attempts.model_validate(draft.attempts.model_dump() | {"current": number})
    draft.conditions.drop(DELIVERED)
    draft.conditions.set(
        ConditionType.PODS_READY, False, Reason.PENDING, f"Attempt {number}: the exchange is being made."
    )
    return draft.done(again=30.0)


def _wait_for_its_end(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    # A run that was suspended is still known as such when it goes on before its exchange has ended.
    reason = Reason.SUSPENDED if attempt.was_suspended(draft) else Reason.PENDING
    draft.conditions.set(ConditionType.PODS_READY, False, reason, "The exchange is being stopped.")
    attempt.force_delete_lost(draft)
    return draft.done(again=REQUEUE_SECONDS)


def _error(draft: AcceptedDraft) -> ErrorEntry | None:
    said = attempt.said_now(draft)
    return said.error if said is not None else None
