"""Who may say what: tokens, pods, runs, attempts; and what becomes of a message that is right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chorus_api.contract import AUDIENCE, PREPARE_KEY_LABEL, ROLE_LABEL
from chorus_kube.errors import Conflict, Invalid, Unavailable
from chorus_kube.resources import CONFIG_MAPS, PODS, TRAINING_RUNS
from chorus_operator.messages.inbox import Inbox
from chorus_operator.messages.runs import MAX_CONFLICTS, Outcome
from chorus_operator.services.tokens import ServiceTokens
from chorus_operator.settings import TokenCheck
from chorus_protocol.messages import MessageType, StoredFrame
from chorus_protocol.refusals import Cause, Refused
from fakes import Call, FakeKube
from message_builders import FRAME, PROJECT_ID, ended, message, prepare_pod, project, training_pod, training_run
from token_builders import Signer, discovery, pod_claims

Manifest = dict[str, Any]


def accepted(pod: Manifest, *, audiences: tuple[str, ...] = (AUDIENCE,)) -> Manifest:
    metadata = pod["metadata"]
    return {
        "authenticated": True,
        "audiences": list(audiences),
        "user": {
            "username": f"system:serviceaccount:{metadata['namespace']}:chorus-run",
            "extra": {
                "authentication.kubernetes.io/pod-name": [metadata["name"]],
                "authentication.kubernetes.io/pod-uid": [metadata["uid"]],
            },
        },
    }


def pods_token(signer: Signer, pod: Manifest) -> str:
    metadata = pod["metadata"]
    bound = {"pod": {"name": metadata["name"], "uid": metadata["uid"]}, "namespace": metadata["namespace"]}
    return signer.token(pod_claims(**{"kubernetes.io": {**pod_claims()["kubernetes.io"], **bound}}))


@dataclass
class Env:
    """A run at its first attempt with its pod, a Project with its prepare pod, and the inbox."""

    kube: FakeKube = field(default_factory=FakeKube)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.run = self.kube.put(training_run())
        self.pod = self.add_pod(training_pod(self.run), token="train")
        self.project = self.kube.put(project())
        self.prepare = self.add_pod(prepare_pod(self.project), token="prepare")
        self.inbox = self.receiver()

    def receiver(self, **how: Any) -> Inbox:
        def clock() -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

        return Inbox(
            self.kube,  # type: ignore[arg-type]
            clock=clock,
            seconds=lambda: self.seconds,
            tokens=ServiceTokens(b"k" * 32),
            **how,
        )

    def add_pod(self, manifest: Manifest, *, token: str) -> Manifest:
        pod = self.kube.put(manifest)
        self.kube.tokens[token] = accepted(pod)
        return pod

    @property
    def run_uid(self) -> str:
        return str(self.run["metadata"]["uid"])

    @property
    def project_uid(self) -> str:
        return str(self.project["metadata"]["uid"])

    async def send(self, body: bytes, *, token: str | None = "train", inbox: Inbox | None = None) -> Outcome:
        inbox = inbox or self.inbox
        identity = await inbox.identify(f"Bearer {token}" if token is not None else None)
        return await inbox.take(identity, body)

    async def say(self, kind: str, *, token: str = "train", **data: Any) -> Outcome:
        return await self.send(message(kind, subject=self.run_uid, **data), token=token)

    async def refusal(self, body: bytes, *, token: str | None = "train") -> Cause:
        before = self.status()
        with pytest.raises(Refused) as caught:
            await self.send(body, token=token)
        assert self.status() == before
        return caught.value.cause

    def frame_result(self) -> Manifest | None:
        return self.kube.find(CONFIG_MAPS, f"home-{self.project_uid[:5]}-frame-abc123")

    def status(self) -> Manifest:
        run = self.kube.find(TRAINING_RUNS, "home-soft-1")
        assert run is not None
        status: Manifest = run["status"]
        return status

    def set_status(self, **status: Any) -> None:
        run = self.kube.find(TRAINING_RUNS, "home-soft-1")
        assert run is not None
        self.kube.put({**run, "status": {**run["status"], **status}})

    def calls(self, verb: str) -> int:
        return sum(call.verb == verb for call in self.kube.calls)


@pytest.fixture
def place() -> Env:
    return Env()


# Tokens


@pytest.mark.parametrize("header", [None, "", "train", "Basic train", "Bearer", "Bearer  "])
async def test_a_message_without_a_token_is_refused(place: Env, header: str | None) -> None:
    with pytest.raises(Refused) as caught:
        await place.inbox.identify(header)
    assert (caught.value.cause, caught.value.status) == (Cause.NO_TOKEN, 401)


@pytest.mark.parametrize("token", ["forged", "x" * 9000, "tökén"])
async def test_an_unknown_token_is_refused(place: Env, token: str) -> None:
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid), token=token) is Cause.BAD_TOKEN


async def test_a_token_for_another_audience_is_refused(place: Env) -> None:
    place.kube.tokens["train"] = accepted(place.pod, audiences=("https://kubernetes.default.svc",))
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.BAD_TOKEN


@pytest.mark.parametrize(
    "change",
    [
        lambda user: user.update(username="admin"),
        lambda user: user.update(username="system:serviceaccount:default"),
        lambda user: user.update(extra={}),
        lambda user: user.pop("extra"),
    ],
)
async def test_a_token_that_is_no_pods_is_refused(place: Env, change: Callable[[Manifest], None]) -> None:
    change(place.kube.tokens["train"]["user"])
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.NOT_A_POD


async def test_a_token_is_reviewed_once_a_minute_and_a_bad_one_every_ten_seconds(place: Env) -> None:
    for second in range(180):
        place.seconds = second
        await place.inbox.identify("Bearer train")
        with pytest.raises(Refused):
            await place.inbox.identify("Bearer forged")
    assert place.calls("token_review") == 3 + 18


async def test_a_token_whose_pod_was_deleted_is_refused_after_a_minute(place: Env) -> None:
    await place.say("DATA_REPORT", applicable=True)
    place.kube.tokens["train"] = {"authenticated": False}
    place.seconds = 61
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.BAD_TOKEN


async def test_by_published_keys_nothing_is_asked_about_a_token(place: Env) -> None:
    signer = Signer()
    place.kube.issuer = discovery(signer)
    token, inbox = pods_token(signer, place.pod), place.receiver(token_check=TokenCheck.PUBLISHED_KEYS)
    assert await place.send(message("TRAINING_START", subject=place.run_uid), token=token, inbox=inbox) is Outcome.TAKEN
    assert (place.calls("token_review"), place.calls("token_keys")) == (0, 1)


async def test_by_published_keys_a_deleted_pod_is_not_heard_though_it_spoke_a_moment_ago(place: Env) -> None:
    """Its token is good for an hour, and only the API server's review would tell that the pod is gone."""
    signer = Signer()
    place.kube.issuer = discovery(signer)
    token, inbox = pods_token(signer, place.pod), place.receiver(token_check=TokenCheck.PUBLISHED_KEYS)
    await place.send(message("DATA_REPORT", subject=place.run_uid, applicable=True), token=token, inbox=inbox)
    place.kube.remove(PODS, "pod-1")
    for kind in ("TRAINING_START", "MODEL_NAME", "ERROR_REPORT"):
        body = message(kind, subject=place.run_uid, sequence=2, model_name="m", detail="d")
        with pytest.raises(Refused) as caught:
            await place.send(body, token=token, inbox=inbox)
        assert caught.value.cause is Cause.WRONG_POD
    assert "trainingStart" not in place.status()["report"]


