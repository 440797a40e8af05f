"""The table: its rows in order, the first cause in time first, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from chorus_operator.decisions.observed import JobView, PodView
from chorus_operator.decisions.outcome.attempt_rows import ATTEMPT_ROWS, REFUSAL_ROWS
from chorus_operator.decisions.outcome.model import Observation, Outcome, Row
from chorus_operator.decisions.outcome.pod_rows import CLUSTER_ROWS, EXIT_ROWS


def rows_with(own: Sequence[Row] = ()) -> tuple[Row, ...]:
    """Give all rows in order; `own`: those of a plugin type, which stand before what an exit code says."""
    return (*REFUSAL_ROWS, *CLUSTER_ROWS, *own, *EXIT_ROWS, *ATTEMPT_ROWS)


def classify(seen: Observation, own: Sequence[Row] = ()) -> Outcome | None:
    """Say what an observation comes to: the outcome of the first row that fits; None while nothing has failed."""
    found = (row.match(seen) for row in rows_with(own))
    return next((outcome for outcome in found if outcome is not None), None)


def outcome_of(job: JobView, pod: PodView | None, log: str | None = None, *, claim: str = "") -> Outcome:
    """Say why a Job failed that is no attempt: prepare, fetch, publish or describe."""
    outcome = classify(Observation(job=job, pod=pod, log=log, claim=claim))
    assert outcome is not None, "the last row about Jobs fits every one that has failed"
    return outcome
