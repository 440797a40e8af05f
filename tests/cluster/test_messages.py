"""Every message of a plugin over the cluster's network, from a pod and from a service, to two receivers.

The plugins only wait: the test speaks for them, with the tokens that they were given, and once with that of the
service's own service account. Both are at their second attempt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from builders import make_plugin, make_service_plugin
from chorus_api.contract import MAX_BODY_BYTES
from cluster_builders import PIECES, claim_project
from harness.client import Manifest, eventually
from harness.cluster import OPERATOR_NAMESPACE, Cluster, Place, command, conditions
from harness.hands import POD, lay_hands
from harness.killer import Killer
from harness.post import Letter, Post, forged, receivers, token_of
from message_builders import FRAME, message

SECONDS = 300
RUNS = {"pod": "talk-pod-1", "service": "talk-service-1"}
WAIT = 'until [ -s /tmp/code ]; do sleep 1; done; exit "$(cat /tmp/code)"'
KEEP_WHAT_COMES = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
events = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, json.dumps(events).encode())

    def do_POST(self):
        events.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.answer(202, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
GET_WHAT_CAME = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080', timeout=20).read().decode())"
SERVICE = "mute"
"""Name of the service's pod, of its Service and of its service account."""

REFUSED = {
    "no token": (401, "noToken"),
    "a forged token": (401, "badToken"),
    "a token for another audience": (401, "badToken"),
    "a token that no pod is bound to": (403, "notAPod"),
    "a pod that is none of ours": (403, "wrongPod"),
    "who was asked something else": (403, "wrongPod"),
    "a message of a prepare pod": (403, "wrongPod"),
    "a message of an exchange": (403, "wrongPod"),
    "another run": (403, "wrongRun"),
    "an attempt that is over": (403, "wrongAttempt"),
    "an attempt that the sender is not": (403, "wrongAttempt"),
    "an attempt that is still to come": (403, "wrongAttempt"),
    "another Project's number": (403, "wrongIds"),
    "another Plugin's number": (403, "wrongIds"),
    "an unknown type": (422, "unknownType"),
    "no message at all": (422, "malformed"),
    "no JSON": (422, "malformed"),
    "a field that is missing": (422, "malformed"),
    "a loss that is no number": (422, "malformed"),
    "a body over 64 KiB": (413, "tooLarge"),
}
Answers = Mapping[str, list[tuple[int, str | None]]]


@dataclass
class Speaker:
    """Who the test speaks for: a run's plugin at its second attempt, and the tokens of both."""

    run: Manifest
    ids: dict[str, int]
    first: str
    token: str
    own: str = ""
    """Token of the service account that the Plugin names."""

    def body(self, kind: str, *, attempt: int = 2, sequence: int = 1, ids: Any = None, **data: Any) -> bytes:
        subject = self.run["metadata"]["uid"]
        return message(kind, subject=subject, attempt=attempt, sequence=sequence, ids=ids or self.ids, **data)

    def says(self, name: str, kind: str, *, receiver: int = 0, **data: Any) -> Letter:
        return Letter(name, self.token, self.body(kind, **data), receiver)


@dataclass(frozen=True)
class Part:
    """What was answered in one part of the talk, and how both runs were after it."""

    answers: Mapping[str, Answers]
    runs: Mapping[str, Manifest]

    def status(self, who: str) -> Any:
        return self.runs[who]["status"]


