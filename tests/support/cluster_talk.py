"""Speak for a pod and for a service to two receivers in the cluster, part by part, and keep what came of it.

The plugins only wait: the test speaks for them, with the tokens that they were given, and once with that of the
service's own service account. Both are at their second attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from builders import make_plugin, make_service_plugin
from chorus_api.contract import MAX_BODY_BYTES
from cluster_builders import PIECES, claim_project
from harness.client import Manifest
from harness.cluster import OPERATOR_NAMESPACE, Cluster, Env, command, conditions
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
from threading import Condition
from urllib.parse import parse_qsl, urlsplit
events, came = [], Condition()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = dict(parse_qsl(urlsplit(self.path).query))
        with came:
            # The answer to a question about certain events waits until there is one.
            came.wait_for(lambda: not wanted or self.found(wanted))
            self.answer(200, json.dumps(self.found(wanted)).encode())

    def found(self, wanted):
        return [each for each in events if all(each.get(name) == value for name, value in wanted.items())]

    def do_POST(self):
        with came:
            events.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            came.notify_all()
        self.answer(202, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
GET_WHAT_CAME = """
import json, sys, urllib.parse, urllib.request
wanted = urllib.parse.urlencode(json.load(sys.stdin) or {})
print(urllib.request.urlopen(f"http://127.0.0.1:8080/?{wanted}", timeout=600).read().decode())
"""
SERVICE = "mute"
"""Name of the service's pod, of its Service and of its service account."""

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
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

    place: Env
    speakers: Mapping[str, Speaker]
    inquiry: Answers
    reports: Part
    refusals: Part
    counted: Counter[str]
    log: str
    models: Part
    late: Part


@asynccontextmanager
async def talking(cluster: Cluster, killer: Killer) -> AsyncIterator[Talk]:
    """Hold the talk, part by part, in a namespace of its own."""
    async with Env.make(cluster.api, "talk") as place:
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
            rounds = {who: [model_names(each)] for who, each in speakers.items()}
            rounds["pod"] += words_after_it(speakers["pod"])
            models = await say(post, speakers, rounds)
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


async def event(place: Env, kind: str, *, run: str | None = None, attempt: int = 0) -> Manifest:
    """Wait for an event at the service; of a run's attempt, if one is given."""
    await place.wait("Pod", SERVICE, where=_is_ready, seconds=SECONDS)
    wanted = {"type": f"dev.chorus.{kind}"} | ({"subjectuid": run, "attempt": str(attempt)} if run else {})
    found: list[Manifest] = await place.python(SERVICE, GET_WHAT_CAME, given=wanted, seconds=SECONDS)
    return found[0]


def _is_ready(pod: Manifest) -> bool:
    return bool(conditions(pod).get("Ready", {}).get("status") == "True")


async def pod_name(place: Env) -> str:
    """The container's pod of the second attempt."""
    return str((await place.pod_of(RUNS["pod"], attempt=2))["metadata"]["name"])


async def second_attempts(place: Env, killer: Killer, post: Post) -> dict[str, Speaker]:
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


async def refused_letters(place: Env, speakers: Mapping[str, Speaker], *, asked: str) -> dict[str, list[list[Letter]]]:
    """A letter for each thing that can be wrong, from each speaker, all at once and in turns to both receivers."""
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


def model_names(who: Speaker) -> list[Letter]:
    """MODEL_NAME to both receivers at once."""
    model = {"model_name": "mine", "metrics": {"final_loss": 0.25}}
    return [who.says("MODEL_NAME to both at once", "MODEL_NAME", receiver=n, sequence=40, **model) for n in (0, 1)]


def words_after_it(who: Speaker) -> list[list[Letter]]:
    """What should have come before MODEL_NAME, and another one with an older number."""
    return [
        [who.says("TRAINING_START after it", "TRAINING_START", receiver=1, sequence=3)],
        [who.says("another name of an older number", "MODEL_NAME", sequence=39, model_name="older")],
    ]


def late_words(who: Speaker) -> list[Letter]:
    """What comes when the run has ended."""
    return [
        who.says("MODEL_NAME", "MODEL_NAME", sequence=50, model_name="late"),
        who.says("ERROR_REPORT", "ERROR_REPORT", sequence=51, detail="late", receiver=1),
        who.says("progress", "progress", sequence=52, percent=1),
    ]
