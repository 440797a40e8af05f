"""Write a frame's Parquet files as CSV or JSON lines: `python -m chorus_dataset.convert csv|jsonl FRAME TARGET`.

For plugins that cannot read Parquet. CSV has a header, UTF-8, and an empty field for a missing value; JSON lines leave
missing values out. `frame.json` is copied as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from chorus_api.contract import TERMINATION_LOG
from chorus_api.reasons import Reason
from chorus_api.records import TerminationRecord
from chorus_api.scratch import SCRATCH_FIELD
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.frame.write import EVAL_FILE, TRAIN_FILE
from chorus_dataset.jobs.job import run_job
from chorus_dataset.jobs.prepare import MANIFEST_FILE

BATCH_ROWS = 4096
Write = Callable[[list[dict[str, Any]]], None]


def convert(
    format: str,
    *,
    frame: Path,
    target: Path,
    most_bytes: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write `train.<format>` and `eval.<format>` into `target`, in bounded memory.

    `most_bytes`: what the files may have together; no limit when None. `check` is called for each batch of rows and may
    raise. Raises `DataError` (ScratchFull) once the files have more.
    """
    written = 0
    for name in (TRAIN_FILE, EVAL_FILE):
        path = target / Path(name).with_suffix(f".{format}")
        with pq.ParquetFile(frame / name) as table, path.open("w", encoding="utf-8", newline="") as file:
            write, size = _writer(format, file, table.schema_arrow.names), 0
            for batch in table.iter_batches(BATCH_ROWS):
                check()
                write(batch.to_pylist())
                file.flush()
                size = os.fstat(file.fileno()).st_size
                if most_bytes is not None and written + size > most_bytes:
                    raise _too_large(format, frame=frame, most_bytes=most_bytes)
            written += size
    shutil.copyfile(frame / MANIFEST_FILE, target / MANIFEST_FILE)


def _too_large(format: str, *, frame: Path, most_bytes: int) -> DataError:
    stored = sum((frame / name).stat().st_size for name in (TRAIN_FILE, EVAL_FILE))
    return DataError(
        Reason.SCRATCH_FULL,
        f"the frame has {stored:,} bytes, and when it is written as {format} more than {most_bytes:,}, which is all"
        f" that {SCRATCH_FIELD} of the Plugin allows",
        hint=f"raise {SCRATCH_FIELD} of the Plugin, or set container.frameFormat: parquet, which needs no copy",
    )


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
    """Convert one frame, and return the exit code of the container."""
    parser = argparse.ArgumentParser(prog="chorus_dataset.convert", description=__doc__)
    parser.add_argument("format", choices=["csv", "jsonl"])
    parser.add_argument("frame", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--most-bytes", type=int, help="what the files may have together (no limit when unset)")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help="(%(default)s)")
    options = parser.parse_args(arguments)
    os.umask(0o002)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def work(stop: StopFlag) -> TerminationRecord:
        convert(
            options.format, frame=options.frame, target=options.target, most_bytes=options.most_bytes, check=stop.check
        )
        return TerminationRecord(outcome="succeeded")

    return run_job(work, termination_log=options.termination_log, stop=StopFlag().install())


if __name__ == "__main__":
    sys.exit(main())
