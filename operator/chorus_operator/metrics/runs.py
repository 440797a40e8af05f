"""How many runs there are in each phase, from what the leader's watch sees: one small entry a run, no list calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chorus_api.phases import FINAL, Phase

WORKING = (Phase.PREPROCESSING, Phase.TRAINING)
UNKNOWN = "unknown"
PHASES = (Phase.QUEUED, Phase.SUSPENDED, *WORKING, *sorted(FINAL), UNKNOWN)
"""All that `phase` may be; `unknown` is a word that this version does not know."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    phase: str
    project: str


class RunBook:
    """Knows the phase of every run, and since when the working ones have been silent. Belongs to one event loop.

    Events make and remove entries. A deletion that no event told (the watch was cut off, and its place in the stream is
    forgotten by the API server) is learned when a reconcile finds nothing, or when the runs of a Project are listed.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}  # by namespace and name
        self._heard: dict[tuple[str, str], float] = {}  # the working ones: when they showed a sign last, Unix time
        self._projects: dict[tuple[str, str], set[str]] = {}  # names of the runs, by namespace and Project
        self._counts: Counter[str] = Counter()

    def seen(self, stored: Object, *, deleted: bool) -> None:
        """Take in an event of the watch."""
        metadata = stored["metadata"]
        key = (str(metadata["namespace"]), str(metadata["name"]))
        self._remove(key)
        if deleted:
            return
        status = stored.get("status", {})
        phase = status.get("phase") or Phase.QUEUED
        phase = phase if phase in PHASES else UNKNOWN
        project = str(stored.get("spec", {}).get("projectRef", {}).get("name", ""))
        self._entries[key] = _Entry(phase, project)
        self._projects.setdefault((key[0], project), set()).add(key[1])
        self._counts[phase] += 1
        if phase in WORKING:
            self._heard[key] = last_sign(stored)

    def gone(self, namespace: str, name: str) -> None:
        """Take in that a live look has found no such run."""
        self._remove((namespace, name))

    def listed(self, namespace: str, project: str, names: Collection[str]) -> None:
        """Take in the names of all runs of a Project. One that is not among them and had ended is gone.

        One that has not ended may be newer than the list; its own reconcile tells.
        """
        for name in self._projects.get((namespace, project), set()).difference(names):
            if self._entries[namespace, name].phase in FINAL:
                self._remove((namespace, name))

    def counts(self) -> dict[str, int]:
        """Count the runs in each phase; every phase is there."""
        return {phase: self._counts[phase] for phase in PHASES}

    def silence(self, *, now: float) -> dict[str, float]:
        """For each working phase, the seconds since the most silent run in it showed a sign; 0 without runs."""
        longest: dict[str, float] = dict.fromkeys(WORKING, 0.0)
        for key, heard in self._heard.items():
            phase = self._entries[key].phase
            longest[phase] = max(longest[phase], now - heard)
        return longest

    def _remove(self, key: tuple[str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._heard.pop(key, None)
        self._counts[entry.phase] -= 1
        names = self._projects[key[0], entry.project]
        names.discard(key[1])
        if not names:
            del self._projects[key[0], entry.project]


def last_sign(stored: Object) -> float:
    """When a run showed a sign last, in Unix time: its creation, a message, progress, or a change of a condition."""
    status = stored.get("status", {})
    parts = [status.get("progress"), *status.get("report", {}).values()]
    times = [part.get("time") for part in parts if isinstance(part, Mapping)]
    times += [condition.get("lastTransitionTime") for condition in status.get("conditions", ())]
    return max(unix_time(text) for text in (stored["metadata"].get("creationTimestamp"), *times))


def unix_time(text: object) -> float:
    """Read a time of an API object; 0 when it is missing or is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
