"""What is kept of a Job or a pod shows as much as the object itself, whatever Kubernetes writes into it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api import contract
from chorus_api.run_config import TerminationRecord
from chorus_operator.decisions.observed import job_view, pod_view
from chorus_operator.reconcile.children import Owner, is_owned
from chorus_operator.reconcile.kept import kept_job, kept_pod

TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z", "1970-01-01T00:00:00Z"])
WORDS = st.sampled_from(
    ["", "Evicted", "Error", "OOMKilled", "PodFailurePolicy", "ImagePullBackOff", "DeadlineExceeded"]
)
MESSAGES = st.sampled_from(
    [
        "",
        "Container train for pod default/a failed with exit code 3 matching FailJob rule at index 2",
        TerminationRecord(outcome="preempted", step=7).model_dump_json(by_alias=True, exclude_none=True),
        "{broken",
    ]
)
CONTAINERS = st.sampled_from(["train", contract.MESSAGES_CONTAINER, "proxy", "prepare"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these fields, or none."""
    return st.fixed_dictionaries({}, optional=fields)


def condition(*types: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"type": st.sampled_from(types), "status": st.sampled_from(["True", "False"])},
        optional={"reason": WORDS, "message": MESSAGES, "lastTransitionTime": TIMES, "lastProbeTime": TIMES},
    )


OWNERS = st.lists(
    st.fixed_dictionaries({"kind": st.just("Job"), "name": st.just("job"), "uid": st.sampled_from(["u1", "u2"])}),
    min_size=1,
    max_size=2,
)
METADATA = st.fixed_dictionaries(
    {"name": st.just("it"), "namespace": st.just("ns"), "uid": st.just("u"), "resourceVersion": st.just("7")},
    optional={
        "creationTimestamp": TIMES,
        "deletionTimestamp": TIMES,
        "deletionGracePeriodSeconds": st.integers(0, 120),
        "generation": st.integers(1, 3),
        "managedFields": st.just([{"manager": "kubelet"}]),
        "finalizers": st.lists(st.sampled_from(["batch.kubernetes.io/job-tracking", "example.com/hold"])),
        "ownerReferences": OWNERS,
        "labels": some(**{contract.RUN_LABEL: st.just("r1"), "team": st.just("blue")}),
        "annotations": some(
            **{
                contract.MAIN_CONTAINER_ANNOTATION: CONTAINERS,
                contract.RUN_UID_ANNOTATION: st.just("run-uid"),
                contract.SUSPENDED_ANNOTATION: st.just("true"),
                contract.FROZEN_DIGEST_ANNOTATION: st.just("sha256:" + "ab" * 32),
                "example.com/much": st.just("x" * 1000),
            }
        ),
    },
)
JOBS = st.fixed_dictionaries(
    {"apiVersion": st.just("batch/v1"), "kind": st.just("Job"), "metadata": METADATA},
    optional={
        "spec": some(suspend=st.booleans(), backoffLimit=st.just(0)),
        "status": some(
            active=st.integers(0, 2),
            failed=st.integers(0, 2),
            conditions=st.lists(condition("Failed", "Complete", "FailureTarget", "Suspended"), max_size=4),
        ),
    },
)
STATE = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"waiting": some(reason=WORDS, message=MESSAGES)}),
    st.fixed_dictionaries({"running": some(startedAt=TIMES)}),
    st.fixed_dictionaries(
        {
            "terminated": st.fixed_dictionaries(
                {"exitCode": st.sampled_from([0, 1, 75, 137])},
                optional={
                    "reason": WORDS,
                    "message": MESSAGES,
                    "signal": st.integers(0, 15),
                    "startedAt": TIMES,
                    "finishedAt": TIMES,
                },
            )
        }
    ),
)
STATUSES = st.lists(
    st.fixed_dictionaries(
        {"name": CONTAINERS, "state": STATE},
        optional={"started": st.booleans(), "image": st.just("registry.test/a"), "restartCount": st.integers(0, 2)},
    ),
    max_size=3,
)
PODS = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Pod"), "metadata": METADATA},
    optional={
        "spec": some(
            nodeName=st.just("node-1"),
            containers=st.lists(st.fixed_dictionaries({"name": CONTAINERS, "image": st.just("a")}), max_size=3),
            volumes=st.just([{"name": "tmp"}]),
        ),
        "status": some(
            phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
            reason=WORDS,
            message=MESSAGES,
            podIP=st.just("10.0.0.1"),
            conditions=st.lists(condition("PodScheduled", "DisruptionTarget", "Ready"), max_size=3),
            containerStatuses=STATUSES,
            initContainerStatuses=STATUSES,
        ),
    },
)
OWNER = Owner("TrainingRun", "ns", "r1", "u1")


@settings(max_examples=300, deadline=None)
@given(JOBS)
def test_what_is_kept_of_a_job_shows_what_the_job_shows(job: dict[str, Any]) -> None:
    kept = kept_job(job)
    assert job_view(kept) == job_view(job)
    assert is_owned(kept, OWNER) == is_owned(job, OWNER)
    assert kept_job(kept) == kept, "what was kept is kept"


@settings(max_examples=300, deadline=None)
@given(PODS)
def test_what_is_kept_of_a_pod_shows_what_the_pod_shows(pod: dict[str, Any]) -> None:
    kept = kept_pod(pod)
    assert pod_view(kept) == pod_view(pod)
    assert is_owned(kept, OWNER) == is_owned(pod, OWNER)
    assert kept_pod(kept) == kept, "what was kept is kept"
    assert len(repr(kept)) < 8192
