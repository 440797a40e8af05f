"""Processes that the test run starts: each in a session of its own, with a deadline, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

CLEANUP_SECONDS = 30.0
"""How long an interrupted process may take to clean up before it is killed."""


class StoppedError(RuntimeError):
    """Nothing is started any more: the run was interrupted."""


@dataclass(eq=False)
class _Process:
    """A process that leads a session, and the signal that makes it clean up and end."""

    popen: subprocess.Popen[bytes]
    interrupt: signal.Signals


@dataclass
class Processes:
    """Every process of a run that is alive. Its methods may be called from several threads."""

    directory: Path
    _alive: set[_Process] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def run(self, command: Sequence[str | Path], *, seconds: float, env: Mapping[str, str] | None = None) -> int | None:
        """Run a command; its exit status, or None when its time was over. SIGINT makes it clean up.

        Raises StoppedError.
        """
        process = self._start(command, interrupt=signal.SIGINT, env=env)
        try:
            return process.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self._end(process)

    def capture(self, command: Sequence[str | Path], *, seconds: float, log: Path | None = None) -> str:
        """Return what a command prints; its progress goes to the log, or to stderr. SIGTERM ends it.

        Raises RuntimeError with the log's last lines, StoppedError when the run was interrupted.
        """
        shown = " ".join(str(word) for word in command)
        with log.open("ab") if log else contextlib.nullcontext() as errors:
            process = self._start(command, interrupt=signal.SIGTERM, stdout=subprocess.PIPE, stderr=errors)
            try:
                printed, _ = process.popen.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{shown} took over {seconds:.0f} s; see {log or 'above'}") from None
            finally:
                self._end(process)
        if self._stopped:
            raise StoppedError(f"{shown} was interrupted")
        if process.popen.returncode != 0:
            last = log.read_text(errors="replace").splitlines()[-15:] if log else ["see above"]
            raise RuntimeError(f"{shown} failed:\n  " + "\n  ".join(last))
        return printed.decode()

    def stop_all(self) -> None:
        """Interrupt everything that runs, wait until it has ended, and start nothing more."""
        with self._lock:
            self._stopped = True
            alive = list(self._alive)
        for process in alive:
            _signal(process, process.interrupt)
        for process in alive:
            _wait_or_kill(process)

    def _start(
        self,
        command: Sequence[str | Path],
        *,
        interrupt: signal.Signals,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: IO[bytes] | None = None,
    ) -> _Process:
        with self._lock:
            if self._stopped:
                raise StoppedError("the run was interrupted")
            popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.directory,
                env=os.environ if env is None else env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            process = _Process(popen, interrupt)
            self._alive.add(process)
        return process

    def _end(self, process: _Process) -> None:
        if process.popen.poll() is None:
            _signal(process, process.interrupt)
            _wait_or_kill(process)
        with self._lock:
            self._alive.discard(process)


def _signal(process: _Process, number: signal.Signals) -> None:
    """Signal every process of a session: `timeout` and a shell's jobs have process groups of their own."""
    for pid in _members(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _members(process: _Process) -> set[int]:
    """The leader, unless it has ended: its pid may be another's by now. And the others, where there is /proc."""
    session = process.popen.pid
    members = {session} if process.popen.poll() is None else set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == session:
                members.add(int(entry.name))
    return members


def _wait_or_kill(process: _Process) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.popen.wait(timeout=CLEANUP_SECONDS)
    _signal(process, signal.SIGKILL)
    process.popen.wait()
