"""Cut the demo's sample out of the full table of smart-home requests; see README.md for what both are.

    python make_sample.py path/to/home_requests.sqlite [home_requests.sqlite]

The choice depends on the rows' ids alone, so the same table always gives the same sample.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
from pathlib import Path

ROWS = 1200
LANGUAGE = "en"
MEMBERS = ("title", "description", "category", "confidence")
COLUMNS = ("query_id", "original_query", "suggestions", "confidence", "created_at", "language")
TABLE = """
CREATE TABLE ask_ai_queries (
  query_id TEXT PRIMARY KEY,
  original_query TEXT NOT NULL,
  suggestions TEXT,
  confidence REAL,
  created_at TIMESTAMP NOT NULL,
  language TEXT
) WITHOUT ROWID
"""

Row = tuple[str, str, str | None, float | None, str, str]


def read_rows(path: Path) -> list[Row]:
    """Read the English rows, in order of their ids' hashes, as many as the sample holds."""
    with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as source:
        rows = source.execute(
            f"SELECT {', '.join(COLUMNS)} FROM ask_ai_queries WHERE language = ?",  # noqa: S608
            (LANGUAGE,),
        ).fetchall()
    rows.sort(key=lambda row: hashlib.sha256(str(row[0]).encode()).digest())
    return rows[:ROWS]


def trim(suggestions: str | None) -> str | None:
    """Keep only the members that the demo uses of each suggestion."""
    if suggestions is None:
        return None
    kept = [{name: item[name] for name in MEMBERS if name in item} for item in json.loads(suggestions)]
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def write_sample(path: Path, rows: list[Row]) -> None:
    """Write the rows into a fresh database."""
    path.unlink(missing_ok=True)
    target = sqlite3.connect(path)
    try:
        target.execute(TABLE)
        marks = ", ".join("?" for _ in COLUMNS)
        target.executemany(
            f"INSERT INTO ask_ai_queries VALUES ({marks})",  # noqa: S608
            [(row[0], row[1], trim(row[2]), *row[3:]) for row in rows],
        )
        target.commit()
        target.execute("VACUUM")
    finally:
        target.close()


def main() -> None:
    """Read the full table named on the command line and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("full", type=Path, help="the full home_requests.sqlite")
    parser.add_argument(
        "sample",
        type=Path,
        nargs="?",
        default=Path(__file__).with_name("home_requests.sqlite"),
        help="where to write the sample; beside this script when left out",
    )
    arguments = parser.parse_args()
    rows = read_rows(arguments.full)
    write_sample(arguments.sample, rows)
    print(f"{arguments.sample}: {len(rows)} rows, {arguments.sample.stat().st_size} bytes")


if __name__ == "__main__":
    main()
