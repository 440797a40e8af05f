"""Measure what preparing a large table costs: peak memory, seconds, and bytes on the volume.

    python benchmarks/prepare_memory.py --megabytes 1000 --format csv --limit 300

Exits 1 if the peak memory is above the limit. The rows are made by a formula and have a question and a JSON list
of suggestions of about 400 characters.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.run_config import PrepareConfig

COLUMNS = ("id", "question", "suggestions", "confidence", "created_at")
Row = tuple[int, str, str, float, str]


def rows(characters: int) -> Iterator[Row]:
    """Make rows without end, with questions of at least so many characters."""
    number = 0
    while True:
        number += 1
        words = hashlib.sha256(str(number).encode()).hexdigest()
        question = f"request {number}: {words} " * (1 + characters // 80)
        suggestions = [{"description": f"{words[i:]} " * 2, "confidence": 1 / (i + number % 7 + 1)} for i in range(2)]
        yield number, question, json.dumps(suggestions), (number % 1000) / 1000, f"2026-01-01 {number % 24:02}:00:00"


def rows_of_size(size: int, characters: int) -> Iterator[Row]:
    """Make rows until their text has about `size` bytes."""
    written = 0
    for row in rows(characters):
        yield row
        written += len(row[1]) + len(row[2]) + 40
        if written >= size:
            return


def write(path: Path, kind: str, size: int, *, characters: int) -> None:
    """Write a table of about `size` bytes."""
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows_of_size(size, characters))
    elif kind == "jsonl":
        with path.open("w") as file:
            file.writelines(
                json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows_of_size(size, characters)
            )
    elif kind == "sqlite":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE asked (id INTEGER, question, suggestions, confidence REAL, created_at)")
            database.executemany("INSERT INTO asked VALUES (?, ?, ?, ?, ?)", rows_of_size(size, characters))
    else:
        _write_parquet(path, size, characters)


def _write_parquet(path: Path, size: int, characters: int) -> None:
    """Write row groups of a million rows, the default of many tools and the hardest case."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    schema = schema.set(0, pa.field("id", pa.int64())).set(3, pa.field("confidence", pa.float64()))
    columns: list[list[object]] = [[] for _ in COLUMNS]
    with pq.ParquetWriter(path, schema) as writer:
        for row in rows_of_size(size, characters):
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            if len(columns[0]) == 1_000_000:
                writer.write_table(pa.table(columns, schema=schema))
                columns = [[] for _ in COLUMNS]
        if columns[0]:
            writer.write_table(pa.table(columns, schema=schema))


def prepare(source: Path, kind: str, volume: Path) -> dict[str, float]:
    """Prepare in a process of its own; return its peak memory and seconds."""
    config = PrepareConfig.model_validate(
        {
            "project": "bench",
            "project_id": 1,
            "project_uid": "uid",
            "prepare_key": "key",
            "source_path": str(source),
            "source_name": source.name,
            "format": kind,
            "query": "SELECT * FROM asked ORDER BY created_at DESC, id" if kind == "sqlite" else None,
            "query_seconds": 3600,
            "max_rows": None,
            "fields": {
                "prompt": {"column": "question"},
                "response": {"column": "suggestions", "best": {"by": "confidence", "take": "description"}},
            },
            "eval_fraction": "0.05",
            "messaging": {"url": "", "token_file": "", "ca_file": "", "subject_uid": "", "source": ""},
        }
    )
    # VmHWM and not getrusage: what that says of a child includes the memory of the process that started it.
    code = (
        "import sys; from pathlib import Path; from chorus_api.run_config import PrepareConfig;"
        "from chorus_dataset.jobs.prepare import prepare_frame;"
        "prepare_frame(PrepareConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]));"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, config.model_dump_json(), str(volume)], check=True, stdout=subprocess.PIPE
    )
    return {"peak_mib": int(done.stdout) / 1024, "seconds": time.monotonic() - started}


def main() -> int:
    """Make a table, prepare it, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--format", choices=["csv", "jsonl", "parquet", "sqlite"], default="csv")
    parser.add_argument("--characters", type=int, default=150, help="length of a question (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=300, help="peak memory allowed, in MiB (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=None, help="where the files are made (a temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        source = Path(name) / f"rows.{options.format}"
        write(source, options.format, options.megabytes * 1_000_000, characters=options.characters)
        size = source.stat().st_size
        figures = prepare(source, options.format, Path(name) / "volume")
        frames = sum(file.stat().st_size for file in Path(name, "volume").rglob("*.parquet"))
        left = shutil.disk_usage(name).free
    print(
        json.dumps(
            {
                "format": options.format,
                "source_mb": size // 1_000_000,
                "frame_mb": frames // 1_000_000,
                "free_mb": left // 1_000_000,
                **{key: round(value, 1) for key, value in figures.items()},
            }
        )
    )
    return 0 if figures["peak_mib"] <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