# Pods, runs, attempts


@pytest.mark.parametrize("check", TokenCheck)
async def test_a_pod_of_a_namespace_that_is_not_served_is_refused_unlooked_at(place: Env, check: TokenCheck) -> None:
    signer = Signer()
    place.kube.issuer = discovery(signer)
    inbox = place.receiver(token_check=check, namespaces=["team-a", "team-b"])
    token = "train" if check is TokenCheck.REVIEW else pods_token(signer, place.pod)
    with pytest.raises(Refused) as caught:
        await place.send(message("TRAINING_START", subject=place.run_uid), token=token, inbox=inbox)
    assert (caught.value.cause, caught.value.status) == (Cause.WRONG_POD, 403)
    assert "default" in caught.value.detail
    assert place.calls("get") == 0


@pytest.mark.parametrize(("after", "heard"), [(59, True), (61, False)])
async def test_a_pod_that_should_have_ended_a_minute_ago_is_not_heard(place: Env, after: int, heard: bool) -> None:
    end = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 120}
    place.kube.put({**place.pod, "metadata": {**place.pod["metadata"], **end}})
    place.seconds = after
    if heard:
        assert await place.say("ERROR_REPORT", detail="stopped") is Outcome.TAKEN
    else:
        body = message("ERROR_REPORT", subject=place.run_uid, detail="stopped")
        assert await place.refusal(body) is Cause.WRONG_POD