@dataclass(frozen=True)
class Talk:
    """The parts of the talk, in order; what was refused, as the operators count it; and their logs."""

    place: Place
    speakers: Mapping[str, Speaker]
    inquiry: Answers
    reports: Part
    refusals: Part
    counted: Counter[str]
    log: str
    models: Part
    late: Part


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def talk(cluster: Cluster, killer: Killer) -> AsyncIterator[Talk]:
    async with Place.make(cluster.api, "talk") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        await place.apply(*plugins(cluster.operator_image))
        inquiry = await event(place, "ONLINE_INQUIRY")
        online = {**inquiry["data"], "subject": inquiry["subjectuid"]}
        async with receivers(place, count=2) as addresses:
            post = Post(place, SERVICE, addresses)
            asked = await post.send([online_report(online, receiver) for receiver in (0, 1)])
            await place.apply(claim_project("talk", plugins=[{"name": n, "pluginRef": {"name": n}} for n in RUNS]))
            speakers = await second_attempts(place, killer, post)
            reports = await say(post, speakers, {who: data_reports(each) for who, each in speakers.items()})
            before = await post.refused()
            refusals = await say(post, speakers, await refused_letters(place, speakers, asked=online["token"]))
            counted = await post.refused() - before
            words = ("-n", OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=chorus-operator", "--tail=-1")
            log = await command("kubectl", *words)
            models = await say(
                post, speakers, {"pod": backwards(speakers["pod"]), "service": forwards(speakers["service"])}
            )
            await place.kubectl("exec", await pod_name(place), "-c", "plugin", "--", "sh", "-c", "echo 0 > /tmp/code")
            for run in RUNS.values():
                await place.wait("TrainingRun", run, phase="TRAINED", seconds=SECONDS)
            late = await say(post, speakers, {who: [late_words(each)] for who, each in speakers.items()})
            yield Talk(place, speakers, asked, reports, refusals, counted, log, models, late)


def plugins(image: str) -> list[Manifest]:
    """A container that waits, and a service that keeps what it is told."""
    waits = {"image": image, "command": ["sh", "-c", WAIT], "describe": False, "artefact": "None"}
    container = {"type": "container", "lora": None, "container": waits, "resources": PIECES}
    reference = {"name": SERVICE, "port": 8080, "path": "/", "scheme": "http"}
    service = {"url": None, "serviceRef": reference, "artefact": "None", "serviceAccountName": SERVICE}
    main = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", KEEP_WHAT_COMES],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    who = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"serviceAccountName": SERVICE, "containers": [main], "securityContext": who}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": SERVICE, "labels": {"app": SERVICE}}, "spec": spec}
    ports = {"selector": {"app": SERVICE}, "ports": [{"port": 8080}]}
    name = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": ports}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE}}
    return [account, pod, name, make_plugin("pod", spec=container), make_service_plugin("service", service=service)]


async def event(place: Place, kind: str, *, run: str | None = None, attempt: int = 0) -> Manifest:
    """Wait for an event at the service; of a run's attempt, if one is given."""

    async def came() -> Manifest | None:
        pod = place.record.find("Pod", SERVICE)
        if conditions(pod or {}).get("Ready", {}).get("status") != "True":
            return None
        for each in await place.python(SERVICE, GET_WHAT_CAME):
            is_it = each["type"] == f"dev.chorus.{kind}"
            if is_it and (run is None or (each["subjectuid"], each["attempt"]) == (run, str(attempt))):
                found: Manifest = each
                return found
        return None

    found = await eventually(came, what=f"{kind} at the service", seconds=SECONDS)
    assert found is not None
    return found


async def pod_name(place: Place) -> str:
    """The container's pod of the second attempt."""
    return str((await place.pod_of(RUNS["pod"], attempt=2))["metadata"]["name"])


