"""Requests by verb and resource: those of the operator from the audit log, those of everybody from the metrics.

And what the operator has yet to do, which are requests to come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from harness.audit_log import AuditedRequest

TOTAL = "apiserver_request_total"
DEPTH = "chorus_workqueue_depth"
LEASES = "leases"
"""Who holds them renews them, however many runs there are."""
VERBS = {"POST": "create", "PUT": "update"}
"""Verbs of the metric that the API server's authoriser names otherwise."""


def of_the_operator(requests: Iterable[AuditedRequest]) -> Counter[str]:
    """Count by verb, resource and field manager of a status, without watches, Leases and discovery."""
    counts: Counter[str] = Counter()
    for request in requests:
        if request.resource not in ("", LEASES) and request.verb != "watch":
            manager = f" ({request.manager})" if request.resource.endswith("/status") and request.manager else ""
            counts[f"{request.verb} {request.resource}{manager}"] += 1
    return counts


def of_everybody(metrics: str) -> Counter[str]:
    """Count by verb and resource what /metrics of the API server says, without watches, Leases and discovery."""
    counts: Counter[str] = Counter()
    for sample in _samples(metrics, TOTAL):
        verb, resource, part = (sample.labels.get(key, "") for key in ("verb", "resource", "subresource"))
        if resource not in ("", LEASES) and verb not in ("WATCH", "CONNECT"):
            name = "/".join(each for each in (resource, part) if each)
            counts[f"{VERBS.get(verb, verb.lower())} {name}"] += int(sample.value)
    return counts


def waiting_keys(metrics: str) -> int:
    """How many keys wait in the operator's queue for a worker, or are with one, by its /metrics."""
    return sum(int(sample.value) for sample in _samples(metrics, DEPTH) if sample.labels["state"] != "delayed")


def _samples(metrics: str, name: str) -> Iterator[Sample]:
    """Read one metric of thousands of lines."""
    lines = [line for line in metrics.splitlines() if line.startswith(f"{name}{{")]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples


def since(before: Mapping[str, int], now: Mapping[str, int]) -> Counter[str]:
    """What was added to counters that only grow."""
    return Counter({name: more for name, count in now.items() if (more := count - before.get(name, 0))})


def by_verb(counts: Mapping[str, int]) -> Counter[str]:
    """Sum the resources."""
    verbs: Counter[str] = Counter()
    for name, count in counts.items():
        verbs[name.partition(" ")[0]] += count
    return verbs


def in_words(counts: Mapping[str, float]) -> str:
    """Say the kinds of requests that messages cause, TokenReviews, reads and writes of a status, and the others."""
    kinds = {"TokenReviews": 0.0, "reads": 0.0, "status writes": 0.0, "others": 0.0}
    for name, count in counts.items():
        verb, _, resource = name.partition(" ")
        status = resource.partition(" ")[0].endswith("/status")
        kind = "status writes" if status else "reads" if verb in ("get", "list") else "others"
        kinds["TokenReviews" if resource == "tokenreviews" else kind] += count
    return ", ".join(f"{count:.1f} {kind}" for kind, count in kinds.items())
