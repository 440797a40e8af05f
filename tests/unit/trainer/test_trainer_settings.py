"""The command line, the environment and run.json of a training pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chorus_trainer.errors import BadConfiguration
from chorus_trainer.settings import cpu_limit, parse, read_config


def test_the_paths_are_the_contracts_unless_told_otherwise() -> None:
    settings = parse([], environ={"CHORUS_ATTEMPT": "3"})
    assert (str(settings.config_file), str(settings.data_dir)) == ("/chorus/run.json", "/chorus/data")
    assert (str(settings.run_dir), str(settings.termination_log)) == ("/chorus/run", "/dev/termination-log")
    assert (settings.attempt, settings.accelerator) == (3, None)
    assert str(parse(["--run", "elsewhere"], environ={}).run_dir) == "elsewhere"


def test_an_attempt_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="CHORUS_ATTEMPT must be a number, not 'one'"):
        parse([], environ={"CHORUS_ATTEMPT": "one"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("", None), ("nonsense", None)],
)
def test_threads_follow_the_cgroups_limit(tmp_path: Path, content: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_limit(tmp_path / "cpu.max") == expected
    settings = parse([], environ={}, cpu_max=tmp_path / "cpu.max")
    assert settings.threads == expected
    assert parse([], environ={"OMP_NUM_THREADS": "2"}, cpu_max=tmp_path / "cpu.max").threads is None


def test_without_a_cgroup_file_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path / "cpu.max") is None


def test_a_run_json_that_is_wrong_is_named_with_its_field(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(BadConfiguration, match=r"run\.json cannot be read: No such file"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(BadConfiguration, match=r"run\.json: the file: Invalid JSON"):
        read_config(path)
    path.write_text(json.dumps({"runName": 3}))
    with pytest.raises(BadConfiguration, match=r"run\.json: runName: Input should be a valid string"):
        read_config(path)
