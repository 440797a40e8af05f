"""What services may say with the tokens that they were given, and what an exchange may."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import make_service_plugin
from chorus_api.contract import AUDIENCE, ROLE_LABEL, SERVICE_SPEAKER
from chorus_kube.resources import PLUGINS, TRAINING_RUNS
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.runs import Outcome
from chorus_operator.services.tokens import PluginGrant, RunGrant, ServiceTokens
from chorus_protocol.refusals import Cause, Refused
from fakes import FakeKube
from message_builders import PLUGIN_ID, PROJECT_ID, ended, message, training_pod, training_run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = ServiceTokens(b"k" * 32)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n"


@dataclass
class Env:
    """A service's run at its second attempt, its exchange, and the inbox."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.run = self.kube.put(training_run(attempt=2))
        self.inbox = self.receiver()

    def receiver(self, **how: Any) -> Inbox:
        return Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: NOW + timedelta(seconds=self.seconds),
            seconds=lambda: self.seconds,
            tokens=TOKENS,
            **how,
        )

    @property
    def run_uid(self) -> str:
        return str(self.run["metadata"]["uid"])

    def token(self, **changes: Any) -> str:
        grant = RunGrant(
            namespace="default",
            name="home-soft-1",
            uid=self.run_uid,
            attempt=2,
            project_id=PROJECT_ID,
            plugin_id=PLUGIN_ID,
        )
        return TOKENS.issue(grant.model_copy(update=changes), expires=NOW + timedelta(hours=1))

    async def send(self, body: bytes, *, token: str, inbox: Inbox | None = None) -> Outcome:
        inbox = inbox or self.inbox
        return await inbox.take(await inbox.identify(f"Bearer {token}"), body)

    async def say(self, kind: str, *, token: str | None = None, attempt: int = 2, **data: Any) -> Outcome:
        body = message(kind, subject=self.run_uid, attempt=attempt, **data)
        return await self.send(body, token=token or self.token())

    async def refusal(self, kind: str, **data: Any) -> Cause:
        before = self.status()
        with pytest.raises(Refused) as caught:
            await self.say(kind, **data)
        assert self.status() == before
        return caught.value.cause

    def exchange(self, *, name: str = "pod-1", token: str = "exchange") -> str:
        pod = training_pod(self.run, name=name, attempt=2)
        pod["metadata"]["labels"][ROLE_LABEL] = "exchange"
        stored = self.kube.put(pod)
        self.kube.tokens[token] = {
            "authenticated": True,
            "audiences": [AUDIENCE],
            "user": {
                "username": "system:serviceaccount:default:chorus-run",
                "extra": {
                    "authentication.kubernetes.io/pod-name": [name],
                    "authentication.kubernetes.io/pod-uid": [stored["metadata"]["uid"]],
                },
            },
        }
        return token

    def status(self) -> dict[str, Any]:
        run = self.kube.find(TRAINING_RUNS, "home-soft-1")
        assert run is not None
        status: dict[str, Any] = run["status"]
        return status

    def set_status(self, **status: Any) -> None:
        run = self.kube.find(TRAINING_RUNS, "home-soft-1")
        assert run is not None
        self.kube.put({**run, "status": {**run["status"], **status}})


@pytest.fixture
def place() -> Env:
    return Env()


async def test_a_service_reports_with_the_token_of_its_attempt(place: Env) -> None:
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    assert await place.say("TRAINING_START", sequence=2) is Outcome.TAKEN
    assert await place.say("progress", percent=40, sequence=3) is Outcome.TAKEN
    assert await place.say("MODEL_NAME", model_name="m", sequence=4) is Outcome.TAKEN
    report = place.status()["report"]
    assert (report["attempt"], report["podUid"], report["sequence"]) == (2, SERVICE_SPEAKER, 4)
    assert {"dataReport", "trainingStart", "modelName"} <= report.keys()
    await place.inbox.progress.flush()
    assert place.status()["progress"]["percent"] == 40


