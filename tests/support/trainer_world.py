"""Runs of the trainer in a directory of their own: frames, run.json, and messages that are kept to be looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.lora import LoraParameters, resolve
from chorus_api.run_config import Messaging, RunConfig, TerminationRecord
from chorus_protocol.messages import Payload, ProgressReport

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("kitchen", "bedroom", "garage", "hall", "office", "attic", "cellar", "garden")
THINGS = ("light", "fan", "blind", "heater", "speaker", "socket")
FAMILIES: tuple[Literal["t5", "decoder"], ...] = ("t5", "decoder")
BaseModel = Callable[[str], Path]
"""Directory of a family's small base model."""
Train = Callable[..., int]
"""Runs the trainer on a TrainerRun; the exit code."""
P = TypeVar("P", bound=Payload)


def pairs(count: int, *, start: int = 0) -> list[tuple[str, str]]:
    """Requests and answers, each different, all alike."""
    made = []
    for number in range(start, start + count):
        room, thing = ROOMS[number % len(ROOMS)], THINGS[(number // len(ROOMS)) % len(THINGS)]
        verb = "on" if number % 3 else "off"
        extra = " please" * (number % 5)
        made.append(
            (f"turn {verb} the {thing} in the {room} number {number}{extra}", f"Turn {verb} {room} {thing}. Done.")
        )
    return made


def write_frame(directory: Path, *, train: Sequence[tuple[Any, Any]], evaluation: Sequence[tuple[Any, Any]]) -> None:
    """A training frame as the prepare Job leaves it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("eval", evaluation)):
        columns = {"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]}
        schema = pa.schema([("prompt", pa.string()), ("response", pa.string())])
        pq.write_table(pa.table(columns, schema=schema), directory / f"{name}.parquet")


def run_config(*, base: Path, lora: Mapping[str, Any], directory: Path, **changes: Any) -> RunConfig:
    """run.json of a run on `base` with the parameters `lora` (those of the API)."""
    parameters = LoraParameters.model_validate(lora)
    values: dict[str, Any] = {
        "run_name": "home-soft-1",
        "run_uid": "uid-1",
        "run_id": "run_20260101_000000_abcd",
        "namespace": "default",
        "project": "home",
        "plugin": "soft",
        "project_id": 11,
        "plugin_id": 22,
        "frame_name": "df-0123456789ab",
        "frame_digest": "sha256:" + "0" * 64,
        "model_name": "home-soft-1",
        "base_model_uri": "hf://owner/tiny",
        "base_model_path": str(base),
        "encoder_decoder": resolve(parameters, family="encoderDecoder"),
        "decoder": resolve(parameters, family="decoder"),
        "checkpoint_every_seconds": 3600,
        "checkpoint_keep": 2,
        "grace_seconds": 30,
        "messaging": Messaging(
            url="https://127.0.0.1:9/v1/messages",
            token_file=str(directory / "token"),
            ca_file=str(directory / "ca.crt"),
            subject_uid="uid-1",
            source="/namespaces/default/pods/train",
        ),
    }
    return RunConfig.model_validate(values | changes)


@dataclass
class KeptMessages:
    """A sender that keeps what it is given."""

    sent: list[Payload] = field(default_factory=list)
    reports: list[ProgressReport] = field(default_factory=list)
    closed: bool = False

    def send(self, payload: Payload) -> None:
        self.sent.append(payload)

    def progress(self, payload: ProgressReport) -> None:
        self.reports.append(payload)

    def close(self, deadline_seconds: float) -> None:
        self.closed = True

    def of(self, kind: type[P]) -> list[P]:
        """The messages of one kind."""
        return [payload for payload in self.sent if isinstance(payload, kind)]


@dataclass(frozen=True)
class TrainerRun:
    """The files of one run, as a training pod would find them."""

    directory: Path
    config: RunConfig

    @classmethod
    def make(
        cls,
        directory: Path,
        *,
        base: Path,
        lora: Mapping[str, Any],
        train: Sequence[tuple[Any, Any]] | None = None,
        evaluation: Sequence[tuple[Any, Any]] | None = None,
        **changes: Any,
    ) -> TrainerRun:
        """Write frame and run.json under `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        write_frame(
            directory / "data",
            train=pairs(24) if train is None else train,
            evaluation=pairs(6, start=500) if evaluation is None else evaluation,
        )
        config = run_config(base=base, lora=lora, directory=directory, **changes)
        (directory / "run.json").write_text(config.model_dump_json())
        (directory / "token").write_text("secret-token-value")
        return cls(directory, config)

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    @property
    def arguments(self) -> list[str]:
        """The trainer's command line."""
        files = {"config": "run.json", "data": "data", "run": "run", "termination-log": "termination.json"}
        return [part for option, name in files.items() for part in (f"--{option}", str(self.directory / name))]

    def termination(self) -> TerminationRecord:
        return TerminationRecord.model_validate_json((self.directory / "termination.json").read_bytes())

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / "training_run.json").read_bytes())
        return found

    def curve(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]

    def log(self) -> str:
        return (self.run_dir / "log.txt").read_text()

    def start(self, *, attempt: int = 1, **environ: str) -> subprocess.Popen[str]:
        """The real `python -m chorus_trainer`, as a pod starts it."""
        return subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-m", "chorus_trainer", *self.arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'trainer_image'}",
                "CHORUS_ATTEMPT": str(attempt),
                "OMP_NUM_THREADS": "1",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def wait_for(condition: Callable[[], bool], *, deadline: float = 60.0, what: str) -> None:
    """Look every 20 ms until `condition` holds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"waited {deadline} s for: {what}"
        time.sleep(0.02)
