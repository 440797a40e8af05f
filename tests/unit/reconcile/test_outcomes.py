"""The table from what is observed to what is said: each fault that was induced on real pods is a row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api import contract
from chorus_api.base import Condition
from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import TerminationRecord
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.error_line import MAX_CHARACTERS, error_line
from chorus_operator.decisions.observed import JobView, PodView, pod_view
from chorus_operator.decisions.outcome.model import Actor, Observation, Outcome
from chorus_operator.decisions.outcome.table import classify, outcome_of, rows_with

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobView(
    name="job-1",
    uid="u",
    resource_version="1",
    created=NOW,
    suspended=False,
    complete=False,
    failed=True,
    stopped=False,
    reason="PodFailurePolicy",
    message="Container plugin for pod ns/pod-1 failed with exit code 1 matching FailJob rule at index 7",
    deleting=False,
    active=0,
)


def pod(container: str = "plugin", *, status: dict[str, Any] | None = None, **changes: Any) -> PodView:
    """A pod that has failed, as the API server shows it; `changes`: of the end of its main container."""
    ended = {"exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z", **changes}
    seen = {
        "metadata": {"name": "pod-1", "uid": "p", "annotations": {contract.MAIN_CONTAINER_ANNOTATION: container}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "injected"}, {"name": container}]},
        "status": {
            "phase": "Failed",
            "containerStatuses": [
                {"name": "injected", "state": {"terminated": {"exitCode": 0}}},
                {"name": container, "state": {"terminated": ended}},
            ],
            **(status or {}),
        },
    }
    return pod_view(seen)


def said(seen: PodView, log: str | None = None) -> tuple[FailureClass, Reason, str]:
    outcome = outcome_of(JOB, seen, log)
    return outcome.failure_class, outcome.reason, outcome.message


def test_a_node_that_was_stopped_and_started_is_a_disruption() -> None:
    klass, reason, message = said(pod(exitCode=255, reason="Unknown"))
    assert (klass, reason) == (FailureClass.DISRUPTION, Reason.DISRUPTED)
    assert message == "Node node-1 was stopped or restarted while pod pod-1 ran."


def test_a_pod_over_its_own_ephemeral_storage_is_the_users_and_says_which_field_to_raise() -> None:
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. "
    klass, reason, message = said(pod(exitCode=137, status={"reason": "Evicted", "message": words}))
    assert (klass, reason) == (FailureClass.USER, Reason.SCRATCH_FULL)
    assert message == (
        f"{words}Raise spec.scratch.size of the Plugin, and its resources.limits.ephemeral-storage where it sets one. "
        "(Pod pod-1 on node node-1 was evicted.)"
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"message": "Eviction API: evicting"}, "Eviction API: evicting"),
        ({"message": "Preempted by pod x on node node-1"}, "Preempted by pod x on node node-1"),
        ({"reason": "DeletionByTaintManager"}, "DeletionByTaintManager"),
    ],
)
def test_a_disruption_says_who_did_it_with_node_and_pod(status: dict[str, str], words: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", **status}
    klass, reason, message = said(pod(exitCode=75, status={"conditions": [condition]}))
    assert (klass, reason) == (FailureClass.DISRUPTION, Reason.DISRUPTED)
    assert message == f"{words} (Pod pod-1 on node node-1 was disrupted.)"


def test_a_container_that_could_not_be_started_has_not_started_at_the_epoch() -> None:
    assert pod(exitCode=128, reason="StartError", startedAt="1970-01-01T00:00:00Z").started is None
    assert pod().started == NOW


@pytest.mark.parametrize("why", ["StartError", "ContainerCannotRun"])
def test_a_command_that_is_not_in_the_image_is_named_in_the_runtimes_words(why: str) -> None:
    words = 'exec: "/no/such/program": stat /no/such/program: no such file or directory'
    callers = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed:"
    )
    for preamble in ("", f"{callers} unable to start container process: error during container init: "):
        klass, reason, message = said(pod(exitCode=128, reason=why, message=preamble + words))
        assert (klass, reason) == (FailureClass.USER, Reason.CONTAINER_CONFIG_ERROR)
        assert message == f"The container could not be started: {words} (pod pod-1)"


TRACEBACK = """step 1
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("row 16")
ValueError: row 16

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 5, in <module>
    raise RuntimeError("row 17 has no answer")