async def test_a_service_may_report_progress_in_kubeflows_form(place: Env) -> None:
    body = b'{"trainerStatus": {"progressPercentage": 30, "lastUpdatedTime": "2026-01-01T00:00:00Z"}}'
    assert await place.inbox.take_progress(await place.inbox.identify(f"Bearer {place.token()}"), body) is Outcome.TAKEN
    await place.inbox.progress.flush()
    assert place.status()["progress"]["percent"] == 30
    with pytest.raises(Refused):
        await place.inbox.take_progress(await place.inbox.identify(f"Bearer {place.exchange()}"), body)


async def test_nobody_is_asked_about_a_services_token(place: Env) -> None:
    await place.say("TRAINING_START")
    assert not [call for call in place.kube.calls if call.verb == "token_review" or call.kind == "Pod"]


async def test_a_repeated_message_is_acknowledged_and_changes_nothing(place: Env) -> None:
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert await place.say("TRAINING_START") is Outcome.KNOWN


@pytest.mark.parametrize("kind", ["MODEL_NAME", "progress"])
async def test_a_message_after_the_end_of_the_run_is_refused(place: Env, kind: str) -> None:
    place.set_status(conditions=[ended("False")])
    data = {"MODEL_NAME": {"model_name": "late"}, "progress": {"percent": 90}}[kind]
    assert await place.refusal(kind, **data) is Cause.WRONG_RUN


async def test_an_older_attempt_is_refused_with_the_token_that_it_was_given(place: Env) -> None:
    assert (
        await place.refusal("MODEL_NAME", token=place.token(attempt=1), attempt=1, model_name="m")
        is Cause.WRONG_ATTEMPT
    )
    assert await place.refusal("progress", token=place.token(attempt=1), attempt=1, percent=9) is Cause.WRONG_ATTEMPT


async def test_a_token_of_an_older_attempt_does_not_speak_for_the_present_one(place: Env) -> None:
    assert await place.refusal("MODEL_NAME", token=place.token(attempt=1), model_name="m") is Cause.WRONG_ATTEMPT


async def test_a_token_of_another_run_does_not_speak_for_this_one(place: Env) -> None:
    assert await place.refusal("TRAINING_START", token=place.token(uid="another", name="other")) is Cause.WRONG_RUN


async def test_a_run_of_the_same_name_is_not_the_run_of_an_old_token(place: Env) -> None:
    body = message("TRAINING_START", subject="deleted", attempt=2)
    with pytest.raises(Refused) as caught:
        await place.send(body, token=place.token(uid="deleted"))
    assert caught.value.cause is Cause.WRONG_RUN


async def test_ids_of_another_project_or_plugin_are_refused(place: Env) -> None:
    assert await place.refusal("TRAINING_START", ids={"project_id": 1, "plugin_id": PLUGIN_ID}) is Cause.WRONG_IDS
    assert await place.refusal("TRAINING_START", ids={"project_id": PROJECT_ID, "plugin_id": 1}) is Cause.WRONG_IDS


async def test_an_attempt_that_is_not_written_down_yet_shall_come_again(place: Env) -> None:
    assert await place.refusal("TRAINING_START", token=place.token(attempt=3), attempt=3) is Cause.NOT_YET


async def test_a_token_that_has_run_out_is_refused(place: Env) -> None:
    token = place.token()
    place.seconds = 3601
    assert await place.refusal("TRAINING_START", token=token) is Cause.BAD_TOKEN


async def test_a_token_that_another_operator_made_is_refused(place: Env) -> None:
    grant = RunGrant(namespace="default", name="r", uid="u", attempt=1, project_id=1, plugin_id=1)
    token = ServiceTokens(b"x" * 32).issue(grant, expires=NOW + timedelta(hours=1))
    assert await place.refusal("TRAINING_START", token=token) is Cause.BAD_TOKEN


async def test_a_namespace_that_is_not_served_has_no_services_either(place: Env) -> None:
    inbox = place.receiver(namespaces=["team"])
    with pytest.raises(Refused) as caught:
        await place.send(message("TRAINING_START", subject=place.run_uid, attempt=2), token=place.token(), inbox=inbox)
    assert caught.value.cause is Cause.WRONG_POD


async def test_the_token_of_an_inquiry_does_not_speak_for_a_run(place: Env) -> None:
    grant = PluginGrant(namespace="default", name="far", uid="uid", generation=1, plugin_id=PLUGIN_ID)
    token = TOKENS.issue(grant, expires=NOW + timedelta(minutes=10))
    assert await place.refusal("TRAINING_START", token=token) is Cause.WRONG_POD


