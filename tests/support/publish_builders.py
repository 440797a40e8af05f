"""A Project's volume with one finished run, as the publish Job finds it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chorus_api.run_config import PublishConfig, RunRecord, TerminationRecord
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.kept_runs import MARGIN_SECONDS
from chorus_dataset.jobs.publish import run_publish

RECORD = RunRecord(
    base_model="hf://lab/tiny-t5",
    samples_used=1873,
    epochs=3,
    learning_rate=5e-5,
    run_directory="/chorus/run",
    trained_at="2026-11-21T10:15:02Z",
    final_loss=0.5,
    run_id="run_20261121_101502_3f9c",
    eval_loss=0.75,
    steps=705,
)
FILES = {
    "adapter_model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "adapter_config.json": b"{}",
    "README.md": b"# A model\n",
    "tokenizer/spiece.model": b"pieces",
}
MODEL = "home-soft-prompt-1"
LISTED = datetime(2026, 1, 1, tzinfo=UTC)
"""When the operator listed the runs, and the time of the publish Job. Marks that a test makes are younger."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def uid(number: int) -> str:
    """Give the uid of an object."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


RUN, ME, OTHER = uid(1), uid(0xA), uid(0xB)


class Volume:
    """A Project's volume with one finished run."""

    def __init__(self, root: Path, *, run: str = RUN) -> None:
        self.root = root
        self.uid = run
        self.run = root / "runs" / run
        self.out = self.run / "out"
        self.models = root / "models"
        self.model = self.models / MODEL
        self.latest = root / "latest" / "soft-prompt"
        self.owners = root / "runs" / ".owners"
        for name, content in FILES.items():
            self.write(f"out/{name}", content)
        self.write("training_run.json", RECORD.model_dump_json().encode())
        self.write("metrics.jsonl", b'{"step": 1, "loss": 2.0}\n')
        self.write("log.txt", b"training\n")
        self.write("1-700/adapter_model.safetensors", b"checkpoint")
        self.digest = self.write_sums(FILES)

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run."""
        path = self.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write_sums(self, files: dict[str, bytes]) -> str:
        """Write the sums of the artefact; returns its digest."""
        sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
        self.write("out/SHA256SUMS", sums.encode())
        return f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"

    def old_run(self, run: str, *marked_by: str, age: float = MARGIN_SECONDS + 60) -> Path:
        """Leave the directory of another run, marked so many seconds before the runs were listed."""
        folder = self.root / "runs" / run
        (folder / "1-10").mkdir(parents=True)
        (folder / "1-10" / "optimizer.pt").write_bytes(b"state")
        for project in marked_by:
            self.mark(run, project, age=age)
        return folder

    def mark(self, run: str, project: str, *, age: float = MARGIN_SECONDS + 60) -> Path:
        """Mark a run's directory as of a Project."""
        self.owners.mkdir(parents=True, exist_ok=True)
        path = self.owners / f"{run}.{project}"
        path.touch()
        os.utime(path, (LISTED.timestamp() - age,) * 2)
        return path

    def marks(self) -> set[str]:
        """Name all marks."""
        return set(os.listdir(self.owners))

    def config(self, *, own: Sequence[str] = (), others: Sequence[str] = (), **changes: Any) -> PublishConfig:
        """A configuration for the run; the changes are fields of PublishConfig."""
        values = {
            "run_name": MODEL,
            "run_uid": self.uid,
            "run_id": RECORD.run_id,
            "plugin": "soft-prompt",
            "model_name": MODEL,
            "expected_digest": self.digest,
            "promote": True,
            "namespace": "team-a",
            "project": "home",
            "project_uid": ME,
            "listed_runs": {"own": [self.uid, *own], "others": list(others), "listed": LISTED},
        }
        return PublishConfig.model_validate({**values, **changes})

    def publish(self, *, step: Callable[[str], None] = lambda _: None, **changes: Any) -> TerminationRecord:
        """Do what the publish Job does."""
        return run_publish(
            self.config(**changes), self.root, stop=StopFlag(), step=step, now=lambda: LISTED.timestamp()
        )

    def error(self, **changes: Any) -> DataError:
        """Publish what must not be published; return the error, and see that nothing changed place."""
        with pytest.raises(DataError) as caught:
            self.publish(**changes)
        assert os.path.lexists(self.out)
        assert not self.latest.is_symlink()
        assert self.under_way() == []
        return caught.value

    def under_way(self) -> list[str]:
        """Name what is being published or removed."""
        places = (self.models / ".publishing", self.root / "runs" / ".removed")
        return [name for place in places if place.exists() for name in os.listdir(place)]

    def tree(self) -> dict[str, str]:
        """All files with a digest of their content, and links with their targets."""
        found: dict[str, str] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def killed_before(volume: Volume, step: str, **changes: Any) -> None:
    """Publish, and be killed before a step."""

    def kill(name: str) -> None:
        if name == step:
            raise Killed

    with pytest.raises(Killed):
        volume.publish(step=kill, **changes)