my.module.BadRow: row 17 has no answer
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (TRACEBACK, "my.module.BadRow: row 17 has no answer"),
        (TRACEBACK + "bye\n", "my.module.BadRow: row 17 has no answer"),
        ("loading\nerror: no such file\n\n", "error: no such file"),
        ("10%\r50%\r100%\rout of luck\r\n", "out of luck"),
        ("x" * 500, "x" * (MAX_CHARACTERS - 1) + "…"),
        ("Traceback (most recent call last):\n  File\nKeyboardInterrupt\n", "KeyboardInterrupt"),
    ],
)
def test_an_error_is_the_exceptions_line_of_the_last_traceback_or_the_last_line_that_is_not_blank(
    log: str, line: str
) -> None:
    assert said(pod(), log) == (
        FailureClass.USER,
        Reason.TRAINING_FAILED,
        f"{line} (pod pod-1, exit code 1)",
    )


def test_a_program_that_leaves_no_log_is_said_to_have_ended_with_an_error() -> None:
    assert said(pod(), "")[2] == "The program ended with an error. (pod pod-1, exit code 1)"


def test_the_exit_of_the_main_container_counts_and_not_that_of_a_sidecar_that_was_stopped() -> None:
    sidecar = {"name": "messages", "started": False, "state": {"terminated": {"exitCode": 143}}}
    assert outcome_of(JOB, pod(exitCode=64, status={"initContainerStatuses": [sidecar]})).exit_code == 64


def test_an_init_container_that_failed_counts_where_the_main_container_never_ran() -> None:
    failed = {"name": "script", "state": {"terminated": {"exitCode": 65}}}
    waiting = {"name": "plugin", "state": {"waiting": {"reason": "PodInitializing"}}}
    seen = pod(status={"initContainerStatuses": [failed], "containerStatuses": [waiting]})
    assert (seen.container, outcome_of(JOB, seen).exit_code) == ("script", 65)


@pytest.mark.parametrize("code", [143, 137])
def test_a_program_that_sigterm_ended_in_a_pod_that_somebody_deleted_was_disrupted(code: int) -> None:
    deleted = replace(pod(exitCode=code), deleting_since=NOW)
    assert said(deleted) == (
        FailureClass.DISRUPTION,
        Reason.DISRUPTED,
        "Somebody deleted pod pod-1 on node node-1.",
    )
    assert said(replace(deleted, exit_code=1))[0] is FailureClass.USER
    assert said(replace(deleted, terminated_reason="OOMKilled"))[1] is Reason.OUT_OF_MEMORY


LOGGING_ERROR = """OSError: [Errno 28] No space left on device: 'out/model.bin'
--- Logging error ---
Traceback (most recent call last):
  File "/usr/lib/python3.11/logging/__init__.py", line 1114, in emit
    self.flush()
ValueError: I/O operation on closed file.
"""


def test_a_full_volume_is_told_whatever_else_the_log_ends_with() -> None:
    klass, reason, message = said(pod(), LOGGING_ERROR)
    assert (klass, reason) == (FailureClass.INFRASTRUCTURE, Reason.VOLUME_FULL)
    assert message.startswith("The volume is full: OSError: [Errno 28] No space left on device: 'out/model.bin'")


def test_a_hint_for_a_full_volume_names_the_claim_and_no_field_that_changes_nothing() -> None:
    full = TerminationRecord(outcome="failed", reason="VolumeFull", message="the volume is full", hint="x")
    seen = Observation(job=JOB, pod=replace(pod(exitCode=70), record=full), claim="home")
    outcome = classify(seen)
    assert outcome is not None
    assert (outcome.reason, outcome.hint) == (Reason.VOLUME_FULL, "Make room on claim home, or have it enlarged.")


def test_a_pod_that_the_kubelet_refused_says_so_in_its_words() -> None:
    words = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu"
    refused = pod(status={"reason": "UnexpectedAdmissionError", "message": words, "containerStatuses": []})
    klass, reason, message = said(refused)
    assert (klass, reason) == (FailureClass.INFRASTRUCTURE, Reason.POD_REJECTED)
    assert message == f"UnexpectedAdmissionError: {words} (Pod pod-1 on node node-1 was refused.)"


