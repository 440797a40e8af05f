"""The report of a run: what a message adds, and what never overwrites what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.training_run import Report
from chorus_operator.messages.report import says_more, updated_report
from chorus_protocol.messages import (
    Addressed,
    DataReport,
    Envelope,
    ErrorReport,
    MessageType,
    ModelName,
    TrainingStart,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = {"project_id": 1, "plugin_id": 2}
YES = DataReport(**IDS, applicable=True)
START = TrainingStart(**IDS)
MODEL = ModelName(**IDS, model_name="m", metrics={"loss": 0.1 + 0.2, "tiny": 5e-324, "big": 1e300})
ERROR = ErrorReport(**IDS, detail="no memory", reason="OutOfMemory", retryable=True)
TYPES = {
    DataReport: MessageType.DATA_REPORT,
    TrainingStart: MessageType.TRAINING_START,
    ModelName: MessageType.MODEL_NAME,
    ErrorReport: MessageType.ERROR_REPORT,
}


def add(
    report: Report | None,
    payload: Addressed,
    *,
    sequence: int = 1,
    attempt: int = 1,
    pod: str = "pod-1",
    instance: str = "one",
    now: datetime = NOW,
) -> Report:
    envelope = Envelope(
        id="i", source="s", type=TYPES[type(payload)], subject_uid="u", attempt=attempt, sequence=sequence
    )
    return updated_report(report, envelope=envelope, payload=payload, pod_uid=pod, instance=instance, now=now)


def test_messages_add_up() -> None:
    report = add(add(add(None, YES), START, sequence=2), MODEL, sequence=3)
    assert (report.attempt, report.pod_uid, report.sequence) == (1, "pod-1", 3)
    assert report.data_report is not None
    assert report.data_report.applicable
    assert report.training_start is not None
    assert report.model_name is not None
    assert report.model_name.model_name == "m"
    assert report.model_name.metrics == {"loss": "0.3", "tiny": "4.940656458e-324", "big": "1e+300"}
    assert report.error is None


def test_a_model_name_before_the_start_counts_as_both() -> None:
    report = add(None, MODEL)
    assert report.training_start is not None
    assert report.training_start.time == NOW


@pytest.mark.parametrize("payload", [YES, START, MODEL, ERROR])
def test_the_same_message_again_changes_nothing(payload: Addressed) -> None:
    report = add(None, payload)
    assert add(report, payload, now=NOW + timedelta(hours=1)) is report


@pytest.mark.parametrize("how", [{"sequence": 9}, {"instance": "two"}])
@pytest.mark.parametrize("payload", [YES, START, MODEL, ERROR])
def test_the_same_words_again_say_no_more_and_keep_their_time(payload: Addressed, how: dict[str, Any]) -> None:
    report = add(None, payload)
    again = add(report, payload, now=NOW + timedelta(hours=1), **how)
    assert not says_more(report, again)
    assert again.model_dump(include={"error": {"time"}}) == report.model_dump(include={"error": {"time"}})


def test_newer_words_replace_older_ones_and_never_the_other_way_round() -> None:
    no = DataReport(**IDS, applicable=False, reason="too few rows")
    report = add(add(None, YES, sequence=4), no, sequence=5)
    assert report.data_report is not None
    assert report.data_report.reason == "too few rows"
    assert add(report, YES, sequence=3) is report


def test_a_message_that_comes_late_is_not_lost() -> None:
    report = add(add(None, START, sequence=2), YES, sequence=1)
    assert report.data_report is not None
    assert report.sequence == 2


def test_a_newer_attempt_starts_anew_and_an_older_one_is_ignored() -> None:
    first = add(add(None, START), ERROR, sequence=2)
    second = add(first, YES, attempt=2, sequence=1, pod="pod-2")
    assert (second.attempt, second.pod_uid, second.error, second.training_start) == (2, "pod-2", None, None)
    assert add(second, MODEL, attempt=1, sequence=99) is second


def test_a_pod_that_took_the_first_ones_place_starts_anew() -> None:
    report = add(add(None, ERROR, sequence=5), START, pod="pod-2", sequence=1)
    assert (report.pod_uid, report.error, report.sequence) == ("pod-2", None, 1)


MESSAGES = st.tuples(st.sampled_from([YES, START, MODEL, ERROR]), st.integers(1, 3), st.integers(1, 9))


@settings(max_examples=120, deadline=None)
@given(st.lists(MESSAGES, max_size=12))
def test_in_any_order_the_report_is_of_the_newest_attempt_and_a_second_delivery_changes_nothing(
    messages: list[tuple[Addressed, int, int]],
) -> None:
    report = None
    for payload, attempt, sequence in messages:
        before = report
        report = add(report, payload, attempt=attempt, sequence=sequence)
        assert before is None or report.attempt >= before.attempt
        assert before is None or report.attempt > before.attempt or report.sequence >= before.sequence
        assert add(report, payload, attempt=attempt, sequence=sequence) is report
    assert report is None or report.attempt == max(attempt for _, attempt, _ in messages)


@settings(max_examples=100, deadline=None)
@given(st.permutations([(YES, 1), (START, 2), (ERROR, 3)]))
def test_messages_of_a_pod_add_up_to_the_same_in_any_order(messages: list[tuple[Addressed, int]]) -> None:
    report = None
    for payload, sequence in messages:
        report = add(report, payload, sequence=sequence)
    assert report == add(add(add(None, YES), START, sequence=2), ERROR, sequence=3)