async def test_a_pod_of_the_same_name_but_another_uid_is_refused(place: Env) -> None:
    place.kube.remove(PODS, "pod-1")
    place.kube.put(training_pod(place.run))
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.WRONG_POD


@pytest.mark.parametrize("role", ["publish", "fetch", "", None])
async def test_a_pod_that_does_not_report_is_refused(place: Env, role: str | None) -> None:
    pod = training_pod(place.run, name="other")
    pod["metadata"]["labels"][ROLE_LABEL] = role
    place.add_pod(pod, token="other")
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid), token="other") is Cause.WRONG_POD


@pytest.mark.parametrize("part", ["labels", "annotations"])
async def test_a_pod_without_the_marks_of_the_operator_is_refused(place: Env, part: str) -> None:
    whole = training_pod(place.run)["metadata"][part]
    for number, name in enumerate(name for name in whole if "managed-by" not in name and not name.endswith("project")):
        pod = training_pod(place.run, name=f"{part}-{number}")
        del pod["metadata"][part][name]
        place.add_pod(pod, token=f"{part}-{number}")
        cause = await place.refusal(message("TRAINING_START", subject=place.run_uid), token=f"{part}-{number}")
        assert cause is Cause.WRONG_POD


@pytest.mark.parametrize(
    ("envelope", "ids", "cause"),
    [
        ({"subject": "another-run"}, None, Cause.WRONG_RUN),
        ({"attempt": 2}, None, Cause.WRONG_ATTEMPT),
        ({"attempt": 0}, None, Cause.WRONG_ATTEMPT),
        ({}, {"project_id": 1, "plugin_id": 77}, Cause.WRONG_IDS),
        ({}, {"project_id": PROJECT_ID, "plugin_id": 1}, Cause.WRONG_IDS),
    ],
)
@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_a_message_about_something_else_is_refused(
    place: Env, kind: str, envelope: Manifest, ids: dict[str, int] | None, cause: Cause
) -> None:
    body = message(kind, **{"subject": place.run_uid, **envelope}, ids=ids, percent=1)
    assert await place.refusal(body) is cause


async def test_another_runs_pod_cannot_speak_for_this_run(place: Env) -> None:
    other = place.kube.put(training_run("home-soft-2"))
    place.add_pod(training_pod(other, name="other"), token="other")
    assert await place.refusal(message("MODEL_NAME", subject=place.run_uid, model_name="m"), token="other") is (
        Cause.WRONG_RUN
    )


@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_an_older_attempt_is_refused(place: Env, kind: str) -> None:
    place.set_status(attempts={"current": 2})
    assert await place.refusal(message(kind, subject=place.run_uid, percent=1)) is Cause.WRONG_ATTEMPT


async def test_an_attempt_that_the_status_does_not_know_yet_is_asked_to_come_again(place: Env) -> None:
    place.set_status(attempts={"current": 0})
    with pytest.raises(Refused) as caught:
        await place.say("DATA_REPORT", applicable=True)
    assert (caught.value.cause, caught.value.status) == (Cause.NOT_YET, 503)


@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_a_second_pod_of_the_attempt_is_refused_while_the_first_lives(place: Env, kind: str) -> None:
    await place.say("DATA_REPORT", applicable=True)
    place.add_pod(training_pod(place.run, name="pod-2"), token="second")
    assert await place.refusal(message(kind, subject=place.run_uid, percent=1), token="second") is Cause.WRONG_POD