def test_a_pod_of_a_node_that_shuts_down_was_disrupted() -> None:
    gone = pod(status={"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."})
    assert said(replace(gone, exit_code=None))[0] is FailureClass.DISRUPTION


def test_a_hint_of_a_container_plugin_names_no_parameter_of_lora() -> None:
    assert "batchSize" not in outcome_of(JOB, pod(exitCode=137, reason="OOMKilled")).hint


CODES = st.sampled_from([None, 0, 1, 64, 65, 69, 70, 75, 128, 137, 139, 143, 255])
WORDS = st.sampled_from(["", "Error", "OOMKilled", "Unknown", "StartError", "Evicted", "NodeLost", "OutOfcpu"])
PODS = st.none() | st.builds(
    replace,
    st.just(pod()),
    exit_code=CODES,
    terminated_reason=WORDS,
    pod_reason=WORDS,
    disrupted=st.sampled_from(["", "Eviction API: evicting"]),
    pod_message=st.sampled_from(
        ["", "The node was low on resource: memory.", "Usage of EmptyDir volume 'tmp' exceeds"]
    ),
    deleting_since=st.sampled_from([None, NOW]),
    raw_message=st.text(max_size=200),
    node=st.sampled_from([None, "node-1"]),
)
JOBS = st.builds(
    replace,
    st.just(JOB),
    reason=st.sampled_from(["", "PodFailurePolicy", "DeadlineExceeded", "BackoffLimitExceeded"]),
    message=st.sampled_from(["", *(f"x matching FailJob rule at index {index}" for index in range(12))]),
)


@given(JOBS, PODS, st.none() | st.text(max_size=300))
def test_every_observation_gives_exactly_one_outcome(job: JobView, seen: PodView | None, log: str | None) -> None:
    outcome = outcome_of(job, seen, log)
    assert isinstance(outcome, Outcome)
    assert outcome.message
    assert (outcome.actor is Actor.NOBODY) >= (outcome.failure_class is FailureClass.DISRUPTION)
    observation = Observation(job=job, pod=seen, log=log)
    row = next(row for row in rows_with() if row.match(observation) is not None)
    assert row.match(observation) == outcome
    kinds = {(each.failure_class, each.reason, each.actor) for each in row.outcomes}
    assert (outcome.failure_class, outcome.reason, outcome.actor) in kinds


@given(st.text())
def test_an_error_line_is_one_line_of_bounded_length(log: str) -> None:
    line = error_line(log)
    assert len(line) <= MAX_CHARACTERS
    assert "\n" not in line


def test_a_job_past_its_deadline_says_so_while_its_pod_is_being_deleted() -> None:
    late = replace(JOB, reason="DeadlineExceeded", message="Job was active longer than specified deadline")
    outcome = outcome_of(late, replace(pod(exitCode=143), deleting_since=NOW))
    assert outcome.reason is Reason.ACTIVE_DEADLINE_EXCEEDED


def test_a_condition_that_is_set_and_set_back_in_one_decision_has_not_changed() -> None:
    before = Condition(type="PodsReady", status="False", reason="A", last_transition_time=NOW, observed_generation=1)
    conditions = Conditions([before], generation=1, now=NOW.replace(year=2027))
    conditions.set("PodsReady", True, "B")
    conditions.set("PodsReady", False, "A")
    assert conditions.all() == [before]


def test_a_container_that_ran_out_of_memory_before_its_pod_was_evicted_says_so() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "message": "Eviction API: evicting",
        "lastTransitionTime": "2026-01-01T00:01:00Z",
    }
    before, after = "2026-01-01T00:00:30Z", "2026-01-01T00:01:30Z"
    status = {"conditions": [condition]}
    assert said(pod(exitCode=137, reason="OOMKilled", finishedAt=before, status=status))[1] is Reason.OUT_OF_MEMORY
    assert said(pod(exitCode=137, reason="OOMKilled", finishedAt=after, status=status))[1] is Reason.DISRUPTED
