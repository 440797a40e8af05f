"""The plugin's own word about a failure: it stands in the place of what an exit code alone can say."""

from __future__ import annotations

from dataclasses import replace

from chorus_api.reasons import FailureClass, Reason
from chorus_api.training_run import ErrorEntry
from chorus_operator.decisions.outcome.model import Actor, Outcome

REASONS = {reason.value: reason for reason in Reason}
REPORTED = Outcome(FailureClass.USER, Reason.TRAINING_FAILED)
_GENERAL = (Reason.TRAINING_FAILED, Reason.MODEL_NAME_MISSING)


def told_by_plugin(cause: Outcome, error: ErrorEntry | None) -> Outcome:
    """Put an ERROR_REPORT in the place of a cause that says no more than that the program failed."""
    if error is None or cause.reason not in _GENERAL:
        return cause
    reason = REASONS.get(error.reason or "", Reason.TRAINING_FAILED)
    message = f"{error.reason}: {error.detail}" if error.reason and error.reason not in REASONS else error.detail
    told = replace(cause, reason=reason, message=message)
    if not error.retryable:
        return told
    return replace(told, failure_class=FailureClass.INFRASTRUCTURE, actor=Actor.NOBODY)