@pytest.mark.parametrize("phase", ["Failed", None])
async def test_a_second_pod_of_the_attempt_takes_over_when_the_first_has_ended(place: Env, phase: str | None) -> None:
    await place.say("DATA_REPORT", applicable=True)
    second = place.add_pod(training_pod(place.run, name="pod-2"), token="second")
    if phase is None:
        place.kube.remove(PODS, "pod-1")
    else:
        place.kube.put({**place.pod, "status": {"phase": phase}})
    assert await place.say("TRAINING_START", token="second") is Outcome.TAKEN
    assert place.status()["report"]["podUid"] == second["metadata"]["uid"]


async def test_a_run_that_is_gone_is_refused(place: Env) -> None:
    place.kube.remove(TRAINING_RUNS, "home-soft-1")
    place.kube.put(training_run())
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.WRONG_RUN


async def test_a_training_pod_cannot_report_a_frame_nor_a_prepare_pod_train(place: Env) -> None:
    frame = message("FRAME_READY", subject=place.project_uid, prepare_key="abc123", frame=FRAME)
    assert await place.refusal(frame) is Cause.WRONG_POD
    start = message("TRAINING_START", subject=place.project_uid)
    assert await place.refusal(start, token="prepare") is Cause.WRONG_POD
    assert place.kube.all(CONFIG_MAPS) == []


# What is stored


async def test_a_report_is_stored_before_it_is_acknowledged(place: Env) -> None:
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    assert await place.say("MODEL_NAME", sequence=2, model_name="m", metrics={"loss": 0.5}) is Outcome.TAKEN
    report = place.status()["report"]
    assert (report["attempt"], report["podUid"], report["sequence"]) == (1, place.pod["metadata"]["uid"], 2)
    assert report["modelName"]["metrics"] == {"loss": "0.5"}
    assert "trainingStart" in report
    assert place.inbox.taken[MessageType.MODEL_NAME, Outcome.TAKEN] == 1


async def test_a_duplicate_is_acknowledged_and_writes_nothing(place: Env) -> None:
    await place.say("TRAINING_START")
    before = place.calls("apply_status")
    assert await place.say("TRAINING_START") is Outcome.KNOWN
    assert place.calls("apply_status") == before


@pytest.mark.parametrize("status", ["True", "False"])
@pytest.mark.parametrize("kind", ["ERROR_REPORT", "progress"])
async def test_an_ended_run_is_not_changed(place: Env, kind: str, status: str) -> None:
    place.set_status(conditions=[ended(status)])
    before = place.status()
    assert await place.say(kind, detail="late", percent=3) is Outcome.KNOWN
    assert place.status() == before


async def test_two_receivers_that_write_at_once_lose_nothing(place: Env) -> None:
    inboxes = [place.receiver() for _ in range(4)]
    bodies = [
        message("DATA_REPORT", subject=place.run_uid, applicable=True, sequence=1),
        message("TRAINING_START", subject=place.run_uid, sequence=2),
        message("ERROR_REPORT", subject=place.run_uid, detail="no", sequence=3),
        message("MODEL_NAME", subject=place.run_uid, model_name="m", sequence=4),
    ]
    outcomes = await asyncio.gather(
        *(place.send(body, inbox=inbox) for body, inbox in zip(bodies, inboxes, strict=True))
    )
    # A start that comes after the model is known already, whichever was sent first.
    assert set(outcomes) <= {Outcome.TAKEN, Outcome.KNOWN}
    assert {"dataReport", "trainingStart", "error", "modelName"} <= place.status()["report"].keys()
    assert place.status()["report"]["sequence"] == 4


async def test_endless_conflicts_end_in_come_again(place: Env) -> None:
    def conflict(call: Call) -> None:
        if call.verb == "apply_status":
            raise Conflict("changed")

    place.kube.before = conflict
    with pytest.raises(Refused) as caught:
        await place.say("TRAINING_START")
    assert (caught.value.cause, caught.value.status) == (Cause.UNAVAILABLE, 503)
    assert place.calls("apply_status") == MAX_CONFLICTS


