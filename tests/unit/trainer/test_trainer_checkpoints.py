"""Checkpoints are whole or not there, and damage is found."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from chorus_trainer.checkpoint import CheckpointStore


def _store(root: Path, *, attempt: int = 1, keep: int = 2, fingerprint: str = "f") -> CheckpointStore:
    return CheckpointStore(root=root / "checkpoints", attempt=attempt, keep=keep, fingerprint=fingerprint)


def _files(text: str = "weights") -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "weights").write_text(text)
        (directory / "optimizer").write_bytes(b"\0" * 100)
        (directory / "optimizer").chmod(0o600)

    return write


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


def test_the_newest_is_that_of_the_highest_step_of_any_attempt(tmp_path: Path) -> None:
    assert _store(tmp_path).newest() is None
    _store(tmp_path, attempt=1).save(40, _files())
    _store(tmp_path, attempt=2).save(9, _files())
    found = _store(tmp_path, attempt=3).newest()
    assert found is not None
    assert (found.path.name, found.attempt, found.step) == ("1-40", 1, 40)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = _store(tmp_path, keep=2)
    for step in (8, 9, 10, 11):
        store.save(step, _files())
    assert _names(tmp_path) == ["1-10", "1-11"]


def test_every_file_may_be_read_by_the_group(tmp_path: Path) -> None:
    saved = _store(tmp_path).save(1, _files())
    assert all(path.stat().st_mode & 0o060 == 0o060 for path in saved.path.iterdir() if path.name != "COMPLETE")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / "weights").write_text("weightz"), "weights is damaged"),
        (lambda path: (path / "weights").unlink(), "incomplete: No such file or directory: weights"),
        (lambda path: (path / "COMPLETE").unlink(), "incomplete: No such file or directory: COMPLETE"),
        (lambda path: (path / "COMPLETE").write_text("{"), "its COMPLETE is damaged"),
        (lambda path: (path / "COMPLETE").write_text("[]"), "its COMPLETE is damaged"),
        (lambda path: path.rename(path.with_name("1-99")), "its name says step 99, its marker 2"),
    ],
)
def test_a_damaged_one_is_skipped_said_and_swept_with_the_next_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], told: str
) -> None:
    first = _store(tmp_path)
    first.save(1, _files())
    damage(first.save(2, _files()).path)
    again = _store(tmp_path, attempt=2)
    with caplog.at_level(logging.WARNING):
        found = again.newest()
    assert found is not None
    assert found.path.name == "1-1"
    assert told in caplog.text
    again.save(2, _files())
    assert _names(tmp_path) == ["1-1", "2-2"]


def test_one_of_another_training_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _store(tmp_path, fingerprint="other").save(1, _files())
    assert _store(tmp_path).newest() is None
    assert "belongs to a training with other parameters" in caplog.text


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(1, _files())

    def full(directory: Path) -> None:
        (directory / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.save(2, full)
    assert _names(tmp_path) == ["1-1"]


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(1, _files("old"))
    store.save(1, _files("new"))
    found = store.newest()
    assert found is not None
    assert (found.path / "weights").read_text() == "new"
