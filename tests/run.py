"""Run tiers of tests, make what they need beside the ones that need nothing, and end with one line of counts.

`tests/run.py unit api -- -k word`: what follows `--` goes to pytest. Exit 0 only if every tier ran and passed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KIND = str(REPOSITORY / "kind" / "cluster")
BIN = Path(sys.executable).parent
CLUSTER = "chorus-test"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chorus"
IMAGES = ("operator", "trainer", "plugin-first", "plugin-sklearn", "plugin-service")
SETUP_SECONDS = 45 * 60


@dataclass(frozen=True)
class Tier:
    """One directory of tests: the seconds it may take, what must be there first, and options of pytest."""

    name: str
    seconds: int
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


TIERS = {
    tier.name: tier
    for tier in (
        Tier("lint", 600),
        Tier("unit", 600, options=("-n", "auto")),
        Tier("trainer", 1200),
        Tier("api", 1800, ("promtool", "postgres"), options=("-n", "auto", "--dist", "loadfile")),
        Tier("cluster", 2400, ("cluster",)),
        Tier("federated", 1500, ("cluster",)),
        Tier("chart", 1800, ("cluster", "helm")),
        Tier("web", 1500, ("binaries",)),
    )
}
LINTERS: tuple[tuple[str, list[str | Path]], ...] = (
    ("ruff check", [BIN / "ruff", "check", "."]),
    ("ruff format", [BIN / "ruff", "format", "--check", "."]),
    ("mypy", [BIN / "mypy", "--cache-dir", CACHE / "mypy"]),
    ("import layers", [BIN / "lint-imports", "--no-cache"]),
)
SHELL_SCRIPTS = (
    *("kind/cluster", "kind/runc-wrap", "kind/node/entrypoint", "kind/node/net-agent"),
    *("scripts/venv", "scripts/install", "scripts/tiny-models", "examples/demo/run.sh"),
    "examples/plugins/shell/naive_bayes.sh",
)


@dataclass(frozen=True)
class Counts:
    """How the tests of a tier ended; `failed` also counts a tier that did not run to its end."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum two tiers."""
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


def say(text: str) -> None:
    """Write one line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def run(command: Sequence[str | Path], *, seconds: float, env: dict[str, str], log: Path | None = None) -> int | None:
    """Run a command in a process group of its own; its exit status, or None when its time was over."""
    out = log.open("ab") if log else None
    process = subprocess.Popen(
        [str(word) for word in command], cwd=REPOSITORY, env=env, stdout=out, stderr=out, start_new_session=True
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            stop(process)
        if out:
            out.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process group, so that fixtures clean up; kill what is left after 30 seconds."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(arguments: Sequence[str], *, log: Path, seconds: float = SETUP_SECONDS) -> str:
    """Return what `kind/cluster ARGUMENTS` prints; its progress goes to the log. Raises RuntimeError."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [KIND, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            stop(process)
            raise RuntimeError(f"kind/cluster {' '.join(arguments)} took over {seconds:.0f} s; see {log}") from None
    if process.returncode != 0:
        last = log.read_text(errors="replace").splitlines()[-15:]
        raise RuntimeError(f"kind/cluster {' '.join(arguments)} failed:\n  " + "\n  ".join(last))
    return printed.decode()


