from __future__ import annotations

import errno
from pathlib import Path

import pytest

from chorus_api.nearest import nearest
from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import TerminationRecord
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.errors import DataError, listing
from chorus_dataset.jobs.job import run_job


def ended(error: Exception, folder: Path) -> tuple[int, TerminationRecord]:
    def work(_: StopFlag) -> TerminationRecord:
        raise error

    log = folder / "termination-log"
    code = run_job(work, termination_log=log, stop=StopFlag())
    return code, TerminationRecord.model_validate_json(log.read_bytes())


@pytest.mark.parametrize(
    ("error", "code", "reason", "retryable"),
    [
        (DataError(Reason.BAD_CONFIGURATION, "m"), ExitCode.BAD_CONFIGURATION, "BadConfiguration", False),
        (DataError(Reason.ALL_ROWS_REJECTED, "m"), ExitCode.BAD_DATA, "AllRowsRejected", False),
        (DataError(Reason.INTERNAL_ERROR, "m", retryable=True), ExitCode.INTERNAL, "InternalError", True),
        (OSError(errno.EIO, "broken disk"), ExitCode.INTERNAL, "InternalError", True),
        (OSError(errno.ENOSPC, "no space left"), ExitCode.INTERNAL, "VolumeFull", False),
        (RuntimeError("a bug"), ExitCode.INTERNAL, "InternalError", True),
    ],
)
def test_every_end_has_its_code_and_record(
    tmp_path: Path, error: Exception, code: int, reason: str, retryable: bool
) -> None:
    ended_with, record = ended(error, tmp_path)
    assert ended_with == code
    assert (record.outcome, record.reason, record.retryable) == ("failed", reason, retryable)


def test_a_full_volume_is_named_with_the_field_that_helps(tmp_path: Path) -> None:
    assert "enlarged" in ended(OSError(errno.ENOSPC, "no space left"), tmp_path)[1].hint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_volume_that_cannot_be_written_to_says_who_must_be_let(tmp_path: Path, number: int) -> None:
    _, record = ended(OSError(number, "no", "/chorus/volume/frames"), tmp_path)
    assert (record.reason, record.retryable) == ("InternalError", True)
    assert "65532" in record.hint


def test_a_stop_is_no_failure(tmp_path: Path) -> None:
    code, record = ended(Stopped("stopped by SIGTERM"), tmp_path)
    assert code == ExitCode.PREEMPTED
    assert (record.outcome, record.retryable) == ("preempted", True)


def test_secrets_and_long_texts_do_not_get_into_the_record(tmp_path: Path) -> None:
    error = DataError(Reason.BAD_DATA, "postgres://me:hunter22@db " + "x" * 5000, hint="y" * 5000)
    record = ended(error, tmp_path)[1]
    assert "hunter22" not in record.message
    assert record.hint


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("Questoin", ["answer", "question"]) == "question"
    assert nearest("xyz", ["answer", "question"]) is None


def test_long_lists_are_shortened() -> None:
    assert listing([str(number) for number in range(30)], 2) == "0, 1 and 28 more"
    assert listing([]) == "none"
