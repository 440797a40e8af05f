"""Every command of the documentation is run by a test, and every reason has a command that shows its evidence."""

from __future__ import annotations

import re

import pytest

from chorus_api.reasons import Reason
from docs_commands import NEEDS_MORE, TROUBLESHOOTING, Command, commands, needs_more, runnable
from docs_text import REPOSITORY, codes, rows


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_is_run_by_the_test_of_commands_or_by_another(command: Command) -> None:
    """`tests/api/test_commands_of_pages.py` runs those that need an API server and no more."""
    place = needs_more(command)
    if place is None:
        assert command.text.startswith("kubectl "), f"{command}: nothing runs it; see NEEDS_MORE in docs_commands.py"
        runnable(command, project="a", run="a", plugin="a", frame="a")


@pytest.mark.parametrize("form", NEEDS_MORE)
def test_what_runs_the_others_is_there(form: str) -> None:
    if not any(re.fullmatch(form, command.text) for command in commands()):
        return
    path, words = NEEDS_MORE[form]
    place = REPOSITORY / path
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    assert any(words in file.read_text(encoding="utf-8") for file in files), f"{path} does not hold {words!r}"


def test_every_reason_has_evidence_once() -> None:
    shown = [code for row in rows(TROUBLESHOOTING, heading="to see", columns=3) for code in codes(row[2])]
    assert sorted(shown) == sorted(reason.value for reason in Reason)


def test_a_command_that_nothing_runs_is_found() -> None:
    assert needs_more(Command("here", "make coffee")) is None
