"""Measure how long a change of one Python file in the operator takes to run in a cluster.

    make up
    "$(scripts/venv)/bin/python" benchmarks/load_latency.py --changes 3

Each change is a comment in a copy of the working tree, from which `scripts/load` builds; your files stay as they are.
The first figure also holds what was not built or pushed yet. At the end the cluster runs the last change.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FILE = "operator/chorus_operator/health.py"
SECONDS = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=3)
    parser.add_argument("--name", default="chorus", help="the cluster, as kind/cluster up was told")
    given = parser.parse_args()
    print("| change | seconds | load of the machine before |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "chorus"
        shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        load = [str(copy / "scripts" / "load"), "--name", given.name]
        for change in range(given.changes + 1):
            began, busy = time.monotonic(), os.getloadavg()[0]
            subprocess.run(load, timeout=SECONDS, check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - began
            print(f"| {change or 'none: the files as they are'} | {took:.1f} | {busy:.1f} |", flush=True)
            with (copy / FILE).open("a", encoding="utf-8") as source:
                source.write(f"# Change {change + 1} of a measurement, at {time.time_ns()}.\n")


if __name__ == "__main__":
    main()
