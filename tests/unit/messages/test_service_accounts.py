"""What a service's pod may say with the token of its service account, and whom nobody takes for such a pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from builders import make_service_plugin
from chorus_api.contract import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ROLE_LABEL,
    RUN_SERVICE_ACCOUNT,
    SERVICE_SPEAKER,
)
from chorus_kube.resources import CONFIG_MAPS, PLUGINS, PODS, TRAINING_RUNS
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.runs import Outcome
from chorus_operator.services.tokens import RunGrant, ServiceTokens
from chorus_operator.settings import TokenCheck
from chorus_protocol.refusals import Cause, Refused
from fakes import FakeKube
from message_builders import (
    FRAME,
    PLUGIN_ID,
    PROJECT_ID,
    accepted_by_service,
    describe_pod,
    ended,
    message,
    plugin,
    prepare_pod,
    project,
    service_config,
    service_pod,
    training_pod,
    training_run,
)
from token_builders import Signer, discovery, token_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = ServiceTokens(b"k" * 32)
SIGNER = Signer()
RUN = "home-far-1"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n"
REPORT: dict[str, Any] = {"id": "far", "name": "Far", "type": "classifier", "parameters": {"depth": 3}}
Manifest = dict[str, Any]


@dataclass
class Env:
    """A run at its second attempt, accepted with a Plugin that names account `far`, and a pod of that account."""

    token_check: TokenCheck = TokenCheck.REVIEW
    namespaces: tuple[str, ...] = ()
    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.kube.issuer = discovery(SIGNER)
        self.plugin = self.kube.put(make_service_plugin(service={"serviceAccountName": "far"}))
        self.run = self.accept(RUN)
        self.inbox = Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=lambda: NOW + timedelta(seconds=self.seconds),
            seconds=lambda: self.seconds,
            tokens=TOKENS,
            token_check=self.token_check,
            namespaces=self.namespaces,
        )
        self.far = self.token_of(service_pod())

    def accept(self, name: str) -> Manifest:
        """Make a run that was accepted with a configuration, and is at its second attempt."""
        run = self.kube.put(training_run(name, attempt=2))
        return self.kube.put(accepted_by_service(run, self.kube.put(service_config(run))))

    def token_of(self, manifest: Manifest) -> str:
        """Create a pod; the token of its service account, bound to it, as the cluster would give it."""
        return token_of(self.kube, SIGNER, manifest)

    @property
    def run_uid(self) -> str:
        return str(self.run["metadata"]["uid"])

    async def send(self, body: bytes, *, token: str | None = None) -> Outcome:
        return await self.inbox.take(await self.inbox.identify(f"Bearer {token or self.far}"), body)

    async def say(
        self, kind: str, *, token: str | None = None, subject: str | None = RUN, uid: str | None = None, **data: Any
    ) -> Outcome:
        body = message(kind, subject=uid or self.run_uid, **{"attempt": 2, "attributes": {"subject": subject}, **data})
        return await self.send(body, token=token)

    async def refused(self, kind: str = "TRAINING_START", **how: Any) -> Refused:
        """Check that a message is refused and changes nothing."""
        before = self.status()
        with pytest.raises(Refused) as caught:
            await self.say(kind, **how)
        assert self.status() == before
        return caught.value

    async def refusal(self, kind: str = "TRAINING_START", **how: Any) -> Cause:
        return (await self.refused(kind, **how)).cause

    def status(self) -> Manifest:
        run = self.kube.find(TRAINING_RUNS, RUN)
        assert run is not None
        status: Manifest = run["status"]
        return status

    def set_status(self, **status: Any) -> None:
        run = self.kube.find(TRAINING_RUNS, RUN)
        assert run is not None
        self.kube.put({**run, "status": {**run["status"], **status}})

    def reads(self, kind: str) -> int:
        return sum((call.verb, call.kind) == ("get", kind) for call in self.kube.calls)


@pytest.fixture
def place() -> Env:
    return Env()


# A run


@pytest.mark.parametrize("token_check", TokenCheck)
async def test_a_services_pod_reports_with_the_token_of_its_account(token_check: TokenCheck) -> None:
    place = Env(token_check)
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    assert await place.say("TRAINING_START", sequence=2) is Outcome.TAKEN
    assert await place.say("progress", percent=40, sequence=3) is Outcome.TAKEN
    assert await place.say("MODEL_NAME", model_name="m", sequence=4) is Outcome.TAKEN
    report = place.status()["report"]
    assert (report["attempt"], report["podUid"], report["sequence"]) == (2, SERVICE_SPEAKER, 4)
    assert {"dataReport", "trainingStart", "modelName"} <= report.keys()
    await place.inbox.progress.flush()
    assert place.status()["progress"]["percent"] == 40


@pytest.mark.parametrize("token_check", TokenCheck)
async def test_a_pod_of_another_account_does_not_speak_for_the_service(token_check: TokenCheck) -> None:
    place = Env(token_check)
    stranger = place.token_of(service_pod(account="stranger", name="stranger-0"))
    refused = await place.refused(token=stranger)
    assert refused.cause is Cause.WRONG_POD
    assert "service account stranger" in refused.detail


async def test_an_error_ends_the_attempt_as_with_the_token(place: Env) -> None:
    assert await place.say("ERROR_REPORT", detail="no room", retryable=True) is Outcome.TAKEN
    assert place.status()["report"]["error"]["retryable"]


async def test_the_token_of_training_data_keeps_working_beside_it_as_the_same_speaker(place: Env) -> None:
    grant = RunGrant(
        namespace="default", name=RUN, uid=place.run_uid, attempt=2, project_id=PROJECT_ID, plugin_id=PLUGIN_ID
    )
    token = TOKENS.issue(grant, expires=NOW + timedelta(hours=1))
    assert await place.say("DATA_REPORT", token=token, subject=None, applicable=True) is Outcome.TAKEN
    assert await place.say("TRAINING_START", sequence=2) is Outcome.TAKEN
    assert await place.say("MODEL_NAME", token=token, subject=None, sequence=3, model_name="m") is Outcome.TAKEN
    assert {"dataReport", "trainingStart", "modelName"} <= place.status()["report"].keys()


async def test_everything_is_read_by_name_and_what_never_changes_once(place: Env) -> None:
    for sequence in range(1, 4):
        await place.say("progress", percent=sequence, sequence=sequence)
    assert place.reads("ConfigMap") == place.reads("Pod") == 1
    assert not [call for call in place.kube.calls if call.verb == "list"]


async def test_the_run_is_judged_by_what_it_was_accepted_with_whatever_its_plugin_says_now(place: Env) -> None:
    place.kube.put(make_service_plugin(service={"serviceAccountName": "new"}))
    new = place.token_of(service_pod(account="new", name="new-0"))
    assert await place.refusal(token=new) is Cause.WRONG_POD
    assert await place.say("TRAINING_START") is Outcome.TAKEN


async def test_a_run_that_was_accepted_without_an_account_takes_the_token_alone(place: Env) -> None:
    place.kube.put(service_config(place.run, account=None))
    assert await place.refusal() is Cause.WRONG_POD


async def test_who_does_not_say_for_which_run_it_speaks_is_told_to(place: Env) -> None:
    refused = await place.refused(subject=None)
    assert refused.cause is Cause.WRONG_POD
    assert "`subject`" in refused.detail


@pytest.mark.parametrize(
    "subject", ["../secrets/x", "home-far-1/status", "Home", f"/namespaces/default/{RUN}", "r" * 51]
)
async def test_a_subject_that_no_run_can_have_is_refused_before_anything_is_read(place: Env, subject: str) -> None:
    assert await place.refusal(subject=subject) is Cause.WRONG_RUN
    assert place.reads("ConfigMap") == 0


async def test_a_run_that_no_service_was_told_of_is_refused(place: Env) -> None:
    assert await place.refusal(subject="home-far-2") is Cause.WRONG_RUN
    place.kube.put(service_config(place.run, type="container", image="registry.test/x:1"))
    assert await place.refusal() is Cause.WRONG_RUN
    place.kube.put({**service_config(place.run), "data": {"run.json": "{"}})
    assert await place.refusal() is Cause.WRONG_RUN


async def test_a_config_map_that_the_run_does_not_name_or_own_gives_no_say_about_it(place: Env) -> None:
    stranger = place.token_of(service_pod(account="stranger", name="stranger-0"))
    forged = service_config(place.run, account="stranger")
    place.kube.put({**forged, "metadata": {**forged["metadata"], "name": f"{RUN}-frozen"}})
    true = place.kube.find(CONFIG_MAPS, forged["metadata"]["name"])
    assert true is not None
    place.kube.put({**forged, "metadata": {**forged["metadata"], "ownerReferences": []}})
    assert await place.refusal(token=stranger) is Cause.WRONG_RUN
    place.kube.put(true)
    assert await place.refusal(token=stranger) is Cause.WRONG_POD


async def test_another_runs_uid_is_refused(place: Env) -> None:
    other = place.accept("home-far-2")
    assert await place.refusal(uid=other["metadata"]["uid"]) is Cause.WRONG_RUN
    assert await place.refusal(subject="home-far-2") is Cause.WRONG_RUN


async def test_a_run_of_the_same_name_is_not_the_run_that_the_service_was_told_of(place: Env) -> None:
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    place.kube.put({**training_run(RUN, attempt=2), "metadata": {"name": RUN, "uid": "another"}})
    assert await place.refusal() is Cause.WRONG_RUN


async def test_another_attempt_than_the_present_one_is_refused(place: Env) -> None:
    assert await place.refusal(attempt=1) is Cause.WRONG_ATTEMPT
    assert await place.refusal("progress", attempt=1, percent=9) is Cause.WRONG_ATTEMPT
    assert await place.refusal(attempt=3) is Cause.NOT_YET


async def test_nothing_is_taken_before_the_first_attempt(place: Env) -> None:
    place.set_status(attempts={"current": 0})
    assert await place.refusal("MODEL_NAME", attempt=0, model_name="m") is Cause.WRONG_ATTEMPT


async def test_ids_of_another_project_or_plugin_are_refused(place: Env) -> None:
    assert await place.refusal(ids={"project_id": 1, "plugin_id": PLUGIN_ID}) is Cause.WRONG_IDS
    assert await place.refusal(ids={"project_id": PROJECT_ID, "plugin_id": 1}) is Cause.WRONG_IDS


@pytest.mark.parametrize("kind", ["MODEL_NAME", "progress"])
async def test_a_message_after_the_end_of_the_run_is_refused(place: Env, kind: str) -> None:
    place.set_status(conditions=[ended("True")])
    data: dict[str, Manifest] = {"MODEL_NAME": {"model_name": "late"}, "progress": {"percent": 90}}
    assert await place.refusal(kind, **data[kind]) is Cause.WRONG_RUN


async def test_an_account_of_the_same_name_in_another_namespace_is_another_account(place: Env) -> None:
    elsewhere = place.token_of(service_pod(namespace="other"))
    assert await place.refusal(token=elsewhere) is Cause.WRONG_RUN


async def test_a_namespace_that_is_not_served_has_no_services() -> None:
    place = Env(namespaces=("team",))
    assert await place.refusal() is Cause.WRONG_POD


@pytest.mark.parametrize("token_check", TokenCheck)
async def test_a_pod_that_is_gone_does_not_speak(token_check: TokenCheck) -> None:
    place = Env(token_check)
    place.kube.remove(PODS, "far-0")
    assert await place.refusal() is Cause.WRONG_POD


async def test_a_service_says_nothing_that_an_exchange_or_a_prepare_pod_says(place: Env) -> None:
    assert await place.refusal("EXCHANGE_READY", certificate=CERTIFICATE) is Cause.WRONG_POD
    assert await place.refusal("FRAME_READY", prepare_key="abc123", frame=FRAME) is Cause.WRONG_POD


async def test_progress_in_kubeflows_form_names_no_run_so_it_takes_the_token(place: Env) -> None:
    body = b'{"trainerStatus": {"progressPercentage": 30, "lastUpdatedTime": "2026-01-01T00:00:00Z"}}'
    with pytest.raises(Refused) as caught:
        await place.inbox.take_progress(await place.inbox.identify(f"Bearer {place.far}"), body)
    assert caught.value.cause is Cause.WRONG_POD
    assert "does not say which run" in caught.value.detail


# Pods of Chorus, and pods that look like them


@pytest.mark.parametrize("role", ["train", "exchange", "prepare", "describe", "fetch", "publish"])
async def test_a_pod_that_is_marked_as_one_of_chorus_is_never_a_service(place: Env, role: str) -> None:
    pod = service_pod(name="marked")
    pod["metadata"]["labels"] = {ROLE_LABEL: role}
    assert await place.refusal(token=place.token_of(pod)) is Cause.WRONG_POD


async def test_a_pod_that_says_that_chorus_made_it_is_never_a_service(place: Env) -> None:
    pod = service_pod(name="marked")
    pod["metadata"]["labels"] = {MANAGED_BY_LABEL: MANAGED_BY}
    assert await place.refusal(token=place.token_of(pod)) is Cause.WRONG_POD


async def test_a_pod_of_another_account_is_never_one_of_chorus(place: Env) -> None:
    made = [
        (training_pod(place.run, attempt=2), message("TRAINING_START", subject=place.run_uid, attempt=2)),
        (
            prepare_pod(place.kube.put(project())),
            message("FRAME_READY", subject="uid", prepare_key="abc123", frame=FRAME),
        ),
        (describe_pod(place.kube.put(plugin())), message("ONLINE_REPORT", subject="uid", attempt=0, **REPORT)),
    ]
    for pod, body in made:
        pod["spec"]["serviceAccountName"] = "far"
        with pytest.raises(Refused) as caught:
            await place.send(body, token=place.token_of(pod))
        assert caught.value.cause is Cause.WRONG_POD


async def test_the_account_of_run_pods_is_no_services_even_where_a_run_names_it(place: Env) -> None:
    place.kube.put(service_config(place.run, account=RUN_SERVICE_ACCOUNT))
    bare = place.token_of(service_pod(account=RUN_SERVICE_ACCOUNT, name="bare"))
    assert await place.refusal(token=bare) is Cause.WRONG_POD


async def test_a_training_pod_speaks_for_its_own_run_alone_whatever_the_subject_says(place: Env) -> None:
    other = place.kube.put(training_run("home-soft-1"))
    training = place.token_of(training_pod(other))
    assert await place.refusal(token=training) is Cause.WRONG_RUN
    body = message("TRAINING_START", subject=other["metadata"]["uid"], attributes={"subject": RUN})
    assert await place.send(body, token=training) is Outcome.TAKEN
    assert "report" not in place.status()


# Inquiries


async def report(place: Env, *, subject: str | None = "far/1", **how: Any) -> Outcome:
    uid = place.plugin["metadata"]["uid"]
    return await place.say("ONLINE_REPORT", subject=subject, **{"uid": uid, "attempt": 0, "ids": {}, **REPORT, **how})


async def refused_report(place: Env, **how: Any) -> Cause:
    with pytest.raises(Refused) as caught:
        await report(place, **how)
    stored = place.kube.find(PLUGINS, "far")
    assert stored is not None
    assert "report" not in stored.get("status", {})
    return caught.value.cause


@pytest.mark.parametrize("token_check", TokenCheck)
async def test_a_services_pod_says_what_it_is_with_the_token_of_its_account(token_check: TokenCheck) -> None:
    place = Env(token_check)
    assert await report(place) is Outcome.TAKEN
    assert await report(place) is Outcome.KNOWN
    place.seconds = 300
    assert await report(place) is Outcome.TAKEN
    stored = place.kube.find(PLUGINS, "far")
    assert stored is not None
    assert stored["status"]["report"]["generation"] == 1
    assert stored["status"]["report"]["time"] == "2026-01-01T00:05:00Z"


async def test_a_pod_of_another_account_does_not_say_what_the_service_is(place: Env) -> None:
    stranger = place.token_of(service_pod(account="stranger", name="stranger-0"))
    assert await refused_report(place, token=stranger) is Cause.WRONG_POD


async def test_an_account_that_the_present_plugin_does_not_name_says_nothing_of_it(place: Env) -> None:
    place.kube.put(make_service_plugin())
    assert await refused_report(place) is Cause.WRONG_POD


async def test_a_plugin_of_another_type_is_not_spoken_for_by_an_account(place: Env) -> None:
    place.kube.put(plugin("image"))
    assert await refused_report(place, subject="image/1") is Cause.WRONG_POD


@pytest.mark.parametrize("subject", ["far", "far/0", "far/2", "far/01", "far/1/status", "../far/1", "near/1", "-far/1"])
async def test_a_report_about_another_plugin_or_generation_is_refused(place: Env, subject: str) -> None:
    assert await refused_report(place, subject=subject) is Cause.WRONG_IDS


async def test_a_report_about_a_plugin_of_the_same_name_is_refused(place: Env) -> None:
    assert await refused_report(place, uid="another") is Cause.WRONG_IDS


async def test_a_report_that_names_no_plugin_is_refused(place: Env) -> None:
    assert await refused_report(place, subject=None) is Cause.WRONG_POD
