from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api.contract import MAX_TERMINATION_BYTES
from chorus_api.run_config import TerminationRecord
from chorus_client.termination import encode, tidy, write_termination

ANY_TEXT = st.text(st.characters(codec=None), max_size=700)


def test_a_record_is_written_as_json_without_empty_fields(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.write_text("an older and much longer record " * 50)
    record = TerminationRecord(outcome="succeeded", model_name="home-lora-1", final_loss=0.5, promoted=True)
    assert write_termination(record, log)
    written = json.loads(log.read_text())
    assert written["modelName"] == "home-lora-1"
    assert "digest" not in written
    assert TerminationRecord.model_validate(written) == record


@given(message=ANY_TEXT, hint=st.text(st.characters(codec=None), max_size=300), name=st.text(max_size=600))
def test_any_record_fits_and_is_valid(message: str, hint: str, name: str) -> None:
    record = TerminationRecord.model_construct(
        outcome="failed", reason="BadData", message=message, hint=hint, retryable=True, model_name=name
    )
    body = encode(record)
    assert len(body) <= MAX_TERMINATION_BYTES
    read = TerminationRecord.model_validate_json(body)
    assert (read.outcome, read.reason, read.retryable) == ("failed", "BadData", True)


def test_a_long_message_keeps_its_beginning() -> None:
    record = TerminationRecord(outcome="failed", reason="BadData", message="row 17: " + "é\x01" * 346, hint="fix")
    read = TerminationRecord.model_validate_json(encode(record))
    assert read.message.startswith("row 17: éé".replace("éé", "é\x01é"))
    assert read.message.endswith("…")
    assert read.hint == "fix"


def test_secrets_are_masked() -> None:
    record = TerminationRecord(outcome="failed", message="no route to postgres://me:hunter22@db/x", hint="password=abc")
    body = encode(record).decode()
    assert "hunter22" not in body
    assert "abc" not in body


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = TerminationRecord(outcome="failed", reason="InternalError")
    assert not write_termination(record, tmp_path / "absent" / "log")
    assert "InternalError" in caplog.text


def test_tidy_text_can_always_be_encoded() -> None:
    assert tidy("a\ud800b\0c", 10).encode() == "a?b\N{REPLACEMENT CHARACTER}c".encode()
