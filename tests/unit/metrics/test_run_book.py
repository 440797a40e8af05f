"""Runs counted by phase from events: always what a fresh count over all runs would give."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_operator.metrics.runs import PHASES, RunBook, last_sign, unix_time
from message_builders import training_run

AT = {"12:00": "2026-01-01T12:00:00Z", "12:10": "2026-01-01T12:10:00Z", "12:20": "2026-01-01T12:20:00Z"}


def run(name: str = "home-soft-1", *, project: str = "home", phase: str | None = None, **status: Any) -> dict[str, Any]:
    stored = training_run(name, project=project, **status)
    if phase is not None:
        stored["status"]["phase"] = phase
    return stored


def counted(book: RunBook) -> dict[str, int]:
    return {phase: count for phase, count in book.counts().items() if count}


def test_every_phase_is_there_from_the_start_and_none_is_negative() -> None:
    assert RunBook().counts() == dict.fromkeys(PHASES, 0)


def test_a_run_counts_in_the_phase_of_its_last_event() -> None:
    book = RunBook()
    book.seen(run(), deleted=False)
    assert counted(book) == {"queued": 1}
    book.seen(run(phase="TRAINING"), deleted=False)
    book.seen(run(phase="TRAINING"), deleted=False)
    assert counted(book) == {"TRAINING": 1}


def test_a_deleted_run_counts_no_more_and_its_deletion_may_be_told_twice() -> None:
    book = RunBook()
    book.seen(run(phase="failed"), deleted=False)
    book.seen(run(phase="failed"), deleted=True)
    book.seen(run(phase="failed"), deleted=True)
    book.gone("default", "home-soft-1")
    assert counted(book) == {}


def test_a_run_that_a_reconcile_does_not_find_counts_no_more() -> None:
    book = RunBook()
    book.seen(run(phase="TRAINING"), deleted=False)
    book.gone("default", "home-soft-1")
    assert counted(book) == {}
    assert book.silence(now=unix_time(AT["12:00"])) == {"PREPROCESSING": 0, "TRAINING": 0}


def test_an_ended_run_that_is_not_in_the_list_of_its_project_counts_no_more() -> None:
    book = RunBook()
    for name, project, phase in [
        ("left", "home", "TRAINED"),
        ("missed", "home", "failed"),
        ("newer-than-the-list", "home", "queued"),
        ("of-another", "shop", "TRAINED"),
    ]:
        book.seen(run(name, project=project, phase=phase), deleted=False)
    book.listed("default", "home", {"left"})
    assert counted(book) == {"TRAINED": 2, "queued": 1}


def test_a_phase_of_another_version_is_one_label_and_not_its_own_word() -> None:
    book = RunBook()
    for number in range(5):
        book.seen(run(f"run-{number}", phase=f"newPhase{number}"), deleted=False)
    assert counted(book) == {"unknown": 5}


@pytest.mark.parametrize(
    "status",
    [
        {"progress": {"attempt": 1, "percent": 3, "time": AT["12:20"]}},
        {"report": {"attempt": 1, "podUid": "p", "sequence": 2, "trainingStart": {"time": AT["12:20"]}}},
        {"conditions": [{"type": "ModelPublished", "status": "False", "lastTransitionTime": AT["12:20"]}]},
    ],
    ids=["progress", "message", "condition"],
)
def test_progress_a_message_or_a_condition_ends_the_silence_of_a_run(status: dict[str, Any]) -> None:
    started = {"type": "PodStarted", "status": "True", "lastTransitionTime": AT["12:00"]}
    stored = run(phase="TRAINING", **{**status, "conditions": [started, *status.get("conditions", [])]})
    assert last_sign(stored) == unix_time(AT["12:20"])


def test_the_silence_of_a_phase_is_that_of_its_most_silent_run() -> None:
    book = RunBook()
    for name, time in [("a", AT["12:00"]), ("b", AT["12:10"])]:
        book.seen(run(name, phase="TRAINING", progress={"time": time}), deleted=False)
    assert book.silence(now=unix_time(AT["12:20"])) == {"PREPROCESSING": 0, "TRAINING": 1200}
    book.seen(run("a", phase="TRAINED"), deleted=False)
    assert book.silence(now=unix_time(AT["12:20"]))["TRAINING"] == 600


def test_a_time_that_is_none_is_long_ago() -> None:
    assert (unix_time(None), unix_time("soon")) == (0.0, 0.0)


NAMES, PROJECTS = ("a", "b", "c"), ("home", "shop")
EVENT = st.tuples(st.sampled_from(NAMES), st.sampled_from(PROJECTS), st.sampled_from([*PHASES[:-1], None]))


@given(st.lists(st.tuples(EVENT, st.booleans())))
def test_any_events_leave_what_a_count_over_the_runs_that_exist_gives(
    events: list[tuple[tuple[str, str, str | None], bool]],
) -> None:
    book, there = RunBook(), dict[str, str]()
    for (name, project, phase), deleted in events:
        book.seen(run(name, project=project, phase=phase), deleted=deleted)
        if deleted:
            there.pop(name, None)
        else:
            there[name] = phase or "queued"
        assert counted(book) == Counter(there.values())
