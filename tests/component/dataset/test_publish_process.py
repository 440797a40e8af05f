"""The process that a publish pod runs: what it is told, and what it loads to do so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chorus_api.contract import JOB_CONFIG_VARIABLE
from chorus_api.reasons import ExitCode
from chorus_api.run_config import TerminationRecord
from publish_builders import MODEL, Volume

LIBRARIES = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
CHORUS = {
    *("chorus_api", "chorus_api.contract", "chorus_api.file_model", "chorus_api.publication"),
    *("chorus_api.reasons", "chorus_api.records"),
    *("chorus_client", "chorus_client.masking", "chorus_client.stop", "chorus_client.termination"),
}
"""What it needs beside `chorus_dataset`: neither the models of the kinds nor what sends messages."""
TELL = """
import sys
before = set(sys.modules)
from chorus_dataset.__main__ import main
code = main(sys.argv[1:])
print("\\n".join(set(sys.modules) - before))
sys.exit(code)
"""


class Process:
    """One process like that of a publish pod, and how it ended."""

    def __init__(self, volume: Path, *, told: str | None, config: Path) -> None:
        log = volume.parent / "termination-log"
        options = ["--volume", str(volume), "--termination-log", str(log), "--config", str(config)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        environment |= {JOB_CONFIG_VARIABLE: told} if told is not None else {}
        command = [sys.executable, "-c", TELL, "publish", *options]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.code = ended.returncode
        self.record = TerminationRecord.model_validate_json(log.read_bytes())
        self.modules = set(ended.stdout.split())


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def of_environment(volume: Volume, told: str) -> Process:
    return Process(volume.root, told=told, config=volume.root.parent / "none.json")


def test_it_publishes_what_its_environment_says_without_any_file_of_configuration(volume: Volume) -> None:
    told = volume.config(listed_runs=None).model_dump_json(by_alias=True)
    ended = of_environment(volume, told)
    assert (ended.code, ended.record.model_name, ended.record.digest) == (ExitCode.DONE, MODEL, volume.digest)
    assert volume.model.is_dir()


def test_it_publishes_what_a_file_says_where_its_environment_says_nothing(volume: Volume) -> None:
    config = volume.root.parent / "job.json"
    config.write_text(volume.config().model_dump_json(by_alias=True), encoding="utf-8")
    ended = Process(volume.root, told=None, config=config)
    assert (ended.code, ended.record.model_name) == (ExitCode.DONE, MODEL)


def test_an_environment_that_it_cannot_read_is_named_with_the_field(volume: Volume) -> None:
    told = json.loads(volume.config().model_dump_json(by_alias=True))
    del told["modelName"]
    ended = of_environment(volume, json.dumps(told))
    assert ended.code == ExitCode.BAD_CONFIGURATION
    assert ended.record.message == f"{JOB_CONFIG_VARIABLE}: modelName: Field required"


def test_it_loads_no_library_but_the_one_that_validates(volume: Volume) -> None:
    """Loading is most of what a publish pod does: each library more costs more than the artefact."""
    ended = of_environment(volume, volume.config().model_dump_json(by_alias=True))
    assert ended.code == ExitCode.DONE
    own = {name for name in ended.modules if name.startswith("chorus_")}
    assert {name for name in own if name.partition(".")[0] != "chorus_dataset"} == CHORUS
    assert not any(name.startswith(("chorus_dataset.sources", "chorus_dataset.readers")) for name in own)
    libraries = {name.partition(".")[0] for name in ended.modules - own} - sys.stdlib_module_names
    assert {name for name in libraries if not name.startswith("_")} <= LIBRARIES
