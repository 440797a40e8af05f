"""The client against an HTTP server that answers as told: retries, errors, paging, headers."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.aio.client import Configuration

from chorus_kube.bodies import json_body, yaml_body
from chorus_kube.client import Deleted, Kube
from chorus_kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Unavailable,
)
from chorus_kube.login import Login
from chorus_kube.resources import CONFIG_MAPS, JOBS, PODS, PROJECTS, TRAINING_RUNS
from fakes import FakeKube

RUN = {"apiVersion": "chorus.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": "run", "namespace": "ns"}}


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def refusal(code: int, reason: str = "", message: str = "no", **details: Any) -> Answer:
    return Answer(code, {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details})


LOST = Answer(-1)
MISSING = refusal(404, "NotFound", "not found", name="run")


@dataclass
class Server:
    """Gives its answers in order, the last one for ever, and remembers what it was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [Answer(200)])
    requests: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(request)
        self.bodies.append(json.loads(body) if body else None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is LOST:
            assert request.transport is not None
            request.transport.abort()
        if isinstance(answer.body, bytes):
            return web.Response(status=answer.status, body=answer.body)
        return web.json_response(answer.body, status=max(answer.status, 200), headers=answer.headers)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    answering = Server()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await answering.handle(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as listening:
        answering.url = str(listening.make_url("")).rstrip("/")
        yield answering


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[Kube]:
    configuration = Configuration(host=server.url, api_key={"BearerToken": "bearer secret"})
    async with Kube(Login(configuration), deadline=5) as client:
        yield client


async def get_run(kube: Kube) -> Any:
    return await kube.get(TRAINING_RUNS, namespace="ns", name="run")


async def test_a_loaded_token_goes_with_every_request(kube: Kube, server: Server) -> None:
    await get_run(kube)
    assert server.requests[0].headers["Authorization"] == "bearer secret"
    assert server.asked == ["GET /apis/chorus.dev/v1alpha1/namespaces/ns/trainingruns/run"]


async def test_the_credentials_are_shared_with_other_clients(kube: Kube, server: Server) -> None:
    credentials = await kube.credentials()
    assert (credentials.server, credentials.token) == (server.url, "secret")
    assert "secret" not in repr(credentials)


async def test_a_missing_object_is_none(kube: Kube, server: Server) -> None:
    server.answers = [MISSING]
    assert await get_run(kube) is None


@pytest.mark.parametrize("name", ["", ".", "..", "run/status", "../../../../api/v1/secrets", "%2e%2e"])
async def test_a_name_that_would_lead_elsewhere_is_no_objects_name_and_is_not_asked_for(
    kube: Kube, server: Server, name: str
) -> None:
    assert await kube.get(TRAINING_RUNS, namespace="ns", name=name) is None
    assert await kube.get(TRAINING_RUNS, namespace=name, name="run") is None
    assert not (await kube.delete(TRAINING_RUNS, namespace="ns", name=name, uid="u")).found
    with pytest.raises(NotFound):
        await kube.patch(TRAINING_RUNS, namespace="ns", name=name, merge_patch={}, uid="u", resource_version="1")
    assert server.asked == []


async def test_paths_and_queries_are_quoted(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200, {"metadata": {}, "items": []})]
    await kube.get(TRAINING_RUNS, namespace="ns", name="rün?x=1#y")
    await kube.list(JOBS, labels={"a": "b c&d=é+"})
    assert server.requests[0].raw_path.endswith("/r%C3%BCn%3Fx%3D1%23y")
    assert server.requests[1].query["labelSelector"] == "a=b c&d=é+"


async def test_no_compression_is_asked_for_and_cookies_are_not_kept(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200, {}, {"Set-Cookie": "a=b"})]
    await get_run(kube)
    await get_run(kube)
    assert not {"Accept-Encoding", "Cookie"} & set(server.requests[1].headers)


async def test_an_answer_that_is_no_json_is_no_answer(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200, b"<html>log in</html>")]
    with pytest.raises(Unavailable, match="log in"):
        await get_run(kube)


@pytest.mark.parametrize("body", [b"404 page not found\n", json.dumps({"kind": "Status", "details": {}}).encode()])
async def test_a_kind_that_is_not_served_is_not_a_missing_object(kube: Kube, server: Server, body: bytes) -> None:
    server.answers = [Answer(404, body)]
    with pytest.raises(Unavailable):
        await get_run(kube)