# Inquiries

REPORT = {"id": "far", "name": "Far", "type": "classifier", "description": "", "parameters": {"depth": 3}}


def plugin_token(place: Env, *, generation: int = 1, uid: str | None = None) -> str:
    plugin = place.kube.find(PLUGINS, "far") or place.kube.put(make_service_plugin())
    grant = PluginGrant(
        namespace="default",
        name="far",
        uid=uid or plugin["metadata"]["uid"],
        generation=generation,
        plugin_id=PLUGIN_ID,
    )
    return TOKENS.issue(grant, expires=NOW + timedelta(minutes=10))


async def report(place: Env, *, token: str | None = None, subject: str | None = None) -> Outcome:
    token = token or plugin_token(place)
    plugin = place.kube.find(PLUGINS, "far")
    assert plugin is not None
    body = message("ONLINE_REPORT", subject=subject or plugin["metadata"]["uid"], attempt=0, ids={}, **REPORT)
    return await place.send(body, token=token)


async def test_a_service_that_was_asked_says_what_it_is_and_each_time_that_it_is_there(place: Env) -> None:
    assert await report(place) is Outcome.TAKEN
    assert await report(place) is Outcome.KNOWN
    place.seconds = 300
    assert await report(place) is Outcome.TAKEN
    plugin = place.kube.find(PLUGINS, "far")
    assert plugin is not None
    assert plugin["status"]["report"]["parameters"] == {"depth": 3}
    assert plugin["status"]["report"]["time"] == "2026-01-01T00:05:00Z"


async def test_an_answer_about_another_plugin_or_generation_is_refused(place: Env) -> None:
    wrong: list[dict[str, str]] = [
        {"token": plugin_token(place, uid="other")},
        {"token": plugin_token(place, generation=2)},
        {"subject": "other"},
    ]
    for how in wrong:
        with pytest.raises(Refused) as caught:
            await report(place, **how)
        assert caught.value.cause is Cause.WRONG_IDS


async def test_an_answer_is_not_taken_ten_minutes_later(place: Env) -> None:
    token = plugin_token(place)
    place.seconds = 601
    with pytest.raises(Refused) as caught:
        await report(place, token=token)
    assert caught.value.cause is Cause.BAD_TOKEN


# The exchange


async def test_an_exchange_says_what_it_is_known_by_and_the_service_reports_beside_it(place: Env) -> None:
    token = place.exchange()
    assert await place.say("EXCHANGE_READY", token=token, certificate=CERTIFICATE) is Outcome.TAKEN
    assert await place.say("EXCHANGE_READY", token=token, certificate=CERTIFICATE) is Outcome.KNOWN
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    report = place.status()["report"]
    assert report["exchange"]["certificate"] == CERTIFICATE
    assert report["podUid"] == SERVICE_SPEAKER
    assert report["dataReport"]["applicable"]


async def test_an_exchange_says_nothing_else_and_nobody_else_says_that(place: Env) -> None:
    token = place.exchange()
    assert await place.refusal("DATA_REPORT", token=token, applicable=True) is Cause.WRONG_POD
    assert await place.refusal("EXCHANGE_READY", certificate=CERTIFICATE) is Cause.WRONG_POD


@pytest.mark.parametrize(
    "certificate",
    [
        "",
        "text",
        CERTIFICATE * 2,
        CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY"),
        "-----BEGIN CERTIFICATE-----\n" + "A" * 9000,
    ],
)
async def test_what_is_no_certificate_is_refused(place: Env, certificate: str) -> None:
    assert await place.refusal("EXCHANGE_READY", token=place.exchange(), certificate=certificate) is Cause.MALFORMED


async def test_another_attempt_forgets_the_exchange_of_the_one_before(place: Env) -> None:
    assert await place.say("EXCHANGE_READY", token=place.exchange(), certificate=CERTIFICATE) is Outcome.TAKEN
    place.set_status(attempts={"current": 3})
    assert await place.say("DATA_REPORT", token=place.token(attempt=3), attempt=3, applicable=True) is Outcome.TAKEN
    assert "exchange" not in place.status()["report"]
