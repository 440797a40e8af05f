"""The example plugins know the protocol and nothing of Chorus's own code; their images hold what the tests use."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from docs_text import REPOSITORY, name_of
from locks import read_lock

PLUGINS = REPOSITORY / "examples" / "plugins"
FOLDERS = sorted(file.parent for file in PLUGINS.glob("*/plugin.yaml"))
SOURCES = sorted(PLUGINS.rglob("*.py"))
LOCKED = sorted(PLUGINS.glob("*/requirements.lock"))


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_nothing_of_chorus_is_imported(file: Path) -> None:
    assert not [name for name in imported(file) if name.startswith("chorus")]


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 5
    assert len(FOLDERS) >= 2


def pins(lock: Path) -> dict[str, set[str]]:
    return {name: set(versions) for name, versions in read_lock(lock).items()}


@pytest.mark.parametrize("lock", LOCKED, ids=name_of)
def test_an_image_holds_the_versions_that_the_tests_use(lock: Path) -> None:
    tested = pins(REPOSITORY / "requirements" / "dev.lock")
    other = {name: versions for name, versions in pins(lock).items() if not versions <= tested.get(name, set())}
    assert not other, f"{name_of(lock)} and requirements/dev.lock differ in {other}: see requirements/README.md"


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_an_image_starts_what_the_kit_starts(folder: Path) -> None:
    """plugin.json is for `chorus plugin check`; ENTRYPOINT is the same command with paths of the image."""
    if not (folder / "plugin.json").exists():
        return  # a service: the kit is given its address
    command = json.loads((folder / "plugin.json").read_text(encoding="utf-8"))["command"]
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", (folder / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert entry is not None
    given = [Path(word).name for word in json.loads(entry[1])]
    assert [given[0].replace("python3", "python"), *given[1:]] == [
        command[0].replace("python3", "python"),
        *command[1:],
    ]
