"""Read what a training says of itself, `training_run.json`, which it may have written in bad faith."""

from __future__ import annotations

from pydantic import ValidationError

from chorus_api.reasons import Reason
from chorus_api.records import RunRecord
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.artefact import RECORD_FILE
from chorus_dataset.untrusted import Directory

MAX_RECORD_BYTES = 1 << 20


def read_record(folder: Directory) -> RunRecord:
    """Read the run record of a directory; `PublishFailed` if it is missing or no plain file of at most 1 MiB.

    The same, naming the field, if it is not valid or a loss is not finite.
    """
    try:
        return RunRecord.model_validate_json(folder.read(RECORD_FILE, limit=MAX_RECORD_BYTES))
    except OSError as error:
        raise DataError(
            Reason.PUBLISH_FAILED, f"{RECORD_FILE} cannot be read: {error.strerror}", hint="look at the training's log"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(
            Reason.PUBLISH_FAILED,
            f"{RECORD_FILE}: {field or 'content'}: {first['msg']}",
            hint="a model is published only with a complete record and a finite loss",
        ) from error
