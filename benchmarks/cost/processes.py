"""CPU and memory of processes, as /proc tells them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    return _cpu(Path(f"/proc/{pid}/stat").read_text())


def thread_seconds(pid: int) -> dict[str, float]:
    """CPU time so far of the threads that a process has, by name without a number: those of a pool together."""
    seconds: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            name = (task / "comm").read_text().strip().rstrip("_0123456789")
            seconds[name] = seconds.get(name, 0.0) + _cpu((task / "stat").read_text())
    return seconds


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu(stat: str) -> float:
    values = stat.rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS
