"""Logs are one JSON object a line, whoever writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from chorus_operator.logs import configure_logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_our_logs_and_those_of_libraries_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", form="json")
    structlog.get_logger("ours").warning("message refused", cause="badToken", detail="two\nlines")
    logging.getLogger("kopf.objects").warning("watch lost")
    logging.getLogger("kopf.objects").info("chatter")
    structlog.get_logger("ours").debug("chatter")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["message refused", "watch lost"]
    assert lines[0]["cause"] == "badToken"
    assert all({"timestamp", "level"} <= line.keys() for line in lines)


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", form="json")
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        structlog.get_logger("ours").error("reconcile failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_no_value_of_a_variable_is_shown_on_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    """As rich does, where it is installed."""
    configure_logs(level="info", form="console")
    token = "".join(("not ", "to ", "be ", "shown"))
    try:
        raise RuntimeError(f"broken by {len(token)} characters")
    except RuntimeError:
        structlog.get_logger("ours").exception("reconcile failed")
    shown = capsys.readouterr().err
    assert "RuntimeError: broken by 15 characters" in shown
    assert token not in shown
