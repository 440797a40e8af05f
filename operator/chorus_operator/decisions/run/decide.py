"""The decision about one TrainingRun: from what is seen to what is done, and a status that tells the truth.

Each step either settles the matter for now and returns, or leaves it to the next. An ended run is never touched again
but to remove it. Admission (`Accepted`) is the Project's decision and is only read here.
"""

from __future__ import annotations

from datetime import timedelta

from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL
from chorus_api.project import Project
from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import ContainerConfig, ServiceConfig
from chorus_api.training_run import Resolved, TrainingRunStatus
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.classify import FailureCause, cause_of
from chorus_operator.decisions.decision import (
    Decision,
    DeleteRun,
    StartAttempt,
    SuspendJob,
)
from chorus_operator.decisions.observed import JobView
from chorus_operator.decisions.run import attempt, publication, service
from chorus_operator.decisions.run.base_model import base_ready
from chorus_operator.decisions.run.freeze import LOOK_AGAIN_SECONDS, REFERENCE_GRACE_SECONDS, freeze, restore
from chorus_operator.decisions.run.retry import failed_attempt
from chorus_operator.decisions.run.state import AcceptedDraft, AcceptedView, Draft, RunView
from chorus_operator.decisions.startup import NAME_TAKEN_SECONDS


def decide_run(view: RunView) -> Decision[TrainingRunStatus]:
    """Decide about a run."""
    if view.run.status.phase in FINAL:
        return _after_the_end(view)
    draft = Draft(view)
    if view.run.spec.cancel:
        return _cancel(draft)
    if isinstance(view, AcceptedView):
        return _bring_forward(AcceptedDraft(view))
    resolved = draft.before.resolved
    if view.project is not None and resolved is not None and resolved.digest is not None:
        return restore(draft)
    problem = resolve.references(view.run, view.project, view.plugin)
    if problem is not None:
        return _unresolved(draft, problem)
    assert view.project is not None
    assert view.plugin is not None
    if not draft.conditions.is_true(ConditionType.ACCEPTED):
        return _unaccepted(draft, view.project)
    if not names.has_claim(view.project):
        # The Project was deleted and made again, and has not been looked at yet.
        return draft.done(again=LOOK_AGAIN_SECONDS)
    return freeze(draft, view.project, view.plugin)


def _bring_forward(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    view, accepted = draft.view, draft.view.accepted
    draft.changes["resolved"] = Resolved(
        config_map=accepted.config_map,
        digest=accepted.digest,
        hash=accepted.training_hash,
        frame=accepted.config.frame_name,
    )
    draft.conditions.set(ConditionType.PARAMETERS_VALID, True, Reason.PARAMETERS_VALID, "The plugin takes them.")
    attempt.observe(draft)
    if view.wants_suspension and not (view.job is not None and view.job.complete) and not service.is_over(draft):
        return _suspend(draft)
    draft.conditions.drop(ConditionType.SUSPENDED)
    halted = [job for job in view.jobs if job.suspended and not job.finished]
    if halted:
        draft.actions += [SuspendJob(job.name, suspend=False) for job in halted]
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, "Resuming.")
        return draft.done(again=LOOK_AGAIN_SECONDS)
    if not base_ready(draft):
        return draft.done(again=30.0)
    return _train(draft)


def refuse_run(view: RunView, message: str) -> Decision[TrainingRunStatus]:
    """End a run whose children cannot be made: the API server finds a manifest invalid."""
    draft = Draft(view)
    draft.fail(Reason.JOB_REJECTED, message)
    return draft.done()


def await_name(view: RunView, message: str) -> Decision[TrainingRunStatus]:
    """Have a run wait while another object has the name of a child of its; for NAME_TAKEN_SECONDS at most."""
    draft = Draft(view)
    blocked = draft.conditions.get(ConditionType.BLOCKED)
    if blocked is not None and blocked.reason != Reason.NAME_TAKEN:
        draft.conditions.drop(ConditionType.BLOCKED)
    draft.conditions.set(ConditionType.BLOCKED, True, Reason.NAME_TAKEN, message)
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.NAME_TAKEN, message)
    blocked = draft.conditions.get(ConditionType.BLOCKED)
    if blocked is not None and (view.now - blocked.last_transition_time).total_seconds() > NAME_TAKEN_SECONDS:
        return refuse_run(view, message)
    return draft.done(again=LOOK_AGAIN_SECONDS)


def _after_the_end(view: RunView) -> Decision[TrainingRunStatus]:
    status = view.run.status
    ttl, ended = view.run.spec.ttl_seconds_after_finished, status.completion_time
    if ttl is None or ended is None:
        return Decision(status)
    left = (ended + timedelta(seconds=ttl) - view.now).total_seconds()
    if left > 0:
        return Decision(status, requeue_after=left)
    return Decision(status, (DeleteRun(view.run.metadata.name, view.run.metadata.uid),))


def _cancel(draft: Draft) -> Decision[TrainingRunStatus]:
    view = draft.view
    draft.stop()
    if any(not pod.ended for pod in view.pods) or any(not job.finished for job in view.jobs):
        draft.conditions.set(
            ConditionType.PODS_READY, False, Reason.CANCELLED_BY_USER, "Cancelling: the pods are being stopped."
        )
        attempt.force_delete_lost(draft)
        return draft.done(again=LOOK_AGAIN_SECONDS)
    draft.fail(Reason.CANCELLED_BY_USER, "spec.cancel was set.")
    return draft.done()


