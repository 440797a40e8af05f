"""What is read when /metrics is asked: counters that the parts keep anyway, the queue, the runs, who leads."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chorus_api import VERSION
from chorus_kube.work_queue import Stats
from chorus_net.serve import ClosedFor
from chorus_operator.messages.progress import WRITES
from chorus_operator.messages.runs import Outcome
from chorus_operator.metrics.runs import RunBook
from chorus_protocol.messages import PAYLOADS, MessageType
from chorus_protocol.refusals import Cause

Requests = Mapping[tuple[str, str, int], int]


@dataclass(frozen=True)
class Sources:
    """Where the numbers are. All are asked on one event loop; the counters may be those of other threads."""

    requests: Callable[[], Iterable[Requests]]
    """Requests to the API server of each client: by verb, resource, HTTP status (0: no answer)."""
    accepted: Callable[[], Mapping[tuple[MessageType, Outcome], int]]
    refused: Callable[[], Mapping[Cause, int]]
    closed: Callable[[], Mapping[str, Mapping[ClosedFor, int]]]
    """Connections that were closed to keep within the limits, of each server."""
    progress_writes: Callable[[], Mapping[str, int]]
    queue: Callable[[], Stats]
    leads: Callable[[], bool]
    runs: RunBook
    clock: Callable[[], float]
    """Unix time."""


def make_registry() -> CollectorRegistry:
    """Make the registry of one process, with what the system says of the process."""
    disable_created_metrics()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def collect_from(sources: Sources, *, registry: CollectorRegistry) -> None:
    """Have the sources read whenever the registry is asked."""
    registry.register(_Collector(sources))


def make_handler(registry: CollectorRegistry) -> Handler:
    """Make what answers GET /metrics, in the format that the asker prefers."""
    return make_aiohttp_handler(registry)


class _Collector(Collector):
    """A collector in the sense of prometheus_client."""

    def __init__(self, sources: Sources):
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Read everything once."""
        yield _build()
        yield GaugeMetricFamily(
            "chorus_leader", "1 where this replica holds the Lease and reconciles.", value=int(self._sources.leads())
        )
        yield from self._messages()
        yield self._requests()
        if self._sources.leads():
            yield from self._queue()
            yield from self._runs()

    def _messages(self) -> Iterable[Metric]:
        accepted = CounterMetricFamily(
            "chorus_messages_accepted",
            "Messages of pods that were acknowledged; those with nothing new are known.",
            labels=["type", "outcome"],
        )
        taken = dict(self._sources.accepted())
        for kind in PAYLOADS:
            for outcome in Outcome:
                accepted.add_metric([kind.value, outcome.value], taken.get((kind, outcome), 0))
        yield accepted
        refused = CounterMetricFamily("chorus_messages_refused", "Messages that were refused.", labels=["reason"])
        causes = dict(self._sources.refused())
        for cause in Cause:
            refused.add_metric([cause.value], causes.get(cause, 0))
        yield refused
        closed = CounterMetricFamily(
            "chorus_connections_closed",
            "Connections that were closed to keep within the limits of a server.",
            labels=["server", "reason"],
        )
        for server, counts in self._sources.closed().items():
            for reason in ClosedFor:
                closed.add_metric([server, reason.value], dict(counts).get(reason, 0))
        yield closed
        written = CounterMetricFamily(
            "chorus_progress_writes", "Writes of a run's progress to its status.", labels=["result"]
        )
        writes = dict(self._sources.progress_writes())
        for result in WRITES:
            written.add_metric([result], writes.get(result, 0))
        yield written

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "chorus_api_requests",
            "Requests to the API server, without the watches; code none: no answer came.",
            labels=["verb", "resource", "code"],
        )
        total: dict[tuple[str, str, int], int] = {}
        for sent in self._sources.requests():
            for key, count in dict(sent).items():
                total[key] = total.get(key, 0) + count
        for (verb, resource, status), count in sorted(total.items()):
            family.add_metric([verb, resource or "discovery", str(status or "none")], count)
        return family

    def _queue(self) -> Iterable[Metric]:
        stats = self._sources.queue()
        depth = GaugeMetricFamily(
            "chorus_workqueue_depth",
            "Keys in the work queue: ready for a worker, delayed until their time, running.",
            labels=["state"],
        )
        for state in ("ready", "delayed", "running"):
            depth.add_metric([state], getattr(stats, state))
        yield depth
        yield GaugeMetricFamily(
            "chorus_workqueue_oldest_key_age_seconds",
            "Seconds that the key which has waited or run longest is due; 0 when there is none.",
            value=stats.oldest_seconds,
        )

    def _runs(self) -> Iterable[Metric]:
        counts = GaugeMetricFamily("chorus_runs", "TrainingRuns that exist, by phase.", labels=["phase"])
        for phase, count in self._sources.runs.counts().items():
            counts.add_metric([phase], count)
        yield counts
        silence = GaugeMetricFamily(
            "chorus_run_longest_silence_seconds",
            "Seconds since the most silent run in a phase sent a message or changed a condition; 0 without runs.",
            labels=["phase"],
        )
        for phase, seconds in self._sources.runs.silence(now=self._sources.clock()).items():
            silence.add_metric([phase], seconds)
        yield silence


def _build() -> Metric:
    family = GaugeMetricFamily("chorus_build_info", "1; which Chorus this is.", labels=["version", "python"])
    family.add_metric([VERSION, platform.python_version()], 1)
    return family
