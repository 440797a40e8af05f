r"""Measure the CPU time of the process in a publish pod, from start to exit, for an adapter of 5 MB.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" \
        benchmarks/publish_cpu.py --beside CHECKOUT

The command, the files and the steps are those of the pod; the disk is that of this machine. Each program is measured
with the bytecode of everything, and without that of the standard library, as in the public Python image. They take
turns, so that all meet the same machine. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from publish_builders import FILES, Volume

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Program:
    """One way of publishing: whose code, and where its bytecode is."""

    title: str
    checkout: Path
    bytecode: Path

    def seconds(self, megabytes: float, *, writes_bytecode: bool = False) -> float:
        """Publish once; CPU seconds, user and system."""
        with tempfile.TemporaryDirectory() as directory:
            command = _pod_of_a_finished_run(Path(directory), megabytes)
            environment = os.environ | {
                "PYTHONPATH": f"{self.checkout}/operator:{self.checkout}/trainer_image",
                "PYTHONPYCACHEPREFIX": str(self.bytecode),
                "PYTHONDONTWRITEBYTECODE": "" if writes_bytecode else "1",
            }
            before = _children_seconds()
            ended = subprocess.run(command, env=environment, cwd="/tmp", capture_output=True, text=True, check=False)
            if ended.returncode:
                raise RuntimeError(ended.stderr)
            return _children_seconds() - before


def _pod_of_a_finished_run(directory: Path, megabytes: float) -> list[str]:
    volume = Volume(directory / "volume")
    files = FILES | {WEIGHTS: FILES[WEIGHTS] + secrets.token_bytes(int(megabytes * 1e6))}
    volume.write(f"out/{WEIGHTS}", files[WEIGHTS])
    config = volume.config(expected_digest=volume.write_sums(files))
    (directory / "job.json").write_text(config.model_dump_json(by_alias=True), encoding="utf-8")
    options = {"config": directory / "job.json", "volume": volume.root, "termination-log": directory / "log"}
    publish = [sys.executable, "-m", "chorus_dataset", "publish"]
    return [*publish, *(f"--{name}={path}" for name, path in options.items())]


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def programs(checkouts: dict[str, Path], bytecode: Path, *, megabytes: float) -> list[Program]:
    """Give each checkout with all bytecode and without that of the standard library, both written beforehand."""
    found = []
    for title, checkout in checkouts.items():
        whole = Program(title, checkout, bytecode / title / "whole")
        whole.seconds(megabytes, writes_bytecode=True)
        bare = Program(f"{title}, without bytecode of the standard library", checkout, bytecode / title / "bare")
        shutil.copytree(whole.bytecode, bare.bytecode)
        library = Path(sysconfig.get_path("stdlib")).resolve()
        shutil.rmtree(bare.bytecode / library.relative_to("/"))
        found += [bare, whole]
    return found


def main() -> None:
    """Measure, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout, to be measured in the same run")
    parser.add_argument("--times", type=int, default=15, help="how often each (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=5.0, help="size of the adapter (default: %(default)s)")
    asked = parser.parse_args()
    checkouts = ({"beside": asked.beside.resolve()} if asked.beside else {}) | {"this": REPOSITORY}
    with tempfile.TemporaryDirectory() as directory:
        found = programs(checkouts, Path(directory), megabytes=asked.megabytes)
        taken = [[program.seconds(asked.megabytes) for program in found] for _ in range(asked.times)]
    print(f"| CPU ms to publish {asked.megabytes:g} MB, {asked.times} times | least | median |\n| --- | ---: | ---: |")
    for program, seconds in zip(found, zip(*taken, strict=True), strict=True):
        print(f"| {program.title} | {1000 * min(seconds):.0f} | {1000 * statistics.median(seconds):.0f} |")


if __name__ == "__main__":
    main()