async def second_attempts(place: Place, killer: Killer, post: Post) -> dict[str, Speaker]:
    """End the first attempt of both runs as their surroundings would, and wait for the second."""
    pod = await place.pod_of(RUNS["pod"], seconds=SECONDS)
    service = await place.wait("TrainingRun", RUNS["service"], phase="PREPROCESSING", seconds=SECONDS)
    uid = service["metadata"]["uid"]
    first = (await event(place, "TRAINING_DATA", run=uid, attempt=1))["data"]
    error = message("ERROR_REPORT", subject=uid, ids=ids_of(first), detail="the disk is full", retryable=True)
    old = await token_of(place, pod)
    assert any("sleep" in killed or "until" in killed for killed in await killer.kill(pod))
    assert await post.send([Letter("error", first["token"], error)]) == {"error": [(202, None)]}
    second = (await event(place, "TRAINING_DATA", run=uid, attempt=2))["data"]
    again = await place.pod_of(RUNS["pod"], attempt=2, seconds=SECONDS)
    numbers = {name: int(again["metadata"]["annotations"][f"chorus.dev/{name}-id"]) for name in ("project", "plugin")}
    ids = {f"{name}_id": number for name, number in numbers.items()}
    runs = {who: await place.api.get("TrainingRun", run, namespace=place.namespace) for who, run in RUNS.items()}
    own = await token_of(place, await place.api.get("Pod", SERVICE, namespace=place.namespace), account=SERVICE)
    return {
        "pod": Speaker(runs["pod"], ids, old, await token_of(place, again)),
        "service": Speaker(runs["service"], ids_of(second), first["token"], second["token"], own),
    }


def ids_of(data: Mapping[str, Any]) -> dict[str, int]:
    return {name: data[name] for name in ("project_id", "plugin_id")}


async def say(post: Post, speakers: Mapping[str, Speaker], rounds: Mapping[str, list[list[Letter]]]) -> Part:
    """Post what each has to say, and look at the runs."""
    answers = {who: await post.send(*rounds[who]) for who in speakers}
    api, namespace = post.place.api, post.place.namespace
    runs = {who: await api.get("TrainingRun", run, namespace=namespace) for who, run in RUNS.items()}
    return Part(answers, runs)


def online_report(inquiry: Mapping[str, Any], receiver: int) -> Letter:
    report = {"id": "mute", "name": "Mute", "needed_columns": ["prompt"]}
    body = message("ONLINE_REPORT", subject=inquiry["subject"], attempt=0, ids={}, **report)
    return Letter("to both at once", inquiry["token"], body, receiver)


def data_reports(who: Speaker) -> list[list[Letter]]:
    """DATA_REPORT to both receivers at once, and again; then progress of two numbers at once."""
    subject = {"subject": who.run["metadata"]["name"]}
    start = who.body("TRAINING_START", sequence=3, attributes=subject)
    return [
        [who.says("DATA_REPORT to both at once", "DATA_REPORT", receiver=n, applicable=True) for n in (0, 1)],
        [who.says("DATA_REPORT again", "DATA_REPORT", receiver=1, sequence=2, applicable=True)],
        [who.says("an older number that says otherwise", "DATA_REPORT", applicable=False)],
        [Letter("TRAINING_START by a service account", who.own, start, receiver=1)] if who.own else [],
        [who.says("progress", "progress", receiver=n, sequence=30 - n, percent=60 - n) for n in (0, 1)],
    ]


