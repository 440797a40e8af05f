"""What a describe pod reports, and progress in another wire form, through the inbox."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chorus_api.contract import RUN_SERVICE_ACCOUNT
from chorus_kube.errors import Conflict
from chorus_kube.resources import PLUGINS, TRAINING_RUNS
from chorus_operator.messages.authentication import PodIdentity
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.runs import Outcome
from chorus_operator.services.tokens import ServiceTokens
from chorus_protocol.refusals import Cause, Refused
from fakes import Call, FakeKube
from message_builders import describe_pod, ended, message, plugin, training_pod, training_run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPORT = {"id": "classifier", "needed_columns": ["species"], "parameters": {"epochs": 5}}


class Env:
    """A Plugin with the pod that asks its image."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.plugin = self.kube.put(plugin())
        self.pod = self.kube.put(describe_pod(self.plugin))
        self.inbox = Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: NOW,
            seconds=lambda: 0.0,
            tokens=ServiceTokens(b"k" * 32),
        )

    @property
    def uid(self) -> str:
        return str(self.plugin["metadata"]["uid"])

    async def say(self, *, subject: str | None = None, pod: dict[str, Any] | None = None, **data: Any) -> Outcome:
        body = message("ONLINE_REPORT", subject=subject or self.uid, attempt=0, ids={}, **(data or REPORT))
        return await self.inbox.take(identity(pod or self.pod), body)

    async def refusal(self, **how: Any) -> Cause:
        with pytest.raises(Refused) as caught:
            await self.say(**how)
        return caught.value.cause

    def report(self) -> dict[str, Any] | None:
        stored = self.kube.find(PLUGINS, "soft")
        assert stored is not None
        report: dict[str, Any] | None = stored.get("status", {}).get("report")
        return report


def identity(pod: dict[str, Any]) -> PodIdentity:
    metadata = pod["metadata"]
    return PodIdentity(metadata["namespace"], metadata["name"], metadata["uid"], RUN_SERVICE_ACCOUNT)


@pytest.fixture
def place() -> Env:
    return Env()


async def test_an_online_report_is_written_into_the_plugins_status(place: Env) -> None:
    assert await place.say() is Outcome.TAKEN
    report = place.report()
    assert report is not None
    assert (report["id"], report["neededColumns"], report["parameters"]) == ("classifier", ["species"], {"epochs": 5})
    assert report["generation"] == 1


async def test_the_same_report_again_is_known(place: Env) -> None:
    await place.say()
    assert await place.say() is Outcome.KNOWN


async def test_a_report_for_another_plugin_is_refused(place: Env) -> None:
    assert await place.refusal(subject="another") is Cause.WRONG_IDS
    assert place.report() is None


async def test_a_report_about_what_a_plugin_was_is_refused(place: Env) -> None:
    place.plugin["metadata"]["generation"] = 2
    place.kube.put(place.plugin)
    assert await place.refusal() is Cause.WRONG_IDS
    assert place.report() is None


async def test_a_report_for_a_plugin_that_is_gone_is_refused(place: Env) -> None:
    place.kube.objects.pop(("Plugin", "default", "soft"))
    assert await place.refusal() is Cause.WRONG_IDS


async def test_a_training_pod_does_not_speak_for_a_plugin_nor_the_other_way_round(place: Env) -> None:
    run = place.kube.put(training_run())
    pod = place.kube.put(training_pod(run))
    assert await place.refusal(pod=pod) is Cause.WRONG_POD
    body = message("TRAINING_START", subject=place.uid, attempt=0)
    with pytest.raises(Refused) as caught:
        await place.inbox.take(identity(place.pod), body)
    assert caught.value.cause is Cause.WRONG_POD


async def test_a_report_is_written_again_over_what_came_between(place: Env) -> None:
    conflicts = [Conflict("somebody else wrote", status=409, reason="Conflict")]

    def disturb(call: Call) -> None:
        if call.verb == "apply_status" and conflicts:
            raise conflicts.pop()

    place.kube.before = disturb
    assert await place.say() is Outcome.TAKEN
    assert conflicts == []
    assert place.report() is not None


async def test_progress_in_kubeflows_form_is_written_as_the_runs_progress(place: Env) -> None:
    run = place.kube.put(training_run())
    pod = place.kube.put(training_pod(run))
    for percent in (10, 20):
        update = f'{{"trainerStatus": {{"progressPercentage": {percent}}}}}'.encode()
        assert await place.inbox.take_progress(identity(pod), update) is Outcome.TAKEN
    await place.inbox.progress.flush()
    stored = place.kube.find(TRAINING_RUNS, "home-soft-1")
    assert stored is not None
    assert (stored["status"]["progress"]["percent"], stored["status"]["progress"]["attempt"]) == (20, 1)


async def test_progress_of_a_run_that_has_ended_is_ignored(place: Env) -> None:
    run = place.kube.put(training_run(conditions=[ended()]))
    pod = place.kube.put(training_pod(run))
    assert await place.inbox.take_progress(identity(pod), b'{"trainerStatus": {}}') is Outcome.KNOWN


async def test_progress_of_a_pod_that_does_not_train_is_refused(place: Env) -> None:
    with pytest.raises(Refused) as caught:
        await place.inbox.take_progress(identity(place.pod), b'{"trainerStatus": {}}')
    assert caught.value.cause is Cause.WRONG_POD
