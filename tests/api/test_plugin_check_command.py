"""The command itself: exit codes, options, and what it says when it cannot check."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chorus_cli.__main__ import main
from chorus_conformance.errors import CannotCheck
from chorus_conformance.launch import ContainerLauncher, find_engine
from chorus_conformance.pod_files import PodFiles
from plugin_builders import GOOD, write_plugin

QUICK = ("--frame-format=csv", "--scenario=describe")


def check(*words: object) -> int:
    return main(["plugin", "check", *map(str, words)])


def test_a_plugin_that_keeps_the_rules_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(write_plugin(tmp_path / "good"), *QUICK) == 0
    assert "C201  pass  it says what it is" in capsys.readouterr().out


def test_a_plugin_that_breaks_a_rule_ends_with_1_and_tells_programs_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_plugin(tmp_path / "bad", "import sys; sys.exit('no such role')\n")
    assert check(folder, *QUICK, "--output=json", "--rule=C201", "--rule=C202") == 1
    document = json.loads(capsys.readouterr().out)
    assert [(rule["id"], rule["result"]) for rule in document["rules"]] == [("C201", "fail"), ("C202", "skip")]
    assert "no such role" in document["rules"][0]["seen"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["./nowhere"], "there is no directory ./nowhere"),
        (["GOOD", "--rule=C999"], "there is no rule C999; there are C101"),
        (["GOOD", "--parameter=steps"], "--parameter 'steps' is not NAME=VALUE"),
        (["GOOD", "--info=outcome"], "--info 'outcome' is not NAME=VALUE"),
        (["GOOD", "--frame=nowhere.csv"], "--frame nowhere.csv cannot be read"),
        (["GOOD", "--", "more"], "arguments after -- are for images"),
        (["image", "--engine=no-such-engine"], "there is no no-such-engine on PATH"),
        (["EMPTY"], "neither plugin.json nor an executable file plugin"),
        (["BROKEN"], "command: List should have at least 1 item"),
        (["ODD"], "argv: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_checked_ends_with_2_and_the_reason(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plugin(tmp_path / "GOOD")
    write_plugin(tmp_path / "BROKEN", command=())
    write_plugin(tmp_path / "ODD")
    (tmp_path / "ODD" / "plugin.json").write_text('{"command": ["true"], "argv": []}')
    (tmp_path / "EMPTY").mkdir()
    given = [str(tmp_path / word) if word.isupper() and (tmp_path / word).exists() else word for word in words]
    assert check(*given) == 2
    assert told in capsys.readouterr().err


def test_an_executable_file_needs_no_plugin_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "plugin").write_text(f"#!{sys.executable}\n{GOOD}")
    (folder / "plugin").chmod(0o755)
    assert check(folder, *QUICK, "--rule=C201") == 0
    assert "1 passed, 0 failed" in capsys.readouterr().out


def test_keep_leaves_what_the_plugin_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert check(write_plugin(tmp_path / "good"), "--frame-format=csv", "--scenario=train", "--keep") == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kept: ")]
    kept = Path(line.removeprefix("kept: "))
    given = json.loads((kept / "train" / "training_data.json").read_text())
    assert given["parameters"] == {"steps": 4}
    assert given["info"] == {"outcome": "species"}
    assert (kept / "train" / "run" / "out" / "model.json").exists()
    assert sorted(path.name for path in Path(given["location"]).iterdir()) == ["eval.csv", "frame.json", "train.csv"]


def test_the_command_needs_neither_kubernetes_nor_torch() -> None:
    script = "import chorus_cli.__main__, sys; print([m for m in ('kopf', 'kubernetes', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_container_gets_the_limits_and_the_files_of_a_pod(tmp_path: Path) -> None:
    pod_files = PodFiles.make(tmp_path / "train")
    (pod_files.root / "run.json").touch()
    launcher = ContainerLauncher("docker", "registry/plugin:1", ("--fast",), entrypoint="train")
    words = launcher.words(pod_files, {"CHORUS_ROLE": "train"}, name="check-1", confined=True)
    for word in ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host"):
        assert word in words
    assert any(word.startswith("--user=") and not word.startswith("--user=0:") for word in words)
    assert f"--volume={pod_files.run}:/chorus/run" in words
    assert f"--volume={pod_files.data}:/chorus/data:ro" in words
    assert f"--volume={pod_files.root}/run.json:/chorus/run.json:ro" in words
    assert not [word for word in words if "training_data.json" in word], "describe has none"
    assert {"--env=CHORUS_ROLE=train", "--env=HOME=/tmp", "--entrypoint=train"} <= set(words)
    assert words[-2:] == ["registry/plugin:1", "--fast"]


def test_without_limits_a_container_keeps_its_own_user_and_a_root_that_it_can_write(tmp_path: Path) -> None:
    pod_files = PodFiles.make(tmp_path / "train")
    words = ContainerLauncher("docker", "image", host_network=False).words(
        pod_files, {}, name="check-1", confined=False
    )
    assert not [word for word in words if word.startswith(("--read-only", "--user", "--cap-drop"))]
    assert "--add-host=chorus-receiver:host-gateway" in words


def test_an_engine_that_fails_is_no_fault_of_the_plugin() -> None:
    launcher = ContainerLauncher("/usr/bin/docker", "image")
    with pytest.raises(CannotCheck, match="docker could not make the container: docker: Error response"):
        launcher.check_end(125, "docker: Error response from daemon: no space left on device\n")
    launcher.check_end(125, "Traceback\n")
    launcher.check_end(1, "docker: here a plugin says so\n")


def test_no_engine_at_all_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCheck, match="no docker nor podman nor nerdctl on PATH") as refused:
        find_engine(None)
    assert "as a process" in refused.value.hint
