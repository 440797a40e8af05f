"""Run a container plugin as a process, as Chorus runs its container: the same files and variables, a real receiver.

    with plugin_place(tmp_path, command=["sh", "plugin.sh"], frame=penguins(tmp_path)) as place:
        ended = place.run()

Every message is read by the receiver's own parser; one that it would refuse is an error here.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chorus_api.run_config import Messaging, PrepareConfig
from chorus_client.forward import message_of
from chorus_dataset.convert import convert
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_protocol.messages import FrameManifest
from chorus_protocol.parse import Message, parse
from docs_text import REPOSITORY
from message_receiver import Receiver, serving

PENGUINS = REPOSITORY / "examples" / "data" / "penguins" / "penguins.csv"
PROJECT_ID, PLUGIN_ID = 4095123, 77
SUBJECT = "5d1c9a52-0000-4000-8000-000000000001"
SECONDS = 200.0


@dataclass(frozen=True)
class Frame:
    """A frame that was really prepared, and where it is."""

    folder: Path
    manifest: FrameManifest


def prepared(folder: Path, source: Path, *, eval_fraction: str = "0.2", **more: Any) -> Frame:
    """Prepare a frame of a file as the prepare Job does."""
    nowhere = Messaging(url="https://nowhere.invalid", token_file="", ca_file="", subject_uid="a", source="/a")
    settings: dict[str, Any] = {"format": "csv", "query": None, "max_rows": None, "fields": None} | more
    config = PrepareConfig(
        project="a",
        project_id=PROJECT_ID,
        project_uid="a",
        prepare_key="a",
        source_path=str(source),
        source_name=source.name,
        eval_fraction=eval_fraction,
        messaging=nowhere,
        **settings,
    )
    manifest = prepare_frame(config, folder / "volume")
    return Frame(folder / "volume" / "frames" / manifest.name, manifest)


def penguins(folder: Path, *, rows: Sequence[Mapping[str, str]] | None = None, **more: Any) -> Frame:
    """Prepare the sample of penguins, or a changed copy of its rows."""
    if rows is None:
        return prepared(folder, PENGUINS, **more)
    changed = folder / "changed.csv"
    with changed.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return prepared(folder, changed, **more)


def penguin_rows() -> list[dict[str, str]]:
    """The rows of the sample."""
    with PENGUINS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    log: str
    messages: list[Message]

    @property
    def kinds(self) -> list[str]:
        """Names of its messages without progress, in their order."""
        return [kind for kind in (str(each.envelope.type) for each in self.messages) if kind != "progress"]

    def data(self, kind: str) -> dict[str, Any]:
        """Data of the last message of a type."""
        found = [each.payload for each in self.messages if each.envelope.type == kind]
        assert found, f"no {kind} among {self.kinds}; the log:\n{self.log}"
        return found[-1].model_dump()


@dataclass
class PluginPlace:
    """Where one plugin runs: attempts share the run's directory."""

    folder: Path
    receiver: Receiver
    command: Sequence[str]
    cwd: Path
    channel: Literal["Http", "File"]
    frame: Frame | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    hidden: Sequence[str] = ()
    """Python packages that are in the tests' environment and not in the plugin's image."""

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def out_dir(self) -> Path:
        return self.run_dir / "out"

    @property
    def messages_file(self) -> Path:
        return self.folder / "messages.jsonl"

    def environment(self, *, role: str, attempt: int) -> dict[str, str]:
        """The variables of the container, with paths of this place."""
        messaging = self.receiver.messaging()
        told = {
            "CHORUS_ROLE": role,
            "CHORUS_ATTEMPT": str(attempt),
            "CHORUS_RUN_DIR": str(self.run_dir),
            "CHORUS_OUT_DIR": str(self.out_dir),
            "CHORUS_MESSAGES_URL": messaging.url,
            "CHORUS_TOKEN_FILE": messaging.token_file,
            "CHORUS_CA_FILE": messaging.ca_file,
            "CHORUS_SUBJECT_UID": SUBJECT,
            "CHORUS_PROJECT_ID": str(PROJECT_ID),
            "CHORUS_PLUGIN_ID": str(PLUGIN_ID),
        }
        if self.frame is not None:
            data = self.frame.folder if self.channel == "Http" else self._as_csv(self.frame)
            told |= {"CHORUS_DATA_DIR": str(data), "CHORUS_TRAINING_DATA": str(self._training_data(self.frame, data))}
        if self.channel == "File":
            told["CHORUS_MESSAGES_FILE"] = str(self.messages_file)
        path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self._without_hidden())}
        return told | path | {"HOME": "/tmp", "OMP_NUM_THREADS": "1"}

    def start(self, *, role: str = "train", attempt: int = 1) -> subprocess.Popen[str]:
        """Start the process; `end` waits for it."""
        self.messages_file.unlink(missing_ok=True)
        self.receiver.posts.clear()
        return subprocess.Popen(
            list(self.command),
            cwd=self.cwd,
            env=self.environment(role=role, attempt=attempt),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the end of a process and read its messages."""
        try:
            log, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            log, _ = process.communicate()
            raise AssertionError(f"{self.command} did not end within {SECONDS:g} s; its log:\n{log}") from None
        return Ended(process.returncode, log, self._messages())

    def run(self, *, role: str = "train", attempt: int = 1) -> Ended:
        """Run the process to its end."""
        return self.end(self.start(role=role, attempt=attempt))

    def _messages(self) -> list[Message]:
        if self.channel == "File":
            lines = self.messages_file.read_bytes().splitlines() if self.messages_file.exists() else []
            events = [_enveloped(line, number) for number, line in enumerate(lines, start=1)]
        else:
            events = [post.event for post in self.receiver.posts]
        return [parse(json.dumps(event).encode()) for event in events]

    def _training_data(self, frame: Frame, data: Path) -> Path:
        told = {
            "project_id": PROJECT_ID,
            "plugin_id": PLUGIN_ID,
            "training_df_name": frame.manifest.name,
            "parameters": dict(self.parameters),
            "info": dict(self.info),
            "location": str(data),
        }
        path = self.folder / "training_data.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        return path

    def _without_hidden(self) -> Path:
        folder = self.folder / "hidden"
        folder.mkdir(exist_ok=True)
        for name in self.hidden:
            (folder / f"{name}.py").write_text("raise ImportError('not in the image')\n", encoding="utf-8")
        return folder

    def _as_csv(self, frame: Frame) -> Path:
        folder = self.folder / "csv"
        if not folder.exists():
            folder.mkdir()
            convert("csv", frame=frame.folder, target=folder)
        return folder


def _enveloped(line: bytes, sequence: int) -> dict[str, Any]:
    """Make the event that the forwarder of a messages file makes of a line."""
    kind, data = message_of(line, project_id=PROJECT_ID, plugin_id=PLUGIN_ID)
    return {
        "specversion": "1.0",
        "id": f"line-{sequence}",
        "source": "/namespaces/lab/pods/train",
        "type": f"dev.chorus.{kind}",
        "subjectuid": SUBJECT,
        "attempt": "1",
        "sequence": str(sequence),
        "data": data,
    }


@contextmanager
def plugin_place(
    folder: Path,
    *,
    command: Sequence[str],
    cwd: Path,
    frame: Frame | None = None,
    channel: Literal["Http", "File"] = "Http",
    parameters: Mapping[str, Any] | None = None,
    info: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
) -> Iterator[PluginPlace]:
    """Set up a place with its receiver."""
    (folder / "run").mkdir()
    with serving(folder) as receiver:
        yield PluginPlace(folder, receiver, command, cwd, channel, frame, parameters or {}, info or {}, hidden)


def assert_kit_passes(*words: str) -> None:
    """Run `chorus plugin check` with these words, from the repository's root; it must find nothing wrong."""
    # The python3 of a plugin.json is the one that runs the tests.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    source = os.pathsep.join(str(REPOSITORY / root) for root in ("operator", "trainer_image"))
    done = subprocess.run(
        python("-m", "chorus_cli", "plugin", "check", *words),
        cwd=REPOSITORY,
        env=os.environ | {"PATH": path, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def python(*words: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *words]
