"""What `kubectl get` shows of a run: short forms, since a printer column cannot cut."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api.training_run import MAX_SHOWN_MESSAGE, Progress, PublishedModel, TrainingRunStatus
from chorus_operator.decisions.run.shown import shown

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def progress(percent: int, loss: str | None) -> Progress:
    return Progress(attempt=1, percent=percent, loss=loss, time=NOW)


@pytest.mark.parametrize(
    ("loss", "short"), [("0.123456789", "0.1235"), ("12345.678", "1.235e+04"), (None, None), ("nan", "nan")]
)
def test_a_loss_has_four_digits(loss: str | None, short: str | None) -> None:
    assert shown(TrainingRunStatus(phase="TRAINING", progress=progress(40, loss))).loss == short


def test_a_trained_run_shows_100_percent_and_the_final_loss_whatever_arrived_last() -> None:
    model = PublishedModel(name="m", uri="", digest="", final_loss="0.41234567")
    short = shown(TrainingRunStatus(phase="TRAINED", progress=progress(97, "0.9"), model=model))
    assert (short.percent, short.loss) == (100, "0.4123")


@given(st.text())
def test_a_message_is_one_line_of_at_most_120_characters(message: str) -> None:
    short = shown(TrainingRunStatus(message=message)).message or ""
    assert len(short) <= MAX_SHOWN_MESSAGE
    assert short == " ".join(short.split())
