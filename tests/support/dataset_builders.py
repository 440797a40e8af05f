"""Tables in every format, and configurations to prepare them with."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.run_config import Messaging, PrepareConfig
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_protocol.messages import FrameManifest

Table = Sequence[Mapping[str, Any]]
NOWHERE = Messaging(url="https://nowhere", token_file="none", ca_file="none", subject_uid="uid", source="/test")
PROMPT_AND_RESPONSE = {"prompt": {"column": "question"}, "response": {"column": "answer"}}
BEST = {
    "prompt": {"column": "question"},
    "response": {"column": "answer", "best": {"by": "confidence", "take": "description"}},
}


def requests(count: int) -> list[dict[str, Any]]:
    """Rows with a text, an answer, a whole number, a number, a truth value and a value that is often missing."""
    return [
        {
            "question": f"turn on lamp {number}",
            "answer": f"lamp {number} is on",
            "room": number,
            "level": number / 8,
            "urgent": number % 3 == 0,
            "note": None if number % 2 else f"note {number}",
        }
        for number in range(count)
    ]


def csv_text(rows: Table) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows([{name: _csv_value(value) for name, value in row.items()} for row in rows])
    return text.getvalue()


def jsonl_text(rows: Table) -> str:
    """Write rows as JSON lines."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def write_parquet(path: Path, rows: Table) -> None:
    """Write rows as Parquet."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def write_sqlite(path: Path, rows: Table, *, table: str = "asked") -> None:
    """Write rows into a table of a SQLite database."""
    names = list(rows[0])
    database = sqlite3.connect(path)
    with database:
        columns = ", ".join(f'"{name}"' for name in names)
        database.execute(f'CREATE TABLE "{table}" ({columns})')
        marks = ", ".join("?" for _ in names)
        database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [[row[name] for name in names] for row in rows])
    database.close()


def prepare_config(path: Path, **changes: Any) -> PrepareConfig:
    """A configuration for a file; the changes are fields of PrepareConfig."""
    values: dict[str, Any] = {
        "project": "home",
        "project_id": 7,
        "project_uid": "uid",
        "prepare_key": "key-1",
        "source_path": str(path),
        "source_name": path.name,
        "format": None,
        "query": None,
        "max_rows": None,
        "fields": None,
        "eval_fraction": "0.05",
        "messaging": NOWHERE,
    }
    return PrepareConfig.model_validate({**values, **changes})


@dataclass(frozen=True)
class Frame:
    """A prepared frame, read back."""

    manifest: FrameManifest
    folder: Path

    @property
    def train(self) -> list[dict[str, Any]]:
        return _rows(self.folder / "train.parquet")

    @property
    def eval(self) -> list[dict[str, Any]]:
        return _rows(self.folder / "eval.parquet")

    @property
    def types(self) -> dict[str, str]:
        return {column.name: column.type for column in self.manifest.columns}

    @property
    def rejected(self) -> dict[str, int]:
        return {each.reason: each.count for each in self.manifest.rejected}

    @property
    def examples(self) -> list[str]:
        return [example for each in self.manifest.rejected for example in each.examples]


class Preparer:
    """Prepares tables in a temporary directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volume = folder / "volume"

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def frame(self, path: Path, *, check: Callable[[], None] = lambda: None, **changes: Any) -> Frame:
        """Prepare a file."""
        changes.setdefault("eval_fraction", "0")
        manifest = prepare_frame(prepare_config(path, **changes), self.volume, check=check)
        return Frame(manifest, self.volume / "frames" / manifest.name)

    def content(self, name: str, content: str | bytes, **changes: Any) -> Frame:
        """Write a file and prepare it."""
        return self.frame(self.file(name, content), **changes)

    def error(self, path: Path, **changes: Any) -> DataError:
        """Prepare a file that cannot be prepared, and return the error; nothing may be left on the volume."""
        try:
            frame = self.frame(path, **changes)
        except DataError as error:
            assert list((self.volume / "frames").iterdir()) == []
            return error
        raise AssertionError(f"prepared {frame.manifest}")


def _csv_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
