"""The measurement of a run's cost, with as few runs as there can be. It takes a minute: `-m chaos`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.binaries import REPOSITORY

SECONDS = 240


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS + 30)
def test_the_benchmark_measures_runs_that_end_well_beside_bare_jobs() -> None:
    options = ["--runs", "1", "--rate", "1", "--hold", "0", "--json"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "run_cost.py"), *options]
    path = ":".join(str(REPOSITORY / root) for root in ("operator", "trainer_image", "tests/support"))
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=env, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    ends = [
        line.removesuffix(" |").rpartition("| ")[2] for line in lines if "1 TRAINED" in line or "1 Complete" in line
    ]
    assert ends == ["1 Complete"] * 2 + ["1 TRAINED"] * 3, done.stdout
    figures = json.loads(lines[-1])
    assert figures.pop("p99_ms") is figures.pop("mib_5000") is None
    assert figures["silent_ratio"] > 1
    assert figures["artefact_requests"] > figures["silent_requests"] > 0