@pytest.mark.parametrize(
    "first",
    [
        refusal(429, "TooManyRequests"),
        Answer(429, {}, {"Retry-After": "0"}),
        refusal(500, "InternalError"),
        refusal(503, "ServiceUnavailable", retryAfterSeconds=0),
        refusal(504, "Timeout"),
        LOST,
    ],
    ids=lambda answer: str(answer.status),
)
async def test_a_read_is_tried_again_when_the_api_server_is_away(kube: Kube, server: Server, first: Answer) -> None:
    server.answers = [first, Answer(200, {"kind": "TrainingRun"})]
    assert await get_run(kube) == {"kind": "TrainingRun"}
    assert len(server.requests) == 2


async def test_a_pause_longer_than_the_deadline_is_left_to_the_caller(kube: Kube, server: Server) -> None:
    server.answers = [Answer(429, {}, {"Retry-After": "60"})]
    with pytest.raises(Unavailable) as caught:
        await get_run(kube)
    assert caught.value.retry_after == 60
    assert len(server.requests) == 1


async def test_retries_end_with_the_deadline(server: Server) -> None:
    server.answers = [refusal(503)]
    async with Kube(Login(Configuration(host=server.url)), deadline=0.5) as kube:
        with pytest.raises(Unavailable, match="trainingruns"):
            await get_run(kube)
    assert 2 <= len(server.requests) <= 6


async def test_an_api_server_that_hangs_is_given_up_at_the_deadline() -> None:
    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        closed = request.transport
        while not closed.is_closing():  # until the client gives up
            await _turn()
        return web.Response()

    async with TestServer(_app(hang)) as listening:
        configuration = Configuration(host=str(listening.make_url("")).rstrip("/"))
        async with Kube(Login(configuration), deadline=0.3) as kube:
            with pytest.raises(Unavailable, match="did not answer"):
                await get_run(kube)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(409, "Conflict"), Conflict),
        (refusal(409, "AlreadyExists"), AlreadyExists),
        (refusal(403, "Forbidden", "exceeded quota"), Forbidden),
        (refusal(401, "Unauthorized"), Forbidden),
        (refusal(422, "Invalid", "spec.r: must be above 0"), Invalid),
        (refusal(400, "BadRequest"), Invalid),
        (refusal(413, "RequestEntityTooLarge"), Invalid),
    ],
)
async def test_a_refusal_is_told_at_once_with_the_servers_words(
    kube: Kube, server: Server, answer: Answer, error: type[KubeError]
) -> None:
    server.answers = [answer]
    with pytest.raises(error) as caught:
        await kube.replace({**RUN, "spec": {}}, resource_version="7")
    assert type(caught.value) is error
    assert answer.body["message"] in str(caught.value)
    assert caught.value.reason == answer.body["reason"]
    assert len(server.requests) == 1


async def test_a_creation_is_not_repeated_when_its_answer_was_lost(kube: Kube, server: Server) -> None:
    server.answers = [LOST, Answer(201)]
    with pytest.raises(Unavailable):
        await kube.create(RUN)
    assert len(server.requests) == 1


async def test_a_creation_that_was_turned_away_is_repeated(kube: Kube, server: Server) -> None:
    server.answers = [Answer(429, {}, {"Retry-After": "0"}), Answer(201, RUN)]
    assert await kube.create(RUN) == RUN
    assert server.asked == ["POST /apis/chorus.dev/v1alpha1/namespaces/ns/trainingruns"] * 2
    assert server.requests[0].query["fieldManager"] == "chorus"


