"""The proxy that other tests break the operator's requests with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from builders import LABELLED, make_config_map, make_run
from harness.apiserver import ControlPlane
from harness.client import READ_TRIES, Api, ApiError, eventually
from harness.proxy import ApiRequest, Cut, Fault, FaultProxy, Hook, Moment, Refuse, describe


@pytest.fixture
async def proxy(installed: ControlPlane) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(installed) as running:
        yield running


@pytest.fixture
async def operator(installed: ControlPlane, proxy: FaultProxy) -> AsyncIterator[Api]:
    kubeconfig = await installed.kubeconfig_for("chorus-operator", namespace="chorus-system", server=proxy.url)
    async with Api(kubeconfig) as client:
        yield client


def strike(fault: Fault, *, at: Moment, verb: str, times: int = 1) -> Hook:
    left = times

    async def hook(request: ApiRequest, stage: Moment) -> Fault | None:
        nonlocal left
        if stage == at and request.verb == verb and left:
            left -= 1
            return fault
        return None

    return hook


async def test_requests_go_through_unchanged_and_are_recorded(
    operator: Api, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    await operator.create(make_run(namespace=namespace, metadata={"labels": LABELLED}))
    patch = {"status": {"phase": "queued", "message": "ünïcode 😀"}}
    await operator.patch("TrainingRun", "shop-t5-1", patch, namespace=namespace, subresource="status")
    assert len(await operator.list("TrainingRun", namespace=namespace)) == 1
    with pytest.raises(ApiError, match="not found"):
        await operator.get("TrainingRun", "none", namespace=namespace)
    await operator.delete("TrainingRun", "shop-t5-1", namespace=namespace)
    seen = [request for request in proxy.requests if request.resource == "trainingruns"]
    assert [(request.verb, request.subresource, request.name) for request in seen] == [
        ("create", "", ""),
        ("patch", "status", "shop-t5-1"),
        ("list", "", ""),
        ("get", "", "none"),
        ("delete", "", "shop-t5-1"),
    ]
    assert {(request.group, request.namespace) for request in seen} == {("chorus.dev", namespace)}
    assert json.loads(seen[1].body) == patch
    assert [proxy.statuses[request.number] for request in seen] == [201, 200, 200, 404, 200]
    assert [request.number for request in proxy.requests] == list(range(1, len(proxy.requests) + 1))


async def test_the_clients_own_rights_count(operator: Api, namespace: str) -> None:
    with pytest.raises(ApiError) as refused:
        await operator.list("Secret", namespace=namespace)
    assert refused.value.status == 403


@pytest.mark.parametrize(("status", "reason"), [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")])
async def test_a_request_can_be_refused_before_it_is_done(
    status: int, reason: str, operator: Api, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    proxy.hook = strike(Refuse(status, "not now", retry_after=7), at="before", verb="create")
    with pytest.raises(ApiError, match="not now") as refused:
        await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))
    assert (refused.value.status, refused.value.reason) == (status, reason)
    assert proxy.requests[-1].number not in proxy.statuses
    assert await api.find("ConfigMap", "a", namespace=namespace) is None
    await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))


async def test_a_refusal_says_when_to_come_again(operator: Api, proxy: FaultProxy, installed: ControlPlane) -> None:
    proxy.hook = strike(Refuse(429, retry_after=7), at="before", verb="get")
    context = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=context) as session, session.get(f"{proxy.url}/version") as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "7"


async def test_the_client_of_the_tests_reads_again_when_it_is_asked_to(
    operator: Api, proxy: FaultProxy, namespace: str
) -> None:
    await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))
    proxy.hook = strike(
        Refuse(429, "storage is (re)initializing", retry_after=0), at="before", verb="get", times=READ_TRIES - 1
    )
    assert (await operator.get("ConfigMap", "a", namespace=namespace))["metadata"]["name"] == "a"


async def test_the_client_of_the_tests_gives_up_reading_at_last(
    operator: Api, proxy: FaultProxy, namespace: str
) -> None:
    await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))
    proxy.hook = strike(Refuse(429, retry_after=0), at="before", verb="get", times=READ_TRIES)
    with pytest.raises(ApiError) as refused:
        await operator.get("ConfigMap", "a", namespace=namespace)
    assert refused.value.status == 429


async def test_a_request_can_be_refused_after_it_was_done(
    operator: Api, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    proxy.hook = strike(Refuse(500), at="after", verb="create")
    with pytest.raises(ApiError):
        await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))
    assert await api.find("ConfigMap", "a", namespace=namespace) is not None


@pytest.mark.parametrize(("stage", "done"), [("before", False), ("after", True)])
async def test_a_connection_can_be_cut(
    stage: Moment, done: bool, operator: Api, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    proxy.hook = strike(Cut(), at=stage, verb="create")
    with pytest.raises(aiohttp.ClientError):
        await operator.create(make_config_map("a", namespace=namespace, labels=LABELLED))
    assert (await api.find("ConfigMap", "a", namespace=namespace) is not None) is done
    await operator.create(make_config_map("b", namespace=namespace, labels=LABELLED))


@pytest.mark.parametrize(("stage", "done"), [("before", False), ("after", True)])
async def test_a_request_waits_as_long_as_the_hook_does(
    stage: Moment, done: bool, operator: Api, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(request: ApiRequest, at: Moment) -> Fault | None:
        if at == stage and request.verb == "create":
            reached.set()
            await go_on.wait()
        return None

    proxy.hook = hold
    creating = asyncio.create_task(operator.create(make_config_map("a", namespace=namespace, labels=LABELLED)))
    await asyncio.wait_for(reached.wait(), timeout=10)
    assert (await api.find("ConfigMap", "a", namespace=namespace) is not None) is done
    assert not creating.done()
    go_on.set()
    await asyncio.wait_for(creating, timeout=10)
    assert await api.find("ConfigMap", "a", namespace=namespace) is not None


async def test_a_watch_streams_and_can_be_cut(
    installed: ControlPlane, proxy: FaultProxy, api: Api, namespace: str
) -> None:
    token = await installed.token_for("chorus-operator", namespace="chorus-system")
    url = f"{proxy.url}/apis/chorus.dev/v1alpha1/namespaces/{namespace}/trainingruns?watch=true"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=headers) as session,
        session.get(url) as answer,
    ):
        for name in ("a", "b"):
            await api.create(make_run(name, namespace=namespace))
            event = json.loads(await asyncio.wait_for(answer.content.readline(), timeout=10))
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name)
        assert proxy.requests[-1].verb == "watch"
        assert proxy.cut_watches() == 1
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(answer.content.readline(), timeout=10)

    async def no_watch_is_open() -> bool:
        return proxy.cut_watches() == 0

    await eventually(no_watch_is_open, what="the proxy has let the watch go")


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/version", {}, ("get", "", "", "", "", "")),
        ("GET", "/apis/batch/v1", {}, ("get", "", "", "", "", "")),
        ("GET", "/api/v1/pods", {}, ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("watch", "", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces", {}, ("list", "", "namespaces", "", "", "")),
        ("GET", "/api/v1/namespaces/a", {}, ("get", "", "namespaces", "", "a", "a")),
        ("PUT", "/api/v1/namespaces/a/finalize", {}, ("update", "", "namespaces", "finalize", "a", "a")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", {}, ("get", "", "pods", "log", "a", "b")),
        ("DELETE", "/apis/batch/v1/namespaces/a/jobs", {}, ("deletecollection", "batch", "jobs", "", "a", "")),
        (
            "PATCH",
            "/apis/chorus.dev/v1alpha1/namespaces/a/projects/b/status",
            {},
            ("patch", "chorus.dev", "projects", "status", "a", "b"),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {},
            ("create", "authentication.k8s.io", "tokenreviews", "", "", ""),
        ),
    ],
)
def test_a_request_is_told_by_its_path(
    method: str, path: str, query: dict[str, str], expected: tuple[str, ...]
) -> None:
    seen = describe(1, method=method, path=path, query=query, body=b"", user_agent="")
    assert (seen.verb, seen.group, seen.resource, seen.subresource, seen.namespace, seen.name) == expected
