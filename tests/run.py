"""Run tiers of tests, make what they need beside the ones that need nothing, and end with one line of counts.

`tests/run.py unit api -- -k word`: what follows `--` goes to pytest. `tests/run.py chaos` runs the tests marked `chaos`
of every tier that has some, `tests/run.py chaos unit` those of one; each tier has more time for them. Exit 0 only if
every tier ran and passed; 130 after Ctrl-C and SIGTERM, when what it had started has been taken down, unless KEEP is
set.

Runs on the machine's own Python 3.11 or newer and needs no package, so that programs and the cluster are being made
before the virtual environment is there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.processes import Processes
from runner.report import read_counts, say
from runner.setup import CLUSTER, Kind, Setup
from runner.tiers import Counts, Result, Tier, asked_for, line_of, table_of

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chorus"
DOWN_SECONDS = 300
VENV_SECONDS = 45 * 60
SOURCES = {"PYTHONPATH": "operator:trainer_image"}
INTERRUPTED = 130

LINTERS: tuple[tuple[str, tuple[str | Path, ...]], ...] = (
    ("ruff check", ("ruff", "check", ".")),
    ("ruff format", ("ruff", "format", "--check", ".")),
    ("mypy", ("mypy", "--cache-dir", CACHE / "mypy")),
    ("import layers", ("lint-imports", "--no-cache")),
)
SHELL_SCRIPTS = (
    *("kind/cluster", "kind/runc-wrap", "kind/node/entrypoint", "kind/node/net-agent"),
    *("scripts/venv", "scripts/install", "scripts/load", "scripts/tiny-models", "examples/demo/run.sh"),
    "trainer_image/layers/install",
    "examples/plugins/shell/naive_bayes.sh",
)


@dataclass(frozen=True)
class TestRun:
    """One call of the command: where it reports, and what is passed to pytest."""

    processes: Processes
    setup: Setup
    programs: Path
    """The virtual environment's, Python among them."""
    reports: Path
    arguments: Sequence[str]

    def tier(self, tier: Tier) -> Result:
        """Run one tier; whatever keeps it from running to its end is a failure."""
        say(f"tier {tier.name}")
        try:
            made, waited = self.setup.environment(tier.needs)
        except RuntimeError as error:
            say(f"tier {tier.name} did not run: {error}")
            return Result(tier, Counts(failed=1), seconds=0.0)
        began = time.monotonic()
        counts = self._lint(tier) if tier.name == "lint" else self._pytest(tier, os.environ | SOURCES | made)
        result = Result(tier, counts, seconds=time.monotonic() - began, waited=waited)
        say(line_of(result))
        return result

    def _lint(self, tier: Tier) -> Counts:
        """Run each linter; each counts as one test."""
        linters = [(name, [self.programs / program, *words]) for name, (program, *words) in LINTERS]
        if shellcheck := shutil.which("shellcheck"):
            linters.append(("shellcheck", [shellcheck, "-x", *SHELL_SCRIPTS]))
        total = Counts()
        for name, command in linters:
            status = self.processes.run(command, seconds=tier.deadline, env=os.environ | SOURCES)
            say(f"{name}: {'ok' if status == 0 else 'FAILED'}")
            total += Counts(passed=1) if status == 0 else Counts(failed=1)
        return total

    def _pytest(self, tier: Tier, env: dict[str, str]) -> Counts:
        report = self.reports / f"{tier.name}.xml"
        command = [self.programs / "python", "-m", "pytest", "-q", *tier.options, tier.path, f"--junitxml={report}"]
        status = self.processes.run([*command, *self.arguments], seconds=tier.deadline, env=env)
        counts = read_counts(report) if report.exists() else Counts()
        if status is None:
            say(f"tier {tier.name} took over {tier.deadline} s and was ended")
        if (status != 0 and counts.failed == 0) or counts.passed + counts.failed + counts.skipped == 0:
            counts += Counts(failed=1)
        return counts


def take_down(kind: Kind, setup: Setup, *, kept: bool) -> None:
    """Delete the tests' cluster, which `kind/cluster down` leaves alone where it is the user's own."""
    if not setup.made_cluster:
        return
    if kept:
        say(f"kept: the cluster {CLUSTER}; remove it with: kind/cluster down --name {CLUSTER}")
        return
    say(f"taking down the cluster {CLUSTER} (KEEP=1 keeps it)")
    try:
        kind.ask("down", "--name", CLUSTER, seconds=DOWN_SECONDS)
    except RuntimeError as error:
        say(f"the cluster {CLUSTER} may still be there: {error}")


def virtual_environment(processes: Processes) -> Path:
    """Make it where it is not there yet, and give the directory of its programs. Raises RuntimeError."""
    return Path(processes.capture([REPOSITORY / "scripts" / "venv"], seconds=VENV_SECONDS).strip()) / "bin"


def main(words: Sequence[str], *, kind_command: Path = REPOSITORY / "kind" / "cluster") -> int:
    """Run the tiers that the command line names; the exit status."""
    split = words.index("--") if "--" in words else len(words)
    tiers = asked_for(words[:split])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    reports = Path(tempfile.mkdtemp(prefix="chorus-tests-"))
    needs = {need for tier in tiers for need in tier.needs}
    if "cluster" in needs and subprocess.run([kind_command, "check"], check=False).returncode != 0:
        return 1
    log, kept = reports / "setup.log", bool(os.environ.get("KEEP"))
    processes = Processes(REPOSITORY)
    setup = Setup(Kind(kind_command, processes, log), needs)
    results: list[Result] = []
    status = 0
    try:
        run = TestRun(processes, setup, virtual_environment(processes), reports, words[split + 1 :])
        results.extend(run.tier(tier) for tier in tiers)
    except KeyboardInterrupt:
        status = INTERRUPTED
        say("interrupted: ending what was started")
    except RuntimeError as error:
        status = 1
        say(f"no tier ran: {error}")
    finally:
        setup.cancel()
        processes.stop_all()
        take_down(Kind(kind_command, Processes(REPOSITORY), log), setup, kept=kept)
    if status == INTERRUPTED:
        print(f"interrupted after {time.monotonic() - began:.0f}s", flush=True)
    return status or report(results, seconds=time.monotonic() - began)


def report(results: Sequence[Result], *, seconds: float) -> int:
    """Print each tier's time beside its share, and the counts as pytest does; the exit status."""
    print("\n".join(table_of(results)))
    total = sum((result.counts for result in results), Counts())
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped} in {seconds:.0f}s", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
