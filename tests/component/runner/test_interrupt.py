"""Ctrl-C and SIGTERM: what `make test` and `make demo` started is taken down, unless it is to be kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 60.0

# Its programs run under the `timeout` of the real one: the program itself would be in a process group of its own.
FAKE_KIND = """#!/usr/bin/env bash
HERE={kind}
. "$HERE/lib/common.sh"
echo "$*" >>"{calls}"
case $1 in
  up) timeout 600 sh -c 'echo $$ >"{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 600' ;;
  binaries) echo /nowhere ;;
esac
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE_SECONDS:.0f} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return f"{pid} (sleep) Z" not in Path(f"/proc/{pid}/stat").read_text()


@dataclass
class Scene:
    """A place where `kind/cluster` is a script that notes its calls, and hangs while it makes a cluster."""

    directory: Path

    def __post_init__(self) -> None:
        kind = self.directory / "kind" / "cluster"
        kind.parent.mkdir()
        kind.write_text(
            FAKE_KIND.format(kind=REPOSITORY / "kind", calls=self.directory / "calls", pid=self.directory / "pid")
        )
        kind.chmod(0o755)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    def interrupt(self, command: list[str], number: signal.Signals, env: Mapping[str, str]) -> str:
        """Start a command, signal it while the cluster is made, and give what it printed."""
        inherited = {name: value for name, value in os.environ.items() if name not in {"KEEP", "KUBECONFIG"}}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=inherited | env, start_new_session=True
        )
        try:
            wait_for((self.directory / "pid").exists, "making the cluster has begun")
            process.send_signal(number)
            printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 130
        pid = int((self.directory / "pid").read_text())
        wait_for(lambda: not is_alive(pid), "what was started has ended")
        return printed.decode()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])


def make_test(scene: Scene) -> list[str]:
    script = """
import sys
from pathlib import Path
import run
sys.exit(run.main(["cluster"], kind_command=Path(sys.argv[1])))
"""
    return [sys.executable, "-c", script, str(scene.directory / "kind" / "cluster")]


def make_demo(scene: Scene) -> list[str]:
    shutil.copytree(REPOSITORY / "examples" / "demo", scene.directory / "examples" / "demo")
    models = scene.directory / "scripts" / "tiny-models"
    models.parent.mkdir()
    models.write_text("#!/bin/sh\necho /nowhere\n")
    models.chmod(0o755)
    return ["bash", str(scene.directory / "examples" / "demo" / "run.sh")]


@SIGNALS
def test_an_interrupted_test_run_deletes_its_cluster_and_says_so(scene: Scene, number: signal.Signals) -> None:
    printed = scene.interrupt(make_test(scene), number, {"PYTHONPATH": str(REPOSITORY / "tests")})
    assert scene.calls()[-1] == "down --name chorus-test"
    assert "interrupted" in printed
    assert "taking down the cluster chorus-test (KEEP=1 keeps it)" in printed


def test_an_interrupted_test_run_keeps_its_cluster_if_it_is_told_to(scene: Scene) -> None:
    env = {"PYTHONPATH": str(REPOSITORY / "tests"), "KEEP": "1"}
    printed = scene.interrupt(make_test(scene), signal.SIGTERM, env)
    assert not any(call.startswith("down") for call in scene.calls())
    assert "kept: the cluster chorus-test; remove it with: kind/cluster down --name chorus-test" in printed


@SIGNALS
def test_an_interrupted_demo_deletes_its_cluster_and_says_so(scene: Scene, number: signal.Signals) -> None:
    printed = scene.interrupt(make_demo(scene), number, {})
    assert scene.calls()[-1] == "down --name chorus-demo"
    assert "interrupted" in printed
    assert "removing the cluster chorus-demo (KEEP=1 keeps it)" in printed


def test_an_interrupted_demo_keeps_its_cluster_if_it_is_told_to(scene: Scene) -> None:
    printed = scene.interrupt(make_demo(scene), signal.SIGTERM, {"KEEP": "1"})
    assert not any(call.startswith("down") for call in scene.calls())
    assert "interrupted" in printed
