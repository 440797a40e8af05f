"""docs/write-a-plugin.md shows the files of examples/plugins/first as they are, and what it says of them is so."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from docs_text import REPOSITORY, fences
from plugin_process import Ended, assert_kit_passes, penguins, plugin_place, python

PAGE = REPOSITORY / "docs" / "write-a-plugin.md"
FOLDER = REPOSITORY / "examples" / "plugins" / "first"
FILES = ("plugin.py", "plugin.json", "Dockerfile", "plugin.yaml", "project.yaml")


def test_the_page_shows_the_files_as_they_are() -> None:
    shown = [fence.text for fence in fences("python", "json", "dockerfile", "yaml") if fence.page == PAGE]
    assert shown == [(FOLDER / name).read_text(encoding="utf-8") for name in FILES]


def ended(folder: Path, *, role: str = "train", **more: Any) -> Ended:
    settings: dict[str, Any] = {"info": {"outcome": "species"}} | more
    frame = penguins(folder) if role == "train" else None
    command = python("plugin.py")
    with plugin_place(folder, command=command, cwd=FOLDER, frame=frame, channel="File", **settings) as here:
        return here.run(role=role)


def test_the_plugin_of_the_page_says_what_it_is(tmp_path: Path) -> None:
    answer = ended(tmp_path, role="describe")
    assert (answer.code, answer.kinds) == (0, ["ONLINE_REPORT"]), answer.log


@pytest.mark.parametrize("parameters", [{}, {"distance": "city"}])
def test_the_plugin_of_the_page_learns(tmp_path: Path, parameters: dict[str, str]) -> None:
    answer = ended(tmp_path, parameters=parameters)
    assert (answer.code, answer.kinds) == (0, ["DATA_REPORT", "TRAINING_START", "MODEL_NAME"]), answer.log
    assert answer.data("MODEL_NAME")["metrics"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("change", "code", "kind"),
    [
        ({"parameters": {"distnace": "city"}}, 64, "ERROR_REPORT"),
        ({"parameters": {"distance": "far"}}, 64, "ERROR_REPORT"),
        ({"info": {}}, 69, "DATA_REPORT"),
        ({"info": {"outcome": "colour"}}, 69, "DATA_REPORT"),
    ],
)
def test_the_plugin_of_the_page_says_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], code: int, kind: str
) -> None:
    answer = ended(tmp_path, **change)
    assert (answer.code, answer.kinds) == (code, [kind]), answer.log


def test_the_command_that_checks_a_plugin_passes_it() -> None:
    shown = [line for fence in fences("sh") if fence.page == PAGE for line in fence.text.splitlines()]
    [command] = [line for line in shown if line.startswith("chorus plugin check")]
    assert_kit_passes(*shlex.split(command)[3:])
