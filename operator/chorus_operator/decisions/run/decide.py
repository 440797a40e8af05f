"""The decision about one TrainingRun: from what is seen to what is done, and a status that tells the truth.

Each step either settles the matter for now and returns, or leaves it to the next. An ended run is never touched again
but to remove it. Admission (`Accepted`) is the Project's decision and is only read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from chorus_api.conditions import ConditionType
from chorus_api.phases import FINAL
from chorus_api.project import Project
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions import names, resolve
from chorus_operator.decisions.decision import Decision, DeleteRun, SuspendJob
from chorus_operator.decisions.observed import JobView
from chorus_operator.decisions.run import attempt
from chorus_operator.decisions.run.freeze import freeze, restore
from chorus_operator.decisions.run.plugin_type import PluginType, PluginTypes, RunRequest
from chorus_operator.decisions.run.pod_end import ended_well
from chorus_operator.decisions.run.shown import shown
from chorus_operator.decisions.run.state import REQUEUE_SECONDS, AcceptedDraft, AcceptedView, Draft, RunView
from chorus_operator.decisions.run.unresolved import note_found, unresolved
from chorus_operator.decisions.startup import NAME_TAKEN_SECONDS

SUSPENDED_JOB_SECONDS = 300.0


def decide_run(view: RunView, types: PluginTypes) -> Decision[TrainingRunStatus]:
    """Decide about a run."""
    if view.run.status.phase in FINAL:
        return _after_the_end(view)
    draft = Draft(view)
    if view.run.spec.cancel:
        return _cancel(draft)
    if isinstance(view, AcceptedView):
        return _bring_forward(AcceptedDraft(view), types[view.accepted.config.type])
    resolved = draft.before.resolved
    if view.project is not None and resolved is not None and resolved.digest is not None:
        request = request_of(view)
        return restore(draft, types[request.plugin.spec.type] if request is not None else None, request)
    problem = resolve.references(view.run, view.project, view.plugin, meant=view.meant)
    if problem is not None:
        return unresolved(draft, problem)
    request = request_of(view)
    assert request is not None  # nothing that the run refers to is missing
    note_found(draft)
    if not draft.conditions.is_true(ConditionType.ACCEPTED):
        return _unaccepted(draft, request.project)
    if not names.has_claim(request.project):
        # The Project was deleted and made again, and has not been looked at yet.
        return draft.done(again=REQUEUE_SECONDS)
    return freeze(draft, types[request.plugin.spec.type], request)


def _bring_forward(draft: AcceptedDraft, plugin_type: PluginType) -> Decision[TrainingRunStatus]:
    view = draft.view
    draft.changes["resolved"] = view.accepted.resolved()
    draft.conditions.set(ConditionType.PARAMETERS_VALID, True, Reason.PARAMETERS_VALID, "The plugin takes them.")
    attempt.observe(draft)
    done = view.job is not None and (view.job.complete or ended_well(view))  # what is left is to publish it
    if view.wants_suspension and not done and not plugin_type.is_over(draft):
        return _suspend(draft, plugin_type)
    draft.conditions.drop(ConditionType.SUSPENDED)
    halted = [job for job in view.jobs if job.suspended and not job.finished]
    if halted and not _suspended_by_chorus(draft, halted):
        # A queue such as Kueue holds it, or somebody does by hand: it is theirs to let go.
        message = f"Job {halted[0].name} is suspended, by a queue or by hand: the run goes on when it is not."
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.JOB_SUSPENDED, message)
        attempt.force_delete_lost(draft)
        return draft.done(again=SUSPENDED_JOB_SECONDS)
    if halted:
        draft.actions += [SuspendJob.of(job, suspend=False) for job in halted]
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.PENDING, "Resuming.")
        return draft.done(again=REQUEUE_SECONDS)
    if not plugin_type.is_ready(draft):
        return draft.done(again=30.0)
    return plugin_type.train(draft)


def _suspended_by_chorus(draft: AcceptedDraft, halted: Sequence[JobView]) -> bool:
    """Tell whether Chorus suspended the Jobs. A former version left no mark on them, and knew no queues."""
    if any(job.suspended_by_chorus for job in halted):
        return True
    return attempt.was_suspended(draft) and draft.view.accepted.operator.pod.queue_name is None


def request_of(view: RunView) -> RunRequest | None:
    """Put together what a run asks for; None while something that it refers to is missing."""
    entry = resolve.entry_of(view.project, view.run.spec.plugin) if view.project is not None else None
    if view.project is None or entry is None or view.plugin is None:
        return None
    return RunRequest(view.project, entry, view.plugin, view.run)


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
        draft.conditions.forget(ConditionType.BLOCKED)
    draft.conditions.set(ConditionType.BLOCKED, True, Reason.NAME_TAKEN, message)
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.NAME_TAKEN, message)
    blocked = draft.conditions.get(ConditionType.BLOCKED)
    if blocked is not None and (view.now - blocked.last_transition_time).total_seconds() > NAME_TAKEN_SECONDS:
        return refuse_run(view, message)
    return draft.done(again=REQUEUE_SECONDS)


def _after_the_end(view: RunView) -> Decision[TrainingRunStatus]:
    status = view.run.status
    if status.shown is None:  # it ended under a version that had no short forms
        status = status.model_copy(update={"shown": shown(status)})
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
        return draft.done(again=REQUEUE_SECONDS)
    draft.fail(Reason.CANCELLED_BY_USER, "spec.cancel was set.")
    return draft.done()


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


def _suspend(draft: AcceptedDraft, plugin_type: PluginType) -> Decision[TrainingRunStatus]:
    view = draft.view
    plugin_type.suspend(draft)
    if any(pod.tracked or not pod.ended for pod in view.pods):
        draft.conditions.set(ConditionType.PODS_READY, False, Reason.SUSPENDED, "Suspending: the pods save and stop.")
        attempt.force_delete_lost(draft)
        return draft.done(again=REQUEUE_SECONDS)
    draft.conditions.set(ConditionType.SUSPENDED, True, Reason.SUSPENDED, _who_suspends(view))
    draft.conditions.set(ConditionType.PODS_READY, False, Reason.SUSPENDED, "No pod is wanted.")
    return draft.done()
