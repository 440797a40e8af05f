"""The checkpoint of the scikit-learn plugin: used for the training that it is of, and for no other."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs_text import REPOSITORY

ABOUT: dict[str, Any] = {"frame": "df-1", "parameters": {"seed": 0}}


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples" / "plugins" / "sklearn"))
    return importlib.import_module("tabular_classifier.checkpoint")


def test_what_was_saved_is_gone_on_from(checkpoint: ModuleType, tmp_path: Path) -> None:
    first = checkpoint.Checkpoint(tmp_path / "search.json", about=ABOUT)
    first.scores["0/1"] = 0.5
    first.save()
    assert checkpoint.Checkpoint(tmp_path / "search.json", about=ABOUT).scores == {"0/1": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


@pytest.mark.parametrize("about", [ABOUT | {"frame": "df-2"}, ABOUT | {"parameters": {"seed": 1}}])
def test_another_training_begins_anew(checkpoint: ModuleType, tmp_path: Path, about: dict[str, Any]) -> None:
    first = checkpoint.Checkpoint(tmp_path / "search.json", about=ABOUT)
    first.scores["0/1"] = 0.5
    first.save()
    assert checkpoint.Checkpoint(tmp_path / "search.json", about=about).scores == {}


def test_a_damaged_file_is_as_good_as_none(checkpoint: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text('{"about": {"frame"', encoding="utf-8")
    assert checkpoint.Checkpoint(tmp_path / "search.json", about=ABOUT).scores == {}
