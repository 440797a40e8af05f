"""What /metrics answers: names and labels as Prometheus wants them, closed sets of words, and quickly."""

from __future__ import annotations

import re
import time
import tomllib
from collections import Counter

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chorus_api import VERSION
from chorus_kube.work_queue import Stats
from chorus_net.serve import ClosedFor
from chorus_operator.health import Health
from chorus_operator.messages.runs import Outcome
from chorus_operator.metrics.collector import Sources, collect_from, make_handler, make_registry
from chorus_operator.metrics.recorder import Recorder
from chorus_operator.metrics.runs import PHASES, RunBook
from chorus_protocol.messages import PAYLOADS, MessageType
from chorus_protocol.refusals import Cause
from docs_text import REPOSITORY, codes, rows
from message_builders import training_run

NOW = 1_800_000_000.0
ALLOWED_LABELS = {
    *("actor", "class", "code", "kind", "outcome", "phase", "python"),
    *("reason", "resource", "result", "server", "state", "type", "verb", "version", "le"),
}


class Process:
    """The parts that are read, as a test wants them."""

    def __init__(self, *, leads: bool = True) -> None:
        self.leads = leads
        self.runs = RunBook()
        self.requests = [Counter({("get", "jobs", 200): 3}), Counter({("get", "jobs", 200): 4, ("get", "pods", 0): 1})]
        self.taken = Counter({(MessageType.PROGRESS, Outcome.TAKEN): 7})
        self.refused = Counter({Cause.WRONG_POD: 2})
        self.registry = make_registry()
        self.recorder = Recorder(self.registry, runs=self.runs, clock=lambda: NOW)
        sources = Sources(
            requests=lambda: self.requests,
            accepted=lambda: self.taken,
            refused=lambda: self.refused,
            closed=lambda: {"messages": {ClosedFor.LATE: 4}, "health": {}},
            progress_writes=lambda: {"written": 5},
            queue=lambda: Stats(ready=1, delayed=2, running=3, oldest_seconds=4.5),
            leads=lambda: self.leads,
            runs=self.runs,
            clock=lambda: NOW,
        )
        collect_from(sources, registry=self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def own_families(registry: CollectorRegistry) -> dict[str, tuple[str, set[str]]]:
    """Name as it is queried (counters with _total), type, and labels of every metric of Chorus."""
    found = {}
    for family in registry.collect():
        if family.name.startswith("chorus_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    return found


def test_what_the_parts_keep_is_shown() -> None:
    shown = Process()
    assert shown("chorus_api_requests_total", verb="get", resource="jobs", code="200") == 7
    assert shown("chorus_api_requests_total", verb="get", resource="pods", code="none") == 1
    assert shown("chorus_messages_accepted_total", type="progress", outcome="taken") == 7
    assert shown("chorus_connections_closed_total", server="messages", reason="late") == 4
    assert shown("chorus_connections_closed_total", server="health", reason="full") == 0
    assert shown("chorus_messages_refused_total", reason="wrongPod") == 2
    assert shown("chorus_progress_writes_total", result="written") == 5
    assert [shown("chorus_workqueue_depth", state=state) for state in ("ready", "delayed", "running")] == [1, 2, 3]
    assert shown("chorus_workqueue_oldest_key_age_seconds") == 4.5
    assert shown("chorus_leader") == 1


def test_who_does_not_lead_says_so_and_nothing_of_runs_and_queue() -> None:
    shown = Process(leads=False)
    assert shown("chorus_leader") == 0
    names = own_families(shown.registry)
    assert not {"chorus_runs", "chorus_workqueue_depth", "chorus_run_longest_silence_seconds"} & names.keys()


def test_every_type_and_every_reason_is_there_before_the_first_message() -> None:
    shown = Process()
    for kind in PAYLOADS:
        assert shown("chorus_messages_accepted_total", type=kind.value, outcome="known") == 0
    for cause in Cause:
        assert shown("chorus_messages_refused_total", reason=cause.value) is not None


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    for name, (kind, _) in own_families(Process().registry).items():
        assert re.fullmatch(r"chorus_[a-z]+(_[a-z]+)*", name), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent|count)\b", name), name


def test_labels_are_closed_sets_of_words() -> None:
    shown = Process()
    for number in range(300):
        shown.runs.seen(training_run(f"run-{number}", project=f"p-{number}", phase=PHASES[number % 8]), deleted=False)
    before = len(generate_latest(shown.registry).splitlines())
    for _, labels in own_families(shown.registry).values():
        assert labels <= ALLOWED_LABELS
    text = generate_latest(shown.registry).decode()
    assert "run-1" not in text
    assert "p-1" not in text
    for number in range(300, 900):
        shown.runs.seen(training_run(f"run-{number}", project=f"p-{number}", phase=PHASES[number % 8]), deleted=False)
    assert len(generate_latest(shown.registry).splitlines()) == before


def test_the_page_on_monitoring_lists_every_metric_with_its_type_and_labels() -> None:
    table = rows(REPOSITORY / "docs" / "monitoring.md", heading="metric", columns=4)
    listed = {codes(row[0])[0]: (row[1], set(codes(row[2]))) for row in table}
    assert listed == own_families(Process().registry)


def test_the_version_is_that_of_the_distribution() -> None:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert document["project"]["version"] == VERSION
    labels = next(f.samples[0].labels for f in Process().registry.collect() if f.name == "chorus_build_info")
    assert labels["version"] == VERSION


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_a_scraper_gets_the_format_that_it_asks_for(accept: str) -> None:
    health = Health(
        beats={}, is_ready=lambda: True, metrics=make_handler(Process().registry), port=0, address="127.0.0.1"
    )
    await health.start()
    try:
        url = f"http://127.0.0.1:{health.port}/metrics"
        async with aiohttp.request("GET", url, headers={"Accept": accept}) as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, accept.partition(";")[0])
    finally:
        await health.stop()
    assert text.endswith("# EOF\n") == accept.startswith("application/openmetrics")
    if accept == "text/plain":
        assert "chorus_runs" in {family.name for family in text_string_to_metric_families(text)}
    assert "_created" not in text


def test_a_scrape_with_two_thousand_runs_takes_less_than_fifty_milliseconds() -> None:
    shown = Process()
    time_of = "2026-01-01T00:00:00Z"
    for number in range(2000):
        run = training_run(f"run-{number}", phase=PHASES[number % 4], progress={"time": time_of})
        shown.runs.seen(run, deleted=False)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        generate_latest(shown.registry)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05, took