def _unresolved(draft: Draft, problem: resolve.Problem) -> Decision[TrainingRunStatus]:
    since = draft.before.queued_time or draft.view.now
    waited = (draft.view.now - since).total_seconds()
    if not problem.waits or waited >= REFERENCE_GRACE_SECONDS or draft.conditions.is_true(ConditionType.ACCEPTED):
        draft.fail(problem.reason, problem.message)
        return draft.done()
    draft.conditions.set(ConditionType.ACCEPTED, False, problem.reason, problem.message)
    return draft.done(again=min(10.0, REFERENCE_GRACE_SECONDS - waited))


def _unaccepted(draft: Draft, project: Project) -> Decision[TrainingRunStatus]:
    view = draft.view
    if view.wants_suspension:
        draft.conditions.set(ConditionType.SUSPENDED, True, Reason.SUSPENDED, _who_suspends(view))
        return draft.done()
    draft.conditions.drop(ConditionType.SUSPENDED)
    if project.status.dataset is None:
        draft.conditions.set(
            ConditionType.ACCEPTED,
            False,
            Reason.AWAITING_FRAME,
            f"Project {project.metadata.name!r} has no training frame yet.",
        )
    else:
        draft.conditions.set(
            ConditionType.ACCEPTED,
            False,
            Reason.QUEUED,
            f"Waiting for its turn among the runs of plugin {view.run.spec.plugin!r}.",
        )
    return draft.done()


def _who_suspends(view: RunView) -> str:
    return "spec.suspend of the run is true." if view.run.spec.suspend else "spec.suspend of the Project is true."


def _suspend(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    view = draft.view
    if isinstance(view.accepted.config, ServiceConfig):
        # A service saves nothing with us and cannot be halted: the attempt is over.
        draft.stop()
    else:
        halt = [job for job in view.jobs if not job.finished and not job.suspended]
        draft.actions += [SuspendJob(job.name, suspend=True) for job in halt]
    if any(pod.tracked or not pod.ended for pod in view.pods):
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.SUSPENDED, "Suspending: the pods save and stop.")
        attempt.force_delete_lost(draft)
        return draft.done(again=LOOK_AGAIN_SECONDS)
    draft.conditions.set(ConditionType.SUSPENDED, True, Reason.SUSPENDED, _who_suspends(view))
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.SUSPENDED, "No pod is wanted.")
    return draft.done()


def is_published(view: AcceptedView) -> bool:
    """Tell whether the training is over as far as it can be seen, so that the publish Job matters."""
    if isinstance(view.accepted.config, ServiceConfig):
        return service.has_named(view)
    return view.job is not None and view.job.complete


def _train(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    view = draft.view
    job, current = view.job, draft.attempts.current
    if isinstance(view.accepted.config, ServiceConfig):
        return service.train(draft)
    if job is None and current > 0:
        deleted = FailureCause(
            FailureClass.INFRASTRUCTURE, Reason.JOB_DELETED, f"Job of attempt {current} was deleted by somebody."
        )
        lost = attempt.give_up_lost(draft)
        draft.stop()
        if lost is None and any(not pod.ended for pod in view.pods):
            # Two pods must not write to one run directory.
            draft.conditions.set(
                ConditionType.PODS_READY, False, Reason.JOB_DELETED, f"{deleted.message} Its pod is being stopped."
            )
            attempt.force_delete_lost(draft)
            return draft.done(again=LOOK_AGAIN_SECONDS)
        return failed_attempt(draft, lost or deleted, None)
    if job is None:
        draft.actions.append(StartAttempt(1))
        draft.attempts = draft.attempts.model_copy(update={"current": 1})
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, "Attempt 1: the Job is being made.")
        return draft.done(again=30.0)
    if isinstance(view.accepted.config, ContainerConfig):
        data_refusal = attempt.data_refusal(draft)
        if data_refusal is not None:
            return failed_attempt(draft, data_refusal, None)
    if job.complete:
        return _trained(draft)
    if job.failed:
        return _failed(draft, job)
    lost = attempt.give_up_lost(draft)
    if lost is not None:
        return failed_attempt(draft, lost, view.pod)
    if attempt.tell_lost(draft):
        return draft.done(again=0.0)
    late = attempt.overdue(draft)
    if late is not None:
        draft.fail(late.reason, late.message, failure=attempt.failure_of(late, view.pod, view.log_tail))
        return draft.done()
    return draft.done(again=attempt.look_again(draft))


def _failed(draft: AcceptedDraft, job: JobView) -> Decision[TrainingRunStatus]:
    """Go on from a failed Job, once the attempt's other Jobs and their pods have ended."""
    view = draft.view
    others = [each for each in view.attempt if each.job is not job]
    draft.stop()
    if any(not pod.ended for each in others for pod in each.pods):
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, f"Job {job.name} failed: stopping.")
        attempt.force_delete_lost(draft)
        return draft.done(again=LOOK_AGAIN_SECONDS)
    return failed_attempt(draft, cause_of(job, view.pod), view.pod)


def _trained(draft: AcceptedDraft) -> Decision[TrainingRunStatus]:
    """Go on from exit 0: a container must have named its model, and may have no artefact to publish."""
    view = draft.view
    if not isinstance(view.accepted.config, ContainerConfig):
        return publication.publish(draft)
    name = attempt.model_name(draft)
    if name is None:
        if view.pod is not None and view.pod.forwarding:
            return draft.done(again=1.0)
        return failed_attempt(draft, attempt.unnamed(draft), view.pod)
    if view.accepted.config.artefact == "None":
        return publication.without_artefact(draft, name)
    return publication.publish(draft)
