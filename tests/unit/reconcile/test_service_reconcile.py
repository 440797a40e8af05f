"""Runs whose plugin is a service: what it is told and when, what follows from what it says, and from its silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from builders import make_run, make_service_plugin
from chorus_api.plugin import Plugin
from chorus_api.run_config import ExchangeConfig, TerminationRecord
from chorus_kube.resources import CONFIG_MAPS, PODS, SERVICES
from chorus_operator.decisions.decision import Action, Endpoint, Inquire
from chorus_operator.decisions.delivery import Delivery
from chorus_operator.decisions.dispatch import Limits
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.plugin_types.service.requirements import decide_plugin
from chorus_operator.services.subjects import read_plugin, read_run
from chorus_operator.services.tokens import PluginGrant, RunGrant, token_hash
from service_world import CERTIFICATE, MODEL, RUN, ServiceWorld
from world import START, TOKENS, SimulatedDispatcher, frame, iso


@pytest.fixture
def world() -> ServiceWorld:
    return ServiceWorld()


# The Plugin


def test_a_service_is_asked_at_once_and_then_every_few_minutes(world: ServiceWorld) -> None:
    world.begin()
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == 1
    world.later(299)
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == 1
    world.later(2)
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == 2


def test_an_inquiry_says_where_to_answer_with_a_token_for_this_plugin_alone(world: ServiceWorld) -> None:
    world.begin()
    event = world.dispatcher.events("ONLINE_INQUIRY")[0]
    uid = world.plugin()["metadata"]["uid"]
    assert (event["specversion"], event["subjectuid"], event["attempt"]) == ("1.0", uid, "0")
    assert read_plugin(event["subject"]) == ("far", 1)
    assert event["recipient"] == world.dispatcher.outbound[0].url == "https://far.example.org/chorus"
    assert event["data"]["messages_url"] == "https://chorus.test:8443/v1/messages"
    grant = TOKENS.read(event["data"]["token"], now=world.now)
    assert isinstance(grant, PluginGrant)
    assert (grant.name, grant.uid, grant.generation) == ("far", uid, 1)


def test_a_service_that_answers_is_online_until_three_inquiries_are_missed(world: ServiceWorld) -> None:
    world.begin(service={"inquirySeconds": 60})
    assert world.condition("Online", run=None)["status"] == "True"
    assert world.plugin()["status"]["lastSeenTime"] == iso(world.now)
    world.dispatcher.error = "it answered 503"
    world.later(200)
    assert world.condition("Online", run=None)["status"] == "True"
    world.later(20)
    online = world.condition("Online", run=None)
    assert (online["status"], online["reason"]) == ("False", "PluginOffline")
    assert "it answered 503" in online["message"]
    world.later(5)
    world.service_answers()
    assert world.condition("Online", run=None)["status"] == "True"


def test_a_new_operator_does_not_take_a_silent_service_for_online(world: ServiceWorld) -> None:
    world.begin(service={"inquirySeconds": 60})
    world.later(300)
    world.operator_since = world.now
    world.later(10)
    assert world.condition("Online", run=None)["status"] == "False"


def test_a_new_operator_waits_for_an_answer_before_it_calls_a_service_offline(world: ServiceWorld) -> None:
    world.begin(service={"inquirySeconds": 60})
    world.now += timedelta(days=1)
    world.operator_since = world.now
    world.settle()
    assert world.condition("Online", run=None)["status"] == "True"


def test_a_changed_plugin_is_asked_anew(world: ServiceWorld) -> None:
    world.begin()
    world.put(make_service_plugin(service={"inquirySeconds": 600}))
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == 2


def inquiries_until_due(*, failures: int, delivered: bool = False, every: int, after: float) -> list[Action]:
    """What is done about a service that was asked last `after` seconds ago."""
    manifest = make_service_plugin(service={"inquirySeconds": every})
    manifest["metadata"] |= {"uid": "uid-1", "generation": 1, "creationTimestamp": iso(START)}
    asked = Delivery(failures=failures, delivered=delivered, error="" if delivered else "silence", time=START)
    view = PluginView(Plugin.model_validate(manifest), now=START + timedelta(seconds=after), since=START, inquiry=asked)
    return list(decide_plugin(view).actions)


@pytest.mark.parametrize(
    ("failures", "every", "pause"),
    [(1, 10, 10), (2, 10, 20), (4, 300, 80), (6, 10, 300), (100, 10, 300), (100, 300, 300), (100, 3600, 3600)],
)
def test_a_service_that_takes_no_inquiry_is_asked_less_and_less_often_down_to_every_five_minutes_or_as_it_wishes(
    failures: int, every: int, pause: int
) -> None:
    assert inquiries_until_due(failures=failures, every=every, after=pause - 1) == []
    assert inquiries_until_due(failures=failures, every=every, after=pause) == [
        Inquire(Endpoint("https://far.example.org/chorus"))
    ]


@pytest.mark.parametrize("every", [10, 300, 3600])
def test_a_service_that_takes_an_inquiry_is_asked_as_it_wishes_again(every: int) -> None:
    assert inquiries_until_due(failures=0, delivered=True, every=every, after=every - 1) == []
    assert inquiries_until_due(failures=0, delivered=True, every=every, after=every) == [
        Inquire(Endpoint("https://far.example.org/chorus"))
    ]


def test_a_silent_service_whose_plugin_was_changed_is_asked_at_once(world: ServiceWorld) -> None:
    world.dispatcher.error = "it did not answer within 10 s"
    world.begin(answers=False)
    for _ in range(6):
        world.later(300)
    asked = len(world.dispatcher.events("ONLINE_INQUIRY"))
    world.put(make_service_plugin(service={"url": "https://mended.example.org/"}))
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == asked + 1
    world.later(10)
    assert len(world.dispatcher.events("ONLINE_INQUIRY")) == asked + 2


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "https://kubernetes.default.svc/", "http://localhost/"])
def test_a_service_where_none_may_be_is_never_asked(world: ServiceWorld, url: str) -> None:
    world.begin(answers=False, service={"url": url})
    ready = world.condition("Ready", run=None)
    assert (ready["status"], ready["reason"]) == ("False", "BadConfiguration")
    assert "spec.service" in ready["message"]
    assert world.dispatcher.outbound == []
    assert world.failure()[0] == "BadConfiguration"


def test_a_service_of_the_namespace_is_named_by_its_service(world: ServiceWorld) -> None:
    ref = {"url": None, "serviceRef": {"name": "trainer", "port": 8080, "path": "/chorus", "scheme": "http"}}
    world.begin(service=ref)
    assert world.dispatcher.outbound[0].url == "http://trainer.default.svc:8080/chorus"


def test_a_missing_config_map_with_certificates_is_named(world: ServiceWorld) -> None:
    world.begin(service={"caConfigMap": {"name": "ours", "key": "ca.crt"}})
    assert world.dispatcher.outbound == []
    world.exchange_serves()
    told = world.condition("TrainingDataDelivered")
    assert "there is no key 'ca.crt' in a ConfigMap 'ours'" in told["message"]
    world.kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ours"}, "data": {"ca.crt": "PEM"}})
    world.later(31)
    assert {outbound.ca for outbound in world.dispatcher.outbound} == {"PEM"}


def test_runs_wait_for_a_service_that_has_just_been_asked(world: ServiceWorld) -> None:
    world.begin(answers=False)
    assert world.runs() == []
    row = world.project("shop")["status"]["plugins"][0]
    assert (row["phase"], row["reason"]) == ("queued", "AwaitingPlugin")
    world.service_answers()
    assert world.runs() == [RUN]


def test_what_a_service_needs_is_held_against_the_frame(world: ServiceWorld) -> None:
    world.begin(answers=False)
    world.service_answers(neededColumns=["outcome"])
    row = world.project("shop")["status"]["plugins"][0]
    assert (row["phase"], row["reason"]) == ("notApplicable", "MissingColumns")


def test_a_service_that_was_never_there_fails_the_run_as_offline(world: ServiceWorld) -> None:
    world.begin(answers=False)
    world.dispatcher.error = "it answered 404"
    world.later(600)
    assert world.runs() == [RUN]
    world.exchange_serves()
    world.later(601)
    reason, message = world.failure()
    assert reason == "PluginOffline"
    assert "has never answered an inquiry" in message
    assert "it answered 404" in message


# The good way


def test_a_run_keeps_the_service_account_that_it_was_accepted_with(world: ServiceWorld) -> None:
    world.begin(service={"serviceAccountName": "far"})
    world.put(make_service_plugin(service={"serviceAccountName": "another"}))
    stored = world.kube.find(CONFIG_MAPS, world.frozen(RUN))
    assert stored is not None
    assert json.loads(stored["data"]["run.json"])["serviceAccount"] == "far"


def test_a_service_is_told_of_its_data_when_the_exchange_serves(world: ServiceWorld) -> None:
    world.begin(spec={"parameters": {"depth": 3}})
    assert world.phase(RUN) == "queued"
    assert world.jobs("exchange") == [world.attempt(RUN)]
    world.pod_starts(world.attempt(RUN))
    assert world.phase(RUN) == "PREPROCESSING"
    assert world.dispatcher.events("TRAINING_DATA") == []
    world.pod_says(RUN, exchange={"podUid": "x", "certificate": CERTIFICATE})
    (event,) = world.dispatcher.events("TRAINING_DATA")
    uid = world.run(RUN)["metadata"]["uid"]
    assert (event["id"], event["subjectuid"], event["attempt"]) == (f"{uid}-1", uid, "1")
    assert read_run(event["subject"]) == RUN
    assert event["recipient"] == world.dispatcher.outbound[-1].url == "https://far.example.org/chorus"
    data = event["data"]
    host = f"https://{world.exchange(RUN)}.default.svc:8443"
    assert data["location"] == f"{host}/v1/frame/"
    assert data["exchange_url"] == f"{host}/v1/artefact/"
    assert (data["training_df_name"], data["parameters"], data["info"]) == (frame().name, {"depth": 3}, {"a": "b"})
    assert (data["exchange_ca"], data["messages_ca"]) == (CERTIFICATE, "the CA")
    assert world.condition("TrainingDataDelivered")["status"] == "True"


def test_the_exchange_knows_the_hash_of_the_token_that_the_service_gets(world: ServiceWorld) -> None:
    world.begin()
    world.exchange_serves()
    stored = world.kube.find(CONFIG_MAPS, world.exchange(RUN))
    assert stored is not None
    config = ExchangeConfig.model_validate_json(stored["data"]["job.json"])
    token = world.dispatcher.events("TRAINING_DATA")[0]["data"]["token"]
    assert config.token_sha256 == token_hash(token)
    assert config.hosts[0] == f"{world.exchange(RUN)}.default.svc"
    grant = TOKENS.read(token, now=world.now)
    assert isinstance(grant, RunGrant)
    assert (grant.uid, grant.attempt) == (world.run(RUN)["metadata"]["uid"], 1)
    assert token not in json.dumps(list(world.kube.objects.values()))


def test_the_exchange_sees_the_frame_and_its_own_run_and_has_a_name(world: ServiceWorld) -> None:
    world.begin()
    job = world.job(world.attempt(RUN))
    assert job is not None
    mounts = {m["mountPath"]: m for m in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/chorus/data"]["readOnly"]
    assert mounts["/chorus/run"]["subPath"] == f"runs/{world.run(RUN)['metadata']['uid']}"
    assert "/chorus/volume" not in mounts
    service = world.kube.find(SERVICES, world.exchange(RUN))
    assert service is not None
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": world.attempt(RUN)}
    assert service["metadata"]["ownerReferences"][0]["uid"] == world.run(RUN)["metadata"]["uid"]


def test_a_message_that_is_not_taken_is_sent_again_under_the_same_number(world: ServiceWorld) -> None:
    world.begin()
    world.dispatcher.error = "it answered 503"
    world.exchange_serves()
    told = world.condition("TrainingDataDelivered")
    assert (told["status"], told["reason"]) == ("False", "Undelivered")
    assert world.run(RUN)["status"]["reason"] == "Undelivered"
    world.later(60)
    world.dispatcher.error = ""
    world.later(60)
    ids = [event["id"] for event in world.dispatcher.events("TRAINING_DATA")]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert world.condition("TrainingDataDelivered")["status"] == "True"


def test_a_new_operator_sends_nothing_that_was_delivered_again(world: ServiceWorld) -> None:
    world.begin()
    world.exchange_serves()
    world.dispatcher.outbound.clear()
    world.dispatcher.restart()
    world.later(60)
    assert world.dispatcher.events("TRAINING_DATA") == []


def test_a_named_model_ends_the_exchange_and_is_then_published(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    assert world.phase(RUN) == "TRAINING"
    world.pod_says(RUN, modelName=MODEL)
    assert world.jobs("exchange") == []
    config = json.loads(world.kube.find(CONFIG_MAPS, world.publication(RUN))["data"]["job.json"])  # type: ignore[index]
    assert (config["kind"], config["optional"]) == ("files", True)
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"
    assert world.run(RUN)["status"]["model"]["metrics"]["f1"] == "0.9"
    assert world.project("shop")["status"]["phase"] == "TRAINED"


def test_nothing_is_published_while_the_exchange_can_still_write(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    pod = world.pods_of(world.attempt(RUN))[0]
    world.kube.put({**pod, "metadata": {**pod["metadata"], "finalizers": ["a.test/held"]}})
    world.pod_says(RUN, modelName=MODEL)
    assert world.jobs("publish") == []
    world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.settle()
    assert world.jobs("publish") == [world.publication(RUN)]


def test_a_service_that_left_no_file_has_trained_all_the_same(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.pod_says(RUN, modelName=MODEL)
    world.pod_starts(world.publication(RUN))
    world.job_ends(world.publication(RUN), record=TerminationRecord(outcome="succeeded"))
    status = world.run(RUN)["status"]
    assert (status["phase"], status["model"]["name"], status["model"]["uri"]) == ("TRAINED", "best", "")


def test_a_service_that_tells_a_digest_must_have_left_its_artefact(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.pod_says(RUN, modelName={**MODEL, "digest": "sha256:" + "ab" * 32})
    config = json.loads(world.kube.find(CONFIG_MAPS, world.publication(RUN))["data"]["job.json"])  # type: ignore[index]
    assert (config["expectedDigest"], config["optional"]) == ("sha256:" + "ab" * 32, False)


def test_a_service_without_an_artefact_is_not_published(world: ServiceWorld) -> None:
    world.begin(service={"artefact": "None"})
    config = json.loads(world.kube.find(CONFIG_MAPS, world.exchange(RUN))["data"]["job.json"])  # type: ignore[index]
    assert config["maxBytes"] == 0
    world.trains()
    world.pod_says(RUN, modelName=MODEL)
    assert world.phase(RUN) == "TRAINED"
    assert world.jobs("publish") == []


def test_a_model_that_is_named_before_anything_else_counts(world: ServiceWorld) -> None:
    world.begin(service={"artefact": "None"})
    world.exchange_serves()
    world.pod_says(RUN, modelName=MODEL, trainingStart={})
    assert world.phase(RUN) == "TRAINED"


# Bad ends


def test_a_service_that_does_not_suit_the_frame_ends_the_run(world: ServiceWorld) -> None:
    world.begin()
    world.exchange_serves()
    world.pod_says(RUN, dataReport={"applicable": False, "reason": "no outcome"})
    status = world.run(RUN)["status"]
    assert (status["phase"], status["message"]) == ("notApplicable", "no outcome")
    assert world.jobs("exchange") == []


def test_an_error_of_a_service_ends_the_run_with_its_words(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.pod_says(RUN, error={"detail": "the labels are all equal", "reason": "NoLabels"})
    assert world.failure() == ("TrainingFailed", "NoLabels: the labels are all equal")
    assert world.jobs("exchange") == []


def test_an_error_that_may_pass_is_tried_again_with_another_exchange(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.pod_says(RUN, error={"detail": "no GPU is free", "retryable": True})
    assert world.run(RUN)["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 1, "disruption": 0}
    assert world.jobs("exchange") == [world.attempt(RUN, 2)]
    world.exchange_serves(attempt=2)
    events = world.dispatcher.events("TRAINING_DATA")
    assert [event["attempt"] for event in events] == ["1", "2"]
    assert events[0]["data"]["token"] != events[1]["data"]["token"]
    assert world.condition("TrainingDataDelivered")["status"] == "True"


def silent_from_the_start(world: ServiceWorld) -> None:
    world.exchange_serves()


def silent_after_the_report(world: ServiceWorld) -> None:
    world.exchange_serves()
    world.pod_says(RUN, dataReport={"applicable": True})


def silent_in_training(world: ServiceWorld) -> None:
    world.trains()


def silent_at_the_end(world: ServiceWorld) -> None:
    world.trains()
    world.pod_says(RUN, progress={"percent": 100})


@pytest.mark.parametrize(
    ("until", "seconds", "reason"),
    [
        (silent_from_the_start, 600, "DataReportDeadlineExceeded"),
        (silent_after_the_report, 3600, "TrainingStartDeadlineExceeded"),
        (silent_in_training, 1800, "ProgressDeadlineExceeded"),
        (silent_at_the_end, 600, "ModelNameDeadlineExceeded"),
    ],
)
def test_a_silent_service_fails_at_the_deadline_of_what_did_not_come(
    world: ServiceWorld, until: Callable[[ServiceWorld], None], seconds: int, reason: str
) -> None:
    world.begin()
    until(world)
    world.later(seconds - 1)
    assert world.phase(RUN) in {"PREPROCESSING", "TRAINING"}
    world.later(2)
    assert world.failure()[0] == reason
    assert world.jobs("exchange") == []


def test_a_message_that_was_never_taken_is_named_at_the_deadline(world: ServiceWorld) -> None:
    world.begin()
    world.dispatcher.error = "it answered 302: redirects are not followed"
    world.exchange_serves()
    world.later(601)
    reason, message = world.failure()
    assert reason == "DataReportDeadlineExceeded"
    assert "TRAINING_DATA was not delivered: it answered 302" in message


def test_training_data_that_still_waits_for_its_turn_says_so_and_so_does_the_deadline(world: ServiceWorld) -> None:
    world.dispatcher = SimulatedDispatcher(lambda: world.now, limits=Limits(total=0))
    world.begin()
    world.exchange_serves()
    world.later(5)
    behind = "it waits for its turn, behind other messages of this namespace or to the same host"
    told = world.condition("TrainingDataDelivered")
    assert (told["status"], told["message"]) == ("False", f"The service has not taken TRAINING_DATA: {behind}.")
    world.later(600)
    reason, message = world.failure()
    assert reason == "DataReportDeadlineExceeded"
    assert f"TRAINING_DATA was not delivered: {behind}." in message


def test_training_data_that_finds_too_many_waiting_is_not_lost(world: ServiceWorld) -> None:
    world.dispatcher = SimulatedDispatcher(lambda: world.now, limits=Limits(waiting=0))
    world.begin()
    world.exchange_serves()
    world.later(5)
    assert (
        "messages of type TRAINING_DATA of this namespace wait already"
        in (world.condition("TrainingDataDelivered")["message"])
    )
    world.dispatcher = SimulatedDispatcher(lambda: world.now)
    world.later(30)
    assert len(world.dispatcher.events("TRAINING_DATA")) == 1
    assert world.condition("TrainingDataDelivered")["status"] == "True"


def test_an_exchange_that_fails_is_replaced_and_the_service_told_again(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.job_ends(world.attempt(RUN), exit_code=70, job_reason="PodFailurePolicy")
    assert world.run(RUN)["status"]["attempts"]["infrastructure"] == 1
    world.exchange_serves(attempt=2)
    assert len(world.dispatcher.events("TRAINING_DATA")) == 2


def test_an_exchange_that_somebody_deleted_is_replaced(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    for pod in world.pods_of(world.attempt(RUN)):
        world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.kube.objects.pop(("Job", "default", world.attempt(RUN)))
    world.settle()
    assert world.run(RUN)["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 1, "disruption": 0}


# Cancel and suspend


def test_a_cancelled_run_ends_its_exchange_and_the_service_is_told_nothing(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    outbound = len(world.dispatcher.outbound)
    world.put(make_run(RUN, plugin="far", spec={"cancel": True}))
    assert world.phase(RUN) == "cancelled"
    assert world.jobs("exchange") == []
    assert len(world.dispatcher.outbound) == outbound


def test_a_suspended_run_begins_anew_and_nobody_is_charged(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    assert world.phase(RUN) == "suspended"
    assert world.jobs("exchange") == []
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))
    assert world.run(RUN)["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 0}
    world.exchange_serves(attempt=2)
    assert len(world.dispatcher.events("TRAINING_DATA")) == 2


def test_a_run_that_goes_on_before_its_exchange_has_ended_begins_anew_too(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    pod = world.pods_of(world.attempt(RUN))[0]
    world.kube.put({**pod, "metadata": {**pod["metadata"], "finalizers": ["a.test/held"]}})
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))
    assert world.jobs("exchange") == []
    assert world.kube.find(PODS, pod["metadata"]["name"]) is not None
    world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.settle()
    assert world.run(RUN)["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 0}


def test_a_job_that_takes_its_time_to_go_is_not_taken_for_one_that_goes_on(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    job = world.job(world.attempt(RUN))
    assert job is not None
    world.kube.put({**job, "metadata": {**job["metadata"], "finalizers": ["a.test/held"]}})
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))
    assert world.run(RUN)["status"]["attempts"]["current"] == 1
    for kind in ("Pod", "Job"):
        for key in [key for key in world.kube.objects if key[0] == kind and key[2].startswith(world.attempt(RUN))]:
            world.kube.objects.pop(key)
    world.settle()
    assert world.run(RUN)["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 0, "disruption": 0}


def test_a_model_that_is_named_while_the_run_is_suspended_does_not_count(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.pod_says(RUN, modelName=MODEL)
    assert world.phase(RUN) == "suspended"
    world.put(make_run(RUN, plugin="far", spec={"suspend": False}))
    assert world.run(RUN)["status"]["attempts"]["current"] == 2
    assert world.jobs("publish") == []


def test_a_run_whose_model_is_named_is_published_although_it_is_suspended(world: ServiceWorld) -> None:
    world.begin()
    world.trains()
    world.pod_says(RUN, modelName=MODEL)
    world.put(make_run(RUN, plugin="far", spec={"suspend": True}))
    world.publish(RUN)
    assert world.phase(RUN) == "TRAINED"
