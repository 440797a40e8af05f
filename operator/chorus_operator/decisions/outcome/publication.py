"""What may be said of a training that ended well and whose artefact could not be published."""

from __future__ import annotations

from dataclasses import replace

from chorus_api.reasons import FailureClass, Reason
from chorus_operator.decisions.outcome.model import Outcome

PODS_LEFT = Outcome(FailureClass.INFRASTRUCTURE, Reason.PUBLISH_FAILED, hint="Delete them, and make a new run.")
NO_RESULT = Outcome(
    FailureClass.INFRASTRUCTURE,
    Reason.PUBLISH_FAILED,
    "The publish Job gave no digest or no loss.",
    "See the log of the pod with the label chorus.dev/role=publish, and make a new run.",
)
_OWN = (
    Reason.DIGEST_MISMATCH,
    Reason.NON_FINITE_LOSS,
    Reason.PUBLISH_FAILED,
    Reason.VOLUME_FULL,
    Reason.SCRATCH_FULL,
)
"""Reasons that say more than that the publication failed."""


def of_publish_job(cause: Outcome) -> Outcome:
    """Say why a publish Job failed, as users know the publication: a run has no other reason for it."""
    return cause if cause.reason in _OWN else replace(cause, reason=Reason.PUBLISH_FAILED)