async def refused_letters(
    place: Place, speakers: Mapping[str, Speaker], *, asked: str
) -> dict[str, list[list[Letter]]]:
    """One letter for each name of REFUSED from each speaker, all at once and in turns to both receivers."""
    pod, service = speakers["pod"], speakers["service"]
    hands = await place.api.get("Pod", POD, namespace=place.namespace)
    strange = {
        "a token that no pod is bound to": await token_of(place, None),
        "a pod that is none of ours": await token_of(place, hands, account="default"),
        "who was asked something else": asked,
    }
    training = await place.pod_of(RUNS["pod"], attempt=2)
    audience = await token_of(place, training, audience="vault")
    found: dict[str, list[list[Letter]]] = {}
    for who, other in ((pod, service), (service, pod)):
        name = "MODEL_NAME"
        model = {"model_name": "forged", "sequence": 10_000}
        body = who.body(name, **model)
        project, plugin = who.ids["project_id"] + 1, who.ids["plugin_id"] + 1
        letters = [
            *(Letter(what, token, body) for what, token in strange.items()),
            Letter("no token", "", body),
            Letter("a forged token", forged(who.token), body),
            Letter("a token for another audience", audience, body),
            Letter("another run", other.token, body),
            Letter("an attempt that is over", who.first, who.body(name, attempt=1, **model)),
            Letter("an attempt that the sender is not", who.token, who.body(name, attempt=1, **model)),
            Letter("an attempt that is still to come", who.token, who.body(name, attempt=3, **model)),
            who.says("another Project's number", name, ids=who.ids | {"project_id": project}, **model),
            who.says("another Plugin's number", name, ids=who.ids | {"plugin_id": plugin}, **model),
            who.says("a message of a prepare pod", "FRAME_READY", prepare_key="abc", frame=FRAME),
            who.says("a message of an exchange", "EXCHANGE_READY", certificate=CERTIFICATE),
            who.says("an unknown type", "SELF_DESTRUCT"),
            Letter("no message at all", who.token, b"{}"),
            Letter("no JSON", who.token, body[:-1]),
            who.says("a field that is missing", "DATA_REPORT"),
            who.says("a loss that is no number", name, metrics={"final_loss": float("nan")}, **model),
            who.says("a body over 64 KiB", "ERROR_REPORT", detail="x" * MAX_BODY_BYTES),
        ]
        turns = [Letter(each.name, each.token, each.body, number % 2) for number, each in enumerate(letters)]
        found[str(who.run["spec"]["plugin"])] = [turns]
    return found


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def backwards(who: Speaker) -> list[list[Letter]]:
    """MODEL_NAME to both receivers at once, and only then what should have come before."""
    model = {"model_name": "mine", "metrics": {"final_loss": 0.25}}
    return [
        [who.says("MODEL_NAME to both at once", "MODEL_NAME", receiver=n, sequence=40, **model) for n in (0, 1)],
        [who.says("TRAINING_START after it", "TRAINING_START", receiver=1, sequence=3)],
        [who.says("another name of an older number", "MODEL_NAME", sequence=39, model_name="older")],
    ]


def forwards(who: Speaker) -> list[list[Letter]]:
    """MODEL_NAME to both receivers at once."""
    return backwards(who)[:1]


def late_words(who: Speaker) -> list[Letter]:
    """What comes when the run has ended."""
    return [
        who.says("MODEL_NAME", "MODEL_NAME", sequence=50, model_name="late"),
        who.says("ERROR_REPORT", "ERROR_REPORT", sequence=51, detail="late", receiver=1),
        who.says("progress", "progress", sequence=52, percent=1),
    ]


@pytest.mark.parametrize("who", RUNS)
@pytest.mark.parametrize("what", REFUSED)
async def test_a_message_is_refused_for(talk: Talk, what: str, who: str) -> None:
    assert talk.refusals.answers[who][what] == [REFUSED[what]]


async def test_every_refusal_is_counted_and_logged_with_its_cause(talk: Talk) -> None:
    expected = Counter(cause for _, cause in REFUSED.values() for _ in RUNS)
    assert expected <= talk.counted
    lines = [json.loads(line) for line in talk.log.splitlines() if '"message refused"' in line]
    assert expected.keys() <= {line["cause"] for line in lines}


@pytest.mark.parametrize("who", RUNS)
async def test_refused_messages_leave_no_trace_in_status(talk: Talk, who: str) -> None:
    before, after = talk.reports.status(who), talk.refusals.status(who)
    assert after["report"] == before["report"]
    assert after["attempts"] == before["attempts"]
    assert after["phase"] == "TRAINING"


@pytest.mark.parametrize("who", RUNS)
async def test_what_comes_twice_or_to_two_receivers_at_once_is_taken_once(talk: Talk, who: str) -> None:
    answers = talk.reports.answers[who]
    assert answers["DATA_REPORT to both at once"] == [(202, None), (204, None)]
    assert answers["DATA_REPORT again"] == [(204, None)]
    assert talk.models.answers[who]["MODEL_NAME to both at once"] == [(202, None), (204, None)]
    assert talk.models.status(who)["report"]["modelName"]["modelName"] == "mine"


