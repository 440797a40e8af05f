"""Write a frame's Parquet files as CSV or JSON lines: `python -m chorus_dataset.convert csv|jsonl FRAME TARGET`.

For plugins that cannot read Parquet. CSV has a header, UTF-8, and an empty field for a missing value; JSON lines leave
missing values out. `frame.json` is copied as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from chorus_dataset.frame import EVAL_FILE, TRAIN_FILE
from chorus_dataset.prepare import MANIFEST_FILE

BATCH_ROWS = 4096
Write = Callable[[list[dict[str, Any]]], None]


def convert(format: str, *, frame: Path, target: Path) -> None:
    """Write `train.<format>` and `eval.<format>` into `target`, in bounded memory."""
    for name in (TRAIN_FILE, EVAL_FILE):
        path = target / Path(name).with_suffix(f".{format}")
        with pq.ParquetFile(frame / name) as table, path.open("w", encoding="utf-8", newline="") as file:
            write = _writer(format, file, table.schema_arrow.names)
            for batch in table.iter_batches(BATCH_ROWS):
                write(batch.to_pylist())
    shutil.copyfile(frame / MANIFEST_FILE, target / MANIFEST_FILE)


def _writer(format: str, file: TextIO, columns: Sequence[str]) -> Write:
    if format == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        return lambda rows: writer.writerows([[_text(row[name]) for name in columns] for row in rows])

    def lines(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            there = {name: _plain(value) for name, value in row.items() if value is not None}
            file.write(json.dumps(there, ensure_ascii=False) + "\n")

    return lines


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _plain(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one frame."""
    parser = argparse.ArgumentParser(prog="chorus_dataset.convert", description=__doc__)
    parser.add_argument("format", choices=["csv", "jsonl"])
    parser.add_argument("frame", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    os.umask(0o002)
    convert(options.format, frame=options.frame, target=options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