async def test_lists_are_read_page_by_page_and_items_get_their_type(kube: Kube, server: Server) -> None:
    server.answers = [
        Answer(200, {"metadata": {"continue": "next"}, "items": [{"metadata": {"name": "a"}}]}),
        Answer(200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    jobs = await kube.list(JOBS, labels={"y": "2", "x": "1"})
    assert [(job["kind"], job["metadata"]["name"]) for job in jobs] == [("Job", "a"), ("Job", "b")]
    assert server.asked == ["GET /apis/batch/v1/jobs"] * 2
    assert server.requests[0].query["labelSelector"] == "x=1,y=2"
    assert server.requests[1].query["continue"] == "next"


async def test_a_list_whose_position_expired_starts_again(kube: Kube, server: Server) -> None:
    server.answers = [
        Answer(200, {"metadata": {"continue": "next"}, "items": [{"metadata": {"name": "old"}}]}),
        refusal(410, "Expired"),
        Answer(200, {"metadata": {}, "items": [{"metadata": {"name": "new"}}]}),
    ]
    assert [job["metadata"]["name"] for job in await kube.list(JOBS, namespace="ns")] == ["new"]


async def test_names_are_read_without_the_objects(kube: Kube, server: Server) -> None:
    columns = [{"name": "Age", "format": ""}, {"name": "Name", "format": "name"}]
    rows = [{"cells": ["3d", "home"]}, {"cells": ["5h", "shop"]}]
    server.answers = [Answer(200, {"kind": "Table", "columnDefinitions": columns, "rows": rows})]
    assert await kube.names(PROJECTS, namespace="ns", most=2) == ["home", "shop"]
    assert server.asked == ["GET /apis/chorus.dev/v1alpha1/namespaces/ns/projects"]
    assert server.requests[0].query == {"limit": "2", "includeObject": "None"}
    assert "as=Table" in server.requests[0].headers["Accept"]
    assert kube.requests == {("list", "projects", 200): 1}


async def test_a_status_write_names_the_version_that_was_read(kube: Kube, server: Server) -> None:
    await kube.patch_status(TRAINING_RUNS, namespace="ns", name="run", status={"phase": "x"}, resource_version="7")
    assert server.asked == ["PATCH /apis/chorus.dev/v1alpha1/namespaces/ns/trainingruns/run/status"]
    assert server.bodies == [{"metadata": {"resourceVersion": "7"}, "status": {"phase": "x"}}]
    assert server.requests[0].headers["Content-Type"] == "application/merge-patch+json"


async def test_a_patch_names_the_object_and_the_version_that_was_read(kube: Kube, server: Server) -> None:
    patch = {"metadata": {"annotations": {"a": "b"}}, "spec": {"suspend": True}}
    await kube.patch(JOBS, namespace="ns", name="job", merge_patch=patch, uid="u", resource_version="7")
    meant = {"annotations": {"a": "b"}, "uid": "u", "resourceVersion": "7"}
    assert server.bodies == [{"metadata": meant, "spec": {"suspend": True}}]
    assert server.requests[0].headers["Content-Type"] == "application/merge-patch+json"


async def test_a_replacement_names_the_version_that_was_read(kube: Kube, server: Server) -> None:
    await kube.replace(RUN, resource_version="7")
    assert server.asked == ["PUT /apis/chorus.dev/v1alpha1/namespaces/ns/trainingruns/run"]
    assert server.bodies == [{**RUN, "metadata": {**RUN["metadata"], "resourceVersion": "7"}}]  # type: ignore[dict-item]


WRITES = {
    "create": set(),  # it does nothing when the name is taken
    "replace": {"resource_version"},
    "patch": {"uid", "resource_version"},
    "patch_status": {"resource_version"},
    "apply_status": {"resource_version"},
    "delete": {"uid"},
}
ELSE = {"close", "connect", "credentials", "requests", "token_review"}
READS = {"get", "list", "names", "namespace_uid", "served", "pod_log", "server_addresses", "token_issuer", "token_keys"}


def test_no_write_can_leave_out_which_object_is_meant() -> None:
    methods = {name for name in vars(Kube) if not name.startswith("_")}
    assert methods == WRITES.keys() | READS | ELSE | {"watch"}
    for client in (Kube, FakeKube):
        for name, wanted in WRITES.items():
            parameters = inspect.signature(getattr(client, name)).parameters
            loose = {each for each in wanted if parameters[each].default is not inspect.Parameter.empty}
            optional = {each for each in wanted if parameters[each].annotation != "str"}
            assert not loose | optional, f"{client.__name__}.{name} does without {loose | optional}"


async def test_an_applied_status_names_its_manager_and_takes_its_fields(kube: Kube, server: Server) -> None:
    await kube.apply_status(
        TRAINING_RUNS,
        namespace="ns",
        name="run",
        status_part={"report": {}},
        manager="chorus-report",
        resource_version="7",
    )
    assert server.requests[0].content_type == "application/apply-patch+yaml"
    assert dict(server.requests[0].query) == {"fieldManager": "chorus-report", "force": "true"}
    assert server.bodies == [
        {
            "apiVersion": "chorus.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": "run", "namespace": "ns", "resourceVersion": "7"},
            "status": {"report": {}},
        }
    ]


ODD = '\\"/ud83D🚀\x00\x7f\x85\x9f\u2028\u2029\ufeff\ufffe\uffff\U0010ffff'


@settings(max_examples=120, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet=ODD, max_size=20))
def test_an_applied_body_is_json_and_yaml_at_once(text: str) -> None:
    """YAML's own limit for a key is 1,024 characters, escapes included."""
    body = yaml_body({"key": {text: [text]}})
    assert json.loads(body) == {"key": {text: [text]}}
    assert yaml.safe_load(body) == {"key": {text: [text]}}


@pytest.mark.parametrize("odd", [10**30, "\ud800"])
def test_what_the_fast_writer_refuses_is_left_to_the_api_server_to_judge(odd: object) -> None:
    assert json.loads(json_body({"key": odd})) == {"key": odd}


