"""What these Jobs share: how they start, how they end, and what they say last."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from chorus_api.contract import JOB_CONFIG_VARIABLE
from chorus_api.file_model import FileModel
from chorus_api.reasons import ExitCode, Reason
from chorus_api.records import TerminationRecord
from chorus_client.masking import mask
from chorus_client.stop import StopFlag, Stopped
from chorus_client.termination import HINT_CHARACTERS, MESSAGE_CHARACTERS, tidy, write_termination
from chorus_dataset.errors import DataError

LOG = logging.getLogger(__name__)
Config = TypeVar("Config", bound=FileModel)


def read_config(path: Path, model: type[Config], *, instead: str | None = None) -> Config:
    """Read a Job's configuration; `BadConfiguration` naming the field if it is not right.

    `instead`: the content, where the Job's environment (JOB_CONFIG_VARIABLE) has it and there is no file.
    """
    where = JOB_CONFIG_VARIABLE if instead else path
    try:
        return model.model_validate_json(instead or path.read_bytes())
    except OSError as error:
        raise DataError(Reason.BAD_CONFIGURATION, f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(Reason.BAD_CONFIGURATION, f"{where}: {field or 'content'}: {first['msg']}") from error


def run_job(work: Callable[[StopFlag], TerminationRecord], *, termination_log: Path, stop: StopFlag) -> int:
    """Run a Job's work, write its termination record, and return the exit code of the pod."""
    try:
        record, code = work(stop), ExitCode.DONE
    except Stopped as error:
        LOG.warning("%s", error)
        record, code = TerminationRecord(outcome="preempted", message=str(error), retryable=True), ExitCode.PREEMPTED
    except DataError as error:
        LOG.error("%s: %s", error.reason, mask(error.detail))
        record, code = _failure(error), error.exit_code
    except OSError as error:
        LOG.exception("the work failed")
        failure = _os_failure(error)
        record, code = _failure(failure), failure.exit_code
    except Exception as error:
        LOG.exception("the work failed")
        unexpected = DataError(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}", retryable=True)
        record, code = _failure(unexpected), unexpected.exit_code
    write_termination(record, termination_log)
    return code


def _os_failure(error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room on the Project's claim, or have it enlarged"
        return DataError(Reason.VOLUME_FULL, f"{type(error).__name__}: {error}", hint=hint)
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "let user and group 65532 write to the Project's volume"
    return DataError(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}", hint=hint, retryable=True)


def _failure(error: DataError) -> TerminationRecord:
    return TerminationRecord(
        outcome="failed",
        reason=error.reason,
        message=tidy(error.message, MESSAGE_CHARACTERS),
        hint=tidy(error.hint, HINT_CHARACTERS),
        retryable=error.retryable,
    )