@pytest.mark.parametrize("verb", ["token_review", "get", "apply_status"])
async def test_an_api_server_that_is_away_means_come_again(place: Env, verb: str) -> None:
    def refuse(call: Call) -> None:
        if call.verb == verb:
            raise Unavailable("away")

    place.kube.before = refuse
    with pytest.raises(Refused) as caught:
        await place.say("TRAINING_START")
    assert (caught.value.cause, caught.value.status) == (Cause.UNAVAILABLE, 503)
    place.kube.before = lambda call: None
    assert await place.say("TRAINING_START") is Outcome.TAKEN


async def test_what_the_api_server_refuses_to_store_is_the_senders_fault(place: Env) -> None:
    def refuse(call: Call) -> None:
        if call.verb == "apply_status":
            raise Invalid("status.report.modelName: too long")

    place.kube.before = refuse
    assert await place.refusal(message("TRAINING_START", subject=place.run_uid)) is Cause.MALFORMED


async def test_progress_is_kept_and_written(place: Env) -> None:
    assert await place.say("progress", percent=40, step=4) is Outcome.TAKEN
    assert await place.say("progress", percent=40, step=4) is Outcome.KNOWN
    await place.inbox.progress.flush()
    assert place.status()["progress"]["percent"] == 40


async def test_steady_progress_asks_the_api_server_seldom(place: Env) -> None:
    for second in range(60):
        place.seconds = second
        await place.say("progress", percent=1, sequence=second + 1)
    assert place.calls("get") + place.calls("token_review") <= 60 / 10 + 60 / 5 + 2 + 4


# Frames


def frame(place: Env, kind: str = "FRAME_READY", **data: Any) -> bytes:
    fields: Manifest = (
        {"prepare_key": "abc123", "frame": FRAME}
        if kind == "FRAME_READY"
        else {
            "prepare_key": "abc123",
            "reason": "NoRows",
            "detail": "0 rows",
        }
    )
    return message(kind, subject=data.pop("subject", place.project_uid), attempt=0, **{**fields, **data})


async def test_a_frame_is_kept_in_an_immutable_config_map_of_the_project(place: Env) -> None:
    assert await place.send(frame(place), token="prepare") is Outcome.TAKEN
    stored = place.frame_result()
    assert stored is not None
    assert stored["immutable"] is True
    assert stored["metadata"]["labels"][PREPARE_KEY_LABEL] == "abc123"
    assert stored["metadata"]["ownerReferences"][0]["uid"] == place.project_uid
    result = StoredFrame.model_validate_json(stored["data"]["result.json"])
    assert result.ready is not None
    assert (result.ready.name, result.failed) == (FRAME["name"], None)


async def test_a_failed_preparation_is_kept_too(place: Env) -> None:
    await place.send(frame(place, "FRAME_FAILED"), token="prepare")
    stored = place.frame_result()
    assert stored is not None
    result = StoredFrame.model_validate_json(stored["data"]["result.json"])
    assert result.failed is not None
    assert (result.failed.reason, result.ready) == ("NoRows", None)


@pytest.mark.parametrize("second", ["FRAME_READY", "FRAME_FAILED"])
async def test_the_first_result_of_a_key_stands(place: Env, second: str) -> None:
    await place.send(frame(place), token="prepare")
    before = place.frame_result()
    assert await place.send(frame(place, second, sequence=2), token="prepare") is Outcome.KNOWN
    assert place.frame_result() == before


async def test_a_result_left_by_a_deleted_project_of_the_same_name_is_not_taken_for_ours(place: Env) -> None:
    await place.send(frame(place), token="prepare")
    stored = place.frame_result()
    assert stored is not None
    stored["metadata"]["ownerReferences"][0]["uid"] = "the-old-project"
    place.kube.put(stored)
    with pytest.raises(Refused) as caught:
        await place.send(frame(place), token="prepare")
    assert (caught.value.cause, caught.value.status) == (Cause.NOT_YET, 503)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"subject": "another-project"}, Cause.WRONG_RUN),
        ({"prepare_key": "another-key"}, Cause.WRONG_IDS),
        ({"ids": {"project_id": 1}}, Cause.WRONG_IDS),
    ],
)
async def test_a_frame_of_something_else_is_refused(place: Env, change: Manifest, cause: Cause) -> None:
    assert await place.refusal(frame(place, **change), token="prepare") is cause
    assert place.kube.all(CONFIG_MAPS) == []
