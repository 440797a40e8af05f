"""Requests by verb and resource: those of the operator from the audit log, those of everybody from the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from harness.audit_log import AuditedRequest

TOTAL = "apiserver_request_total"
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
    lines = [line for line in metrics.splitlines() if line.startswith(TOTAL)]
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            verb, resource, part = (sample.labels.get(key, "") for key in ("verb", "resource", "subresource"))
            if resource not in ("", LEASES) and verb not in ("WATCH", "CONNECT"):
                name = "/".join(each for each in (resource, part) if each)
                counts[f"{VERBS.get(verb, verb.lower())} {name}"] += int(sample.value)
    return counts


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
