"""From what was counted to the figures that are printed: percentiles, ratios, and one line of JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the least of the values that so many percent of them do not exceed. Raises ValueError when there is none."""
    if not values:
        raise ValueError("no values, no percentile")
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def ratio(of: float, to: float) -> float:
    """How many times the second the first is; infinite when the second is nothing."""
    return of / to if to else math.inf


@dataclass(frozen=True)
class Cost:
    """What a line of runs, or of Jobs, cost."""

    count: int
    seconds: float
    """From the first creation to the last end."""
    to_job: Sequence[float]
    """Seconds from a creation's answer to the Job's being told by a watch, of each."""
    cpu: Mapping[str, float]
    """CPU seconds by process."""
    threads: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of the operator's threads."""
    asked: Mapping[str, int] = field(default_factory=Counter)
    """Requests of the operator, by verb and resource."""
    served: Mapping[str, int] = field(default_factory=Counter)
    """Requests of everybody at the API server, by verb and resource."""
    ends: Mapping[str, int] = field(default_factory=Counter)
    """How many ended how."""

    @property
    def ms(self) -> float:
        """CPU milliseconds of all processes for each."""
        return 1000 * sum(self.cpu.values()) / self.count

    @property
    def ended_a_second(self) -> float:
        """How many ended a second."""
        return self.count / self.seconds

    def each(self, counted: Mapping[str, float]) -> dict[str, float]:
        """Divide what was counted by the number of runs."""
        return {name: value / self.count for name, value in counted.items()}

    def to_job_ms(self, percent: float) -> float:
        """Milliseconds from creation to Job: a percentile."""
        return 1000 * percentile(self.to_job, percent)


@dataclass
class Figures:
    """What `--json` tells; None: not measured."""

    bare_ms: float | None = None
    """CPU milliseconds of a bare Job, of all processes."""
    silent_ratio: float | None = None
    """CPU of a run without artefact: how many times a bare Job's."""
    silent_requests: float | None = None
    """Requests of the operator for it."""
    artefact_ratio: float | None = None
    artefact_requests: float | None = None
    p99_ms: float | None = None
    """Creation to Job at 5 a second."""
    mib_5000: float | None = None
    """Resident memory of the operator with 5,000 live runs."""

    def note_lines(self, bare: Cost, silent: Cost, artefact: Cost) -> None:
        """Take over what the lines say."""
        self.bare_ms = bare.ms
        self.silent_ratio, self.artefact_ratio = ratio(silent.ms, bare.ms), ratio(artefact.ms, bare.ms)
        self.silent_requests, self.artefact_requests = (
            sum(cost.asked.values()) / cost.count for cost in (silent, artefact)
        )

    def line(self) -> str:
        """One JSON object, rounded to hundredths."""
        rounded = {name: None if value is None else round(value, 2) for name, value in asdict(self).items()}
        return json.dumps(rounded)
