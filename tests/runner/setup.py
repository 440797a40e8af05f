"""What tiers need, made in the background: programs, the cluster, images."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

from runner.processes import Processes
from runner.report import say

CLUSTER = "chorus-test"
IMAGES = ("operator", "trainer", "plugin-first", "plugin-sklearn", "plugin-service")
SETUP_SECONDS = 45 * 60
PROGRAMS = {
    "binaries": "CHORUS_KUBE_BIN",
    "promtool": "CHORUS_PROMTOOL_BIN",
    "postgres": "CHORUS_POSTGRES_BIN",
    "helm": "CHORUS_HELM_BIN",
}
"""Verbs of kind/cluster that print a directory, and the variable that names it; one that is set is taken as it is."""

Environment = dict[str, str]


@dataclass(frozen=True)
class Kind:
    """The command `kind/cluster`."""

    command: Path
    processes: Processes
    log: Path

    def ask(self, *words: str, seconds: float = SETUP_SECONDS) -> str:
        """Return what it prints. Raises RuntimeError."""
        return self.processes.capture([self.command, *words], seconds=seconds, log=self.log)

    def program(self, verb: str) -> Environment:
        """Make programs, or take those of the environment."""
        variable = PROGRAMS[verb]
        return {variable: os.environ.get(variable) or self.ask(verb).strip()}

    def nodes(self) -> Environment:
        """Make the cluster, or take the one that is there."""
        self.ask("up", "--name", CLUSTER, "--workers", "2", "--gpus", "2", "--audit")
        return exports(self.ask("env", "--name", CLUSTER))

    def images(self) -> Environment:
        """Build the images and push them to the cluster's registry."""
        return exports(self.ask("images", *IMAGES))


class Setup:
    """What is being made: environment variables that tiers need, by need."""

    def __init__(self, kind: Kind, needs: set[str]):
        """Begin with what is asked for; one after another, since all of it wants the same cores.

        Making images does not: most of its time is spent on the network and the disk. So it goes on beside the rest.
        """
        self._kind = kind
        self._ready: dict[str, Future[Environment]] = {}
        if not needs:
            return
        say(f"making in the background: {', '.join(sorted(needs))} (log: {kind.log})")
        pool, beside = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
        for verb in ("binaries", "promtool", "postgres"):
            if verb in {"binaries", *needs}:
                self._ready[verb] = pool.submit(kind.program, verb)
        if "cluster" in needs:
            nodes, images = pool.submit(kind.nodes), beside.submit(kind.images)
            self._ready["nodes"] = nodes
            self._ready["cluster"] = beside.submit(lambda: nodes.result() | images.result())
        if "helm" in needs:
            self._ready["helm"] = pool.submit(kind.program, "helm")
        for executor in (pool, beside):
            executor.shutdown(wait=False)

    def environment(self, needs: Sequence[str]) -> tuple[Environment, float]:
        """Wait for what a tier needs; give it, and the seconds that it was waited for. Raises RuntimeError."""
        began = time.monotonic()
        made: Environment = {}
        for need in ("binaries", *needs) if needs else ():
            if not self._ready[need].done():
                say(f"waiting for {need}")
            try:
                made |= self._ready[need].result(timeout=SETUP_SECONDS)
            except FutureTimeoutError:
                raise RuntimeError(f"{need} was not there after {SETUP_SECONDS} s; see {self._kind.log}") from None
        return made, time.monotonic() - began

    @property
    def made_cluster(self) -> bool:
        """Whether making the cluster has begun."""
        nodes = self._ready.get("nodes")
        return nodes is not None and not nodes.cancelled()

    def cancel(self) -> None:
        """Begin nothing more."""
        for future in self._ready.values():
            future.cancel()


def exports(text: str) -> Environment:
    """Read the lines `export NAME=VALUE`; the shell expands them."""
    script = f"set -eu\n{text}\nenv -0"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    pairs = (line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    return {name: value for name, value in pairs if os.environ.get(name) != value and not name.startswith("_")}