DELETED = {"name": "run", "deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (Answer(200, {"kind": "Status", "status": "Success", "details": {"name": "run"}}), False),
        (Answer(200, {**RUN, "metadata": {"name": "run"}}), False),
        (Answer(200, {**RUN, "metadata": {**DELETED, "deletionGracePeriodSeconds": 0}}), False),
        (Answer(200, {**RUN, "metadata": {**DELETED, "deletionGracePeriodSeconds": 30}}), True),
        (Answer(202, {**RUN, "metadata": {**DELETED, "finalizers": ["example.com/hold"]}}), True),
    ],
    ids=["a Status", "an object that was", "a pod without grace", "a pod with grace", "a finalizer"],
)
async def test_deleting_tells_what_is_left(kube: Kube, server: Server, answer: Answer, left: bool) -> None:
    server.answers = [answer]
    deleted = await kube.delete(TRAINING_RUNS, namespace="ns", name="run", uid="u")
    assert deleted == Deleted(found=True, remaining=answer.body if left else None)
    assert deleted.gone is not left


async def test_deleting_says_whether_there_was_something_to_delete(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200), MISSING, refusal(409, "Conflict")]
    options: dict[str, Any] = {"namespace": "ns", "name": "run", "uid": "u", "grace_seconds": 0}
    found = [(await kube.delete(TRAINING_RUNS, **options)).found for _ in range(3)]
    assert found == [True, False, False]
    assert server.bodies[0]["preconditions"] == {"uid": "u"}
    assert server.bodies[0]["gracePeriodSeconds"] == 0
    assert server.bodies[0]["propagationPolicy"] == "Background"


async def test_a_log_is_text_and_none_when_there_is_none(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200, "grüß\n".encode() + b"\xff"), refusal(400, "BadRequest", "is waiting to start")]
    assert await kube.pod_log("ns", name="pod", container="main", tail_lines=5, limit_bytes=99) == "grüß\n\ufffd"
    assert dict(server.requests[0].query) == {"container": "main", "tailLines": "5", "limitBytes": "99"}
    assert server.asked == ["GET /api/v1/namespaces/ns/pods/pod/log"]
    assert await kube.pod_log("ns", name="pod") is None


async def test_of_a_log_that_ends_with_a_line_of_many_bytes_the_end_is_read(kube: Kube, server: Server) -> None:
    bars = b"".join(b"\r%d%%" % (number % 100) for number in range(200_000))
    server.answers = [Answer(200, b"started\n" + bars + b"\nValueError: row 17\n")]
    read = await kube.pod_log("ns", name="pod", tail_lines=5, last_bytes=1000)
    assert read is not None
    assert (len(read), read.endswith("ValueError: row 17\n")) == (1000, True)
    assert dict(server.requests[0].query) == {"tailLines": "5"}


async def test_it_tells_which_kinds_are_served(kube: Kube, server: Server) -> None:
    server.answers = [
        Answer(200, {"resources": [{"name": "projects"}, {"name": "projects/status"}]}),
        Answer(404, b"404 page not found"),
        refusal(422),
    ]
    assert await kube.served("chorus.dev/v1alpha1") == {"projects", "projects/status"}
    assert await kube.served("chorus.dev/v1alpha1") == frozenset()
    assert server.asked == ["GET /apis/chorus.dev/v1alpha1"] * 2
    with pytest.raises(Invalid):
        await kube.served("chorus.dev/v1alpha1")


async def test_the_issuer_of_tokens_and_its_keys_are_read(kube: Kube, server: Server) -> None:
    server.answers = [Answer(200, {"issuer": "https://x"}), Answer(200, {"keys": []})]
    assert await kube.token_issuer() == {"issuer": "https://x"}
    assert await kube.token_keys() == {"keys": []}
    assert server.asked == ["GET /.well-known/openid-configuration", "GET /openid/v1/jwks"]
    assert server.requests[1].headers["Accept"] == "*/*"  # its type is application/jwk-set+json


async def test_requests_are_counted_by_verb_resource_and_answer(kube: Kube, server: Server) -> None:
    empty = Answer(200, {"metadata": {}, "items": []})
    server.answers = [Answer(200), MISSING, empty, Answer(200, {"resources": []})]
    await kube.get(PODS, namespace="ns", name="pod")
    await kube.get(CONFIG_MAPS, namespace="ns", name="map")
    await kube.list(PODS, namespace="ns")
    await kube.served("chorus.dev/v1alpha1")
    assert kube.requests == {
        ("get", "pods", 200): 1,
        ("get", "configmaps", 404): 1,
        ("list", "pods", 200): 1,
        ("get", "", 200): 1,
    }


def _app(handler: Callable[[web.Request], Any]) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app


async def _turn() -> None:
    await asyncio.sleep(0.01)
