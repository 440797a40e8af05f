"""Requests by verb and resource, from an audit log and from the API server's metrics."""

from __future__ import annotations

import json
from pathlib import Path

from cost.requests import by_verb, in_words, of_everybody, of_the_operator, since, waiting_keys
from harness.audit_log import AuditedRequest, AuditLog

METRICS = """\
# HELP apiserver_request_total [STABLE] Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="",resource="pods",subresource="status",verb="PATCH",version="v1"} 4
apiserver_request_total{code="404",group="",resource="pods",subresource="status",verb="PATCH",version="v1"} 1
apiserver_request_total{code="201",group="batch",resource="jobs",subresource="",verb="POST",version="v1"} 2
apiserver_request_total{code="200",group="batch",resource="jobs",subresource="status",verb="PUT",version="v1"} 6
apiserver_request_total{code="200",group="batch",resource="jobs",subresource="",verb="WATCH",version="v1"} 9
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",subresource="",verb="PUT"} 50
apiserver_request_total{code="200",group="",resource="",subresource="/readyz",verb="GET",version=""} 3
apiserver_response_sizes_count{resource="pods",verb="GET"} 7
"""


def audited(
    verb: str, resource: str, *, part: str = "", stage: str = "ResponseComplete", query: str = "", status: int = 200
) -> str:
    """A line of an audit log at the level Metadata."""
    about = {"resource": resource} | ({"subresource": part} if part else {})
    uri = f"/apis/any/{resource}?{query}"
    event = {"stage": stage, "verb": verb, "requestURI": uri, "responseStatus": {"code": status}}
    return json.dumps(event | ({"objectRef": about} if resource else {})) + "\n"


def read(tmp_path: Path, *lines: str) -> list[AuditedRequest]:
    path = tmp_path / "audit.log"
    path.write_text("".join(lines))
    return AuditLog(path).new()


def test_requests_are_counted_by_verb_resource_and_the_manager_of_a_status(tmp_path: Path) -> None:
    requests = read(
        tmp_path,
        audited("patch", "trainingruns", part="status", query="fieldManager=chorus-report"),
        audited("patch", "trainingruns", part="status", query="fieldManager=chorus-report", status=409),
        audited("create", "jobs", query="fieldManager=chorus"),
        audited("create", "tokenreviews"),
    )
    assert of_the_operator(requests) == {
        "patch trainingruns/status (chorus-report)": 2,
        "create jobs": 1,
        "create tokenreviews": 1,
    }


def test_watches_leases_and_discovery_are_no_work_for_a_run(tmp_path: Path) -> None:
    requests = read(tmp_path, audited("watch", "pods"), audited("update", "leases"), audited("get", ""))
    assert of_the_operator(requests) == {}


def test_a_request_that_is_logged_twice_counts_once(tmp_path: Path) -> None:
    assert len(read(tmp_path, audited("get", "pods", stage="ResponseStarted"), audited("get", "pods"))) == 1


def test_a_log_that_grows_is_read_on_from_its_last_whole_line(tmp_path: Path) -> None:
    path, line = tmp_path / "audit.log", audited("get", "jobs")
    log = AuditLog(path)
    assert log.new() == []
    path.write_text(line + line[:20])
    assert len(log.new()) == 1
    path.write_text(line + line)
    assert len(log.new()) == 1
    assert log.new() == []


def test_the_metrics_count_everybodys_requests_with_the_names_of_the_audit_log() -> None:
    assert of_everybody(METRICS) == {"patch pods/status": 5, "create jobs": 2, "update jobs/status": 6}


def test_counters_are_compared_with_what_they_were() -> None:
    assert since({"get jobs": 2, "get pods": 4}, {"get jobs": 5, "get pods": 4, "create jobs": 1}) == {
        "get jobs": 3,
        "create jobs": 1,
    }


def test_requests_are_summed_by_verb() -> None:
    assert by_verb({"get jobs": 3, "get pods": 4, "patch pods/status": 1}) == {"get": 7, "patch": 1}


def test_requests_of_a_run_that_speaks_are_told_by_kind() -> None:
    counts = {"create tokenreviews": 1.0, "get jobs": 2.0, "patch runs/status (chorus)": 3.5, "create events": 2.0}
    assert in_words(counts) == "1.0 TokenReviews, 2.0 reads, 3.5 status writes, 2.0 others"


def test_keys_that_are_delayed_do_not_wait() -> None:
    metrics = "".join(
        f'chorus_workqueue_depth{{state="{state}"}} {count}.0\n'
        for state, count in (("ready", 3), ("delayed", 500), ("running", 1))
    )
    assert waiting_keys("chorus_leader 1.0\n" + metrics) == 4
    assert waiting_keys("chorus_leader 1.0\n") == 0
