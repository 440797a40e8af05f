"""Write a container's last word: the termination record, which outlives both the pod and an outage of the operator."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from chorus_api.contract import MAX_TERMINATION_BYTES, TERMINATION_LOG
from chorus_api.records import TerminationRecord
from chorus_client.masking import mask

LOG = logging.getLogger(__name__)
MESSAGE_CHARACTERS = 700
HINT_CHARACTERS = 300


def clip(text: str, limit: int) -> str:
    """Cut text to `limit` characters, the last of them an ellipsis where something was cut."""
    if len(text) <= limit:
        return text
    return text[: limit - 1] + "…" if limit > 0 else ""


def tidy(text: str, limit: int) -> str:
    """Make text fit for a record: secrets masked, unpaired surrogates and NULs replaced, at most `limit` characters."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return clip(mask(clean), limit)


def encode(record: TerminationRecord) -> bytes:
    """Serialise a record into at most 2,048 bytes of JSON.

    The message and the hint are shortened as far as needed; a record that is still too long keeps its outcome, reason,
    message and whether to retry.
    """
    for limit in range(MESSAGE_CHARACTERS, -1, -25):
        body = _json(record, limit)
        if len(body) <= MAX_TERMINATION_BYTES:
            return body
    core = TerminationRecord(
        outcome=record.outcome, reason=tidy(record.reason, 64), message=record.message, retryable=record.retryable
    )
    return encode(core)


def write_termination(record: TerminationRecord, path: Path | None = None) -> bool:
    """Write the record to the termination log (`/dev/termination-log` when `path` is None); say whether it worked.

    The log is a file that the kubelet mounts, so it cannot be replaced by a rename: it is emptied and written with one
    call. A failure is logged and never raised, because the exit code must still be the right one.
    """
    return _write(encode(record), path)


def leave_termination(record: TerminationRecord | None, path: Path | None = None) -> bool:
    """Write the record as `write_termination` does, or with None take away what was written before."""
    return _write(b"" if record is None else encode(record), path)


def _write(body: bytes, path: Path | None) -> bool:
    target = path or Path(TERMINATION_LOG)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, body)
        finally:
            os.close(descriptor)
    except OSError as error:
        LOG.error("the termination record cannot be written to %s: %s; it is %s", target, error, body.decode())
        return False
    return True


def _json(record: TerminationRecord, limit: int) -> bytes:
    short = record.model_copy(
        update={
            "message": tidy(record.message, limit),
            "hint": tidy(record.hint, min(limit, HINT_CHARACTERS)),
        }
    )
    return short.model_dump_json(exclude_none=True).encode()