def exports(text: str) -> dict[str, str]:
    """Read the lines `export NAME=VALUE`; the shell expands them."""
    script = f"set -eu\n{text}\nenv -0"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    pairs = (line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    return {name: value for name, value in pairs if os.environ.get(name) != value and not name.startswith("_")}


@dataclass(frozen=True)
class Setup:
    """What is being made in the background: environment variables that tiers need, by need."""

    ready: dict[str, Future[dict[str, str]]]
    pools: tuple[ThreadPoolExecutor, ...]
    log: Path

    @classmethod
    def start(cls, needs: set[str], log: Path) -> Setup:
        """Begin with what is asked for; one after another, since all of it wants the same cores.

        Making images does not: most of its time one core packs a layer. So Helm is built beside it.
        """
        pool, beside = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
        ready: dict[str, Future[dict[str, str]]] = {}
        if needs:
            say(f"making in the background: {', '.join(sorted(needs))} (log: {log})")
            ready["binaries"] = pool.submit(cls._binaries, log)
        if "promtool" in needs:
            ready["promtool"] = pool.submit(cls._promtool, log)
        if "postgres" in needs:
            ready["postgres"] = pool.submit(cls._postgres, log)
        if "cluster" in needs:
            ready["nodes"] = pool.submit(cls._nodes, log)
            ready["cluster"] = pool.submit(cls._cluster, ready["nodes"], log)
        if "helm" in needs:
            ready["helm"] = beside.submit(cls._helm, ready.get("nodes"), log)
        return cls(ready, (pool, beside), log)

    @staticmethod
    def _binaries(log: Path) -> dict[str, str]:
        given = os.environ.get("CHORUS_KUBE_BIN")
        return {"CHORUS_KUBE_BIN": given or ask(["binaries"], log=log).strip()}

    @staticmethod
    def _promtool(log: Path) -> dict[str, str]:
        given = os.environ.get("CHORUS_PROMTOOL_BIN")
        return {"CHORUS_PROMTOOL_BIN": given or ask(["promtool"], log=log).strip()}

    @staticmethod
    def _postgres(log: Path) -> dict[str, str]:
        given = os.environ.get("CHORUS_POSTGRES_BIN")
        return {"CHORUS_POSTGRES_BIN": given or ask(["postgres"], log=log).strip()}

    @staticmethod
    def _helm(after: Future[dict[str, str]] | None, log: Path) -> dict[str, str]:
        if after is not None:
            after.result()
        given = os.environ.get("CHORUS_HELM_BIN")
        return {"CHORUS_HELM_BIN": given or ask(["helm"], log=log).strip()}

    @staticmethod
    def _nodes(log: Path) -> dict[str, str]:
        ask(["up", "--name", CLUSTER, "--workers", "2", "--gpus", "2", "--audit"], log=log)
        return exports(ask(["env", "--name", CLUSTER], log=log))

    @staticmethod
    def _cluster(nodes: Future[dict[str, str]], log: Path) -> dict[str, str]:
        return nodes.result() | exports(ask(["images", *IMAGES], log=log))

    def environment(self, needs: Sequence[str]) -> dict[str, str]:
        """Wait for what a tier needs. Raises RuntimeError."""
        made: dict[str, str] = {}
        for need in ("binaries", *needs) if needs else ():
            if not self.ready[need].done():
                say(f"waiting for {need}")
            try:
                made |= self.ready[need].result(timeout=SETUP_SECONDS)
            except FutureTimeoutError:
                raise RuntimeError(f"{need} was not there after {SETUP_SECONDS} s; see {self.log}") from None
        return made

    def end(self) -> None:
        """Delete the tests' cluster, unless KEEP is set or it is the user's own."""
        for pool in self.pools:
            pool.shutdown(wait=True, cancel_futures=True)
        if "nodes" in self.ready and not self.ready["nodes"].cancelled() and not os.environ.get("KEEP"):
            ask(["down", "--name", CLUSTER], log=self.log, seconds=300)


def read_counts(report: Path) -> Counts:
    """Read pytest's XML report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    total = Counts()
    for suite in suites:
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        total += Counts(number["tests"] - failed - number["skipped"], failed, number["skipped"])
    return total


def run_linters(seconds: float) -> Counts:
    """Run each linter; each counts as one test."""
    linters = list(LINTERS)
    if shellcheck := shutil.which("shellcheck"):
        linters.append(("shellcheck", [shellcheck, "-x", *SHELL_SCRIPTS]))
    total = Counts()
    for name, command in linters:
        status = run(command, seconds=seconds, env=dict(os.environ))
        say(f"{name}: {'ok' if status == 0 else 'FAILED'}")
        total += Counts(passed=1) if status == 0 else Counts(failed=1)
    return total


def run_tier(tier: Tier, *, setup: Setup, reports: Path, arguments: Sequence[str]) -> Counts:
    """Run one tier; whatever keeps it from running to its end is a failure."""
    began = time.monotonic()
    say(f"tier {tier.name}")
    if tier.name == "lint":
        return run_linters(tier.seconds)
    try:
        env = os.environ | setup.environment(tier.needs)
    except RuntimeError as error:
        say(f"tier {tier.name} did not run: {error}")
        return Counts(failed=1)
    report = reports / f"{tier.name}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *tier.options,
        f"tests/{tier.name}",
        f"--junitxml={report}",
        *arguments,
    ]
    status = run(command, seconds=tier.seconds, env=env)
    counts = read_counts(report) if report.exists() else Counts()
    took = time.monotonic() - began
    if status is None:
        say(f"tier {tier.name} took over {tier.seconds} s and was ended")
    if (status != 0 and counts.failed == 0) or counts.passed + counts.failed + counts.skipped == 0:
        counts += Counts(failed=1)
    say(f"tier {tier.name}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped in {took:.0f} s")
    return counts


def in_order(names: Sequence[str]) -> list[Tier]:
    """Return the tiers, those that wait for nothing first. Raises SystemExit for an unknown one."""
    unknown = [name for name in names if name not in TIERS]
    if unknown or not names:
        raise SystemExit(f"no tier {', '.join(unknown) or 'given'}: one or more of {', '.join(TIERS)}")
    return [tier for tier in TIERS.values() if tier.name in names]


def main(words: Sequence[str]) -> int:
    """Run the tiers that the command line names; the exit status."""
    split = words.index("--") if "--" in words else len(words)
    tiers = in_order(words[:split])
    began = time.monotonic()
    reports = Path(tempfile.mkdtemp(prefix="chorus-tests-"))
    if any("cluster" in tier.needs for tier in tiers) and subprocess.run([KIND, "check"], check=False).returncode != 0:
        return 1
    setup = Setup.start({need for tier in tiers for need in tier.needs}, reports / "setup.log")
    total = Counts()
    try:
        for tier in tiers:
            total += run_tier(tier, setup=setup, reports=reports, arguments=words[split + 1 :])
    finally:
        setup.end()
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped} in {time.monotonic() - began:.0f}s", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
