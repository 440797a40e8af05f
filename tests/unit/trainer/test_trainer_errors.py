"""Exceptions become ends with a reason, a hint and an exit code."""

from __future__ import annotations

import pytest

from chorus_api.reasons import ExitCode
from chorus_api.run_config import TerminationRecord
from chorus_trainer.errors import BadConfiguration, BadData, NonFinite, NotApplicable, Preempted, as_memory_error
from chorus_trainer.runner import as_trainer_error, termination_of


@pytest.mark.parametrize(
    ("error", "code", "outcome", "reason", "retryable"),
    [
        (BadConfiguration("x"), ExitCode.BAD_CONFIGURATION, "failed", "BadConfiguration", False),
        (BadData("x"), ExitCode.BAD_DATA, "failed", "BadData", False),
        (NotApplicable("x"), ExitCode.NOT_APPLICABLE, "notApplicable", "NotApplicable", False),
        (NonFinite("x"), ExitCode.BAD_CONFIGURATION, "failed", "NonFiniteLoss", False),
        (Preempted("x", step=3), ExitCode.PREEMPTED, "preempted", "Disrupted", True),
        (ValueError("x"), ExitCode.INTERNAL, "failed", "InternalError", True),
        (MemoryError("x"), ExitCode.BAD_CONFIGURATION, "failed", "OutOfMemory", False),
    ],
)
def test_every_end_has_its_exit_code_and_record(
    error: Exception, code: int, outcome: str, reason: str, retryable: bool
) -> None:
    failure = as_trainer_error(error)
    record = termination_of(failure, None)
    assert failure.exit_code == code
    assert (record.outcome, record.reason, record.retryable) == (outcome, reason, retryable)
    assert record.step == (3 if isinstance(error, Preempted) else None)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert as_memory_error(RuntimeError("shapes cannot be multiplied")) is None
    assert as_memory_error(ValueError("out of memory")) is None


def test_a_very_long_message_with_a_secret_fits_the_record_without_it() -> None:
    record = termination_of(BadConfiguration("token=abcdefgh12345678 " + "x" * 5000, hint="y" * 900), None)
    assert isinstance(record, TerminationRecord)
    assert len(record.message) <= 700
    assert "abcdefgh12345678" not in record.message