@pytest.mark.parametrize("who", RUNS)
async def test_an_older_number_never_replaces_what_is_known(talk: Talk, who: str) -> None:
    assert talk.reports.answers[who]["an older number that says otherwise"] == [(204, None)]
    assert talk.reports.status(who)["report"]["dataReport"]["applicable"] is True
    seen = [version.get("status", {}) for version in talk.place.record.versions("TrainingRun", name=RUNS[who])]
    percents = [status["progress"]["percent"] for status in seen if "progress" in status]
    assert percents == sorted(percents)
    assert {percent for percent in percents if percent < 100} <= {59, 60}
    assert 60 in percents


async def test_a_service_speaks_by_the_service_account_that_its_plugin_names(talk: Talk) -> None:
    assert talk.reports.answers["service"]["TRAINING_START by a service account"] == [(202, None)]
    assert "trainingStart" in talk.reports.status("service")["report"]


async def test_a_model_that_is_named_before_training_starts_counts_as_both(talk: Talk) -> None:
    answers, report = talk.models.answers["pod"], talk.models.status("pod")["report"]
    assert "trainingStart" in report
    assert answers["TRAINING_START after it"] == [(204, None)]
    assert answers["another name of an older number"] == [(204, None)]


@pytest.mark.parametrize("who", RUNS)
async def test_what_was_said_in_time_makes_the_run_trained_and_what_comes_late_changes_nothing(
    talk: Talk, who: str
) -> None:
    refused = {"pod": [(204, None)], "service": [(403, "wrongRun")]}[who]
    assert talk.late.answers[who] == {name: refused for name in ("MODEL_NAME", "ERROR_REPORT", "progress")}
    status = talk.late.status(who)
    assert (status["phase"], status["report"]["modelName"]["modelName"]) == ("TRAINED", "mine")
    assert "error" not in status["report"]
    assert status["model"]["metrics"] == {"final_loss": "0.25"}


async def test_a_service_that_answers_an_inquiry_is_online_once(talk: Talk) -> None:
    assert {status for status, _ in talk.inquiry["to both at once"]} <= {202, 204}
    plugin = await talk.place.wait("Plugin", "service", where=is_online, seconds=SECONDS)
    assert plugin["status"]["report"]["neededColumns"] == ["prompt"]


def is_online(plugin: Manifest) -> bool:
    return conditions(plugin).get("Online", {}).get("status") == "True"


async def test_a_service_is_told_the_frame_the_numbers_and_where_the_data_is(talk: Talk) -> None:
    project = await talk.place.api.get("Project", "talk", namespace=talk.place.namespace)
    told = [
        each for each in await talk.place.python(SERVICE, GET_WHAT_CAME) if each["type"] == "dev.chorus.TRAINING_DATA"
    ]
    assert [(each["attempt"], each["id"]) for each in told] == [
        (str(n), f"{talk.speakers['service'].run['metadata']['uid']}-{n}") for n in (1, 2)
    ]
    for each in told:
        assert each["data"]["training_df_name"] == project["status"]["dataset"]["name"]
        assert each["data"]["project_id"] == project["status"]["id"]
        assert f"{RUNS['service']}-{each['attempt']}" in each["data"]["location"]


async def test_a_killed_training_is_tried_again_as_the_infrastructures_fault(talk: Talk) -> None:
    for who, reason in (("pod", "Killed"), ("service", "TrainingFailed")):
        status = talk.refusals.status(who)
        assert status["attempts"] == {"current": 2, "user": 0, "infrastructure": 1, "disruption": 0}
        assert status["failure"]["reason"] == reason
    assert talk.refusals.status("pod")["failure"]["exitCode"] == 137
