"""A LoRA plugin's own script trains in place of the trainer, if it is the one that the Plugin states."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chorus_api.reasons import ExitCode
from chorus_api.run_config import LoraScriptConfig
from chorus_trainer.own_script import run_script


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """A script takes over what belongs to its process: give it back."""
    arguments, main, handler = sys.argv, sys.modules["__main__"], signal.getsignal(signal.SIGTERM)
    yield
    sys.argv, sys.modules["__main__"] = arguments, main
    signal.signal(signal.SIGTERM, handler)


def config(root: Path, code: str, *, path: str = "train.py", sha256: str | None = None) -> LoraScriptConfig:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    return LoraScriptConfig(
        root=str(root), path=path, sha256=sha256 or hashlib.sha256(code.encode()).hexdigest(), config_map=None
    )


def reason(folder: Path) -> str:
    return str(json.loads((folder / "last-word").read_text())["reason"])


def run(script: LoraScriptConfig, folder: Path) -> int:
    return run_script(script, termination_log=folder / "last-word")


def test_the_script_runs_as_main_with_its_own_path(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nif __name__ == '__main__':\n    pathlib.Path(__file__ + '.ran').write_text(sys.argv[0])\n"
    )
    assert run(config(tmp_path, code, path="own/train.py"), tmp_path) == ExitCode.DONE
    assert (tmp_path / "own/train.py.ran").read_text() == str(tmp_path / "own/train.py")


@pytest.mark.parametrize(
    ("code", "expected"),
    [("import sys; sys.exit(69)", 69), ("raise SystemExit('no data')", 1), ("1 / 0", 1), ("raise SystemExit", 0)],
)
def test_the_scripts_exit_code_is_that_of_the_pod(tmp_path: Path, code: str, expected: int) -> None:
    assert run(config(tmp_path, code), tmp_path) == expected


def test_nothing_of_a_script_with_another_digest_is_executed(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    assert run(config(tmp_path, code, sha256="ab" * 32), tmp_path) == ExitCode.BAD_CONFIGURATION
    assert reason(tmp_path) == "ScriptHashMismatch"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["../train.py", "/etc/passwd", "own/../../train.py", ""])
def test_the_path_stays_inside_its_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    script = config(root, "1").model_copy(update={"path": path})
    (tmp_path / "train.py").write_text("1")
    assert run(script, tmp_path) == ExitCode.BAD_CONFIGURATION
    assert reason(tmp_path) == "ScriptNotFound"


@pytest.mark.parametrize("link", ["train.py", "own"])
def test_links_are_refused_wherever_they_are_in_the_path(tmp_path: Path, link: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    script = config(outside, "1", path="own/train.py")
    root.mkdir()
    if link == "own":
        (root / "own").symlink_to(outside / "own")
    else:
        (root / "own").mkdir()
        (root / "own" / "train.py").symlink_to(outside / "own" / "train.py")
    assert run(script.model_copy(update={"root": str(root)}), tmp_path) == ExitCode.BAD_CONFIGURATION
    assert reason(tmp_path) == "ScriptNotFound"


def test_a_script_that_is_told_to_end_ends(tmp_path: Path) -> None:
    assert run(config(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"), tmp_path) == 143
