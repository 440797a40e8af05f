"""Which statuses are not worth a write yet, and how often one is written that many things change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chorus_api.training_run import TrainingRunStatus
from chorus_operator.decisions.run.quiet import SECONDS, seconds_to_wait
from chorus_operator.reconcile.pace import LONGEST, Pace

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted"}


def ready(message: str, *, status: str = "False", reason: str = "Pending") -> dict[str, Any]:
    return {"type": "PodsReady", "status": status, "reason": reason, "message": message}


def status(*conditions: dict[str, Any], **fields: Any) -> TrainingRunStatus:
    dated = [{"lastTransitionTime": NOW.isoformat(), **condition} for condition in conditions]
    return TrainingRunStatus.model_validate({"conditions": dated, "attempts": {"current": 1}, **fields})


MADE = status(ACCEPTED, ready("The Job is being made."), message="The Job is being made.")
PULLS = status(ACCEPTED, ready("The image is pulled."), message="The image is pulled.")


def wait(before: TrainingRunStatus, after: TrainingRunStatus, *, seconds: float = 1.0) -> float:
    return seconds_to_wait(before, after, now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(("seconds", "left"), [(0.0, SECONDS), (2.0, SECONDS - 2), (SECONDS, 0.0), (60.0, 0.0)])
def test_what_a_pod_waits_for_is_written_once_it_has_waited_for_a_while(seconds: float, left: float) -> None:
    assert wait(MADE, PULLS, seconds=seconds) == pytest.approx(left)


def test_nothing_waits_when_nothing_has_changed() -> None:
    assert wait(PULLS, PULLS) == 0.0


@pytest.mark.parametrize(
    "before",
    [status(ACCEPTED), status(ACCEPTED, ready("It runs.", status="True", reason="Started"))],
    ids=["nothing was said of its pod", "its pod ran"],
)
def test_that_a_pod_begins_to_wait_is_written_at_once(before: TrainingRunStatus) -> None:
    assert wait(before, PULLS) == 0.0


@pytest.mark.parametrize(
    "after",
    [
        status(ACCEPTED, ready("It runs.", status="True", reason="Started")),
        status(ACCEPTED, ready("No node fits.", reason="Unschedulable")),
        status(ACCEPTED, ready("ErrImagePull", reason="ImagePull")),
        status(ACCEPTED, ready("The image is pulled."), {"type": "Blocked", "status": "True", "reason": "ImagePull"}),
        status(ready("The image is pulled.")),
        status(ACCEPTED, ready("The image is pulled."), attempts={"current": 2}),
        status(ACCEPTED, ready("The image is pulled."), startTime=NOW.isoformat()),
        status(ACCEPTED),
    ],
    ids=[
        "it runs",
        "no node fits",
        "its image cannot be pulled",
        "something blocks it",
        "another condition is gone",
        "another attempt",
        "another field",
        "nothing of the pod",
    ],
)
def test_whatever_else_changes_is_written_at_once(after: TrainingRunStatus) -> None:
    assert wait(MADE, after) == 0.0


def test_a_status_may_be_written_again_when_its_seconds_have_passed_since_the_last_write() -> None:
    now = 100.0
    pace = Pace(seconds=lambda: now)
    assert pace.seconds_left("a", every=5.0) == 0.0
    pace.begin("a")
    now = 101.5
    assert pace.seconds_left("a", every=5.0) == pytest.approx(3.5)
    assert pace.seconds_left("a", every=1.0) == 0.0, "each kind of change has its own pace"
    assert pace.seconds_left("b", every=5.0) == 0.0
    pace.begin("a")
    now = 106.5
    assert pace.seconds_left("a", every=5.0) == 0.0


def test_what_was_written_long_ago_is_forgotten() -> None:
    now = 0.0
    pace = Pace(seconds=lambda: now)
    pace.begin("a")
    now = LONGEST
    assert pace.seconds_left("a", every=LONGEST) == 0.0
