"""The operator with Roles in two namespaces and its own, and no right in the cluster, does all its work."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from builders import make_plugin, make_project
from chorus_api.contract import AUDIENCE, CA_CONFIG_MAP, CA_KEY
from harness import operator
from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kustomize
from harness.client import Api, Manifest, eventually
from harness.operator import Operator
from harness.operator_harness import OperatorHarness, place
from harness.pods import by_run
from harness.proxy import ApiRequest, FaultProxy
from message_builders import message
from message_harness import claims_of, signed
from operator_story import (
    ENTRIES,
    PLAN,
    SOMETIMES,
    UNASKED,
    Right,
    automatic_runs,
    rights_asked,
    rights_in,
    runs_by_hand,
)
from token_builders import encode

OWN = "roles-own"
SERVED = ("roles-a", "roles-b")
OUTSIDE = "roles-outside"
ACCOUNT = "chorus-operator"
FORGERIES = 20
VARIABLES = {"CHORUS_WATCH_NAMESPACES": ",".join(SERVED), "CHORUS_TOKEN_CHECK": "PublishedKeys"}


@dataclass(frozen=True)
class Recorded:
    """The story, after its end."""

    phases: dict[str, list[str]]
    """Of the Project in each namespace."""
    asked: dict[str, set[Right]]
    """What was asked for in each namespace."""
    outside: Manifest
    """The Project in a namespace that is not served."""
    requests: Sequence[ApiRequest]
    forbidden: list[str]
    answers: dict[str, tuple[int, str]]
    """What was answered to bad tokens: status and cause."""
    log: str
    exit_code: int


@pytest.fixture(scope="module")
def recorded(control_plane: ControlPlane) -> Recorded:
    return asyncio.run(_record(control_plane))


async def _record(control_plane: ControlPlane) -> Recorded:
    async with control_plane.api() as api, AsyncExitStack() as stack:
        await operator.clear(api)
        await _install(control_plane, api)
        await api.create(make_plugin("soft", namespace=OUTSIDE))
        await api.create(make_project("home", namespace=OUTSIDE, plugins=ENTRIES))
        proxy = await stack.enter_async_context(FaultProxy(control_plane))
        process = await _operator(control_plane, server=proxy.url)
        stages = [
            await stack.enter_async_context(
                place(control_plane, api, proxy=proxy, process=process, namespace=namespace, plan=by_run(PLAN))
            )
            for namespace in SERVED
        ]
        async with process:
            phases = await asyncio.gather(*(_play(on) for on in stages))
            answers = await _bad_tokens(control_plane, api, process)
            exit_code, _ = await process.terminate()
        own = OperatorHarness(api, OWN, proxy, process, stages[0].kubelet, stages[0].mailbag, stages[0].witness)
        return Recorded(
            dict(zip(SERVED, phases, strict=True)),
            {on.namespace: rights_asked(on) for on in [*stages, own]},
            await api.get("Project", "home", namespace=OUTSIDE),
            proxy.requests,
            own.answered(403),
            answers,
            process.log,
            exit_code,
        )


async def _play(on: OperatorHarness) -> list[str]:
    phases = await automatic_runs(on)
    await runs_by_hand(on)
    return phases


async def _operator(control_plane: ControlPlane, *, server: str, forked: bool = False, **variables: str) -> Operator:
    kubeconfig = await control_plane.kubeconfig_for(ACCOUNT, namespace=OWN, server=server)
    return Operator(control_plane, kubeconfig=kubeconfig, namespace=OWN, variables=VARIABLES | variables, forked=forked)


# Rights


def rules(control_plane: ControlPlane) -> tuple[list[Manifest], list[Manifest]]:
    """What `deploy/` gives in every namespace, as far as a Role can give it, and in the operator's own."""
    made = kustomize(REPOSITORY / "deploy", binaries=control_plane.binaries)
    roles = {role["kind"]: role["rules"] for role in made if role["metadata"]["name"] == ACCOUNT and "rules" in role}
    everywhere = [rule for rule in roles["ClusterRole"] if rule["resources"] != ["tokenreviews"]]
    assert len(everywhere) == len(roles["ClusterRole"]) - 1
    return everywhere, roles["Role"]


async def _install(control_plane: ControlPlane, api: Api) -> None:
    everywhere, own = rules(control_plane)
    for namespace in (OWN, *SERVED, OUTSIDE):
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        await api.wait_for("ServiceAccount", "default", lambda account: True, namespace=namespace)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": OWN}}
    await api.create(account)
    for namespace, given in ((OWN, own), *((served, everywhere) for served in SERVED)):
        for manifest in role(namespace, given):
            await api.create(manifest)


def role(namespace: str, given: list[Manifest]) -> list[Manifest]:
    """Build a Role for the operator in a namespace, and its binding."""
    group, metadata = "rbac.authorization.k8s.io", {"name": ACCOUNT, "namespace": namespace}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": given},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": OWN}],
        },
    ]


# Messages that must not count


async def _bad_tokens(control_plane: ControlPlane, api: Api, process: Operator) -> dict[str, tuple[int, str]]:
    pod = await api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "elsewhere", "namespace": OUTSIDE},
            "spec": {"containers": [{"name": "main", "image": "any"}]},
        }
    )

    async def token(audience: str | None) -> str:
        return await control_plane.token_for("default", namespace=OUTSIDE, audience=audience, pod=pod)

    genuine = await token(AUDIENCE)
    forged = signed(genuine, claims_of(genuine), key_file=None)
    other_issuer = claims_of(genuine) | {"iss": "https://example.com"}
    tokens = {
        "none": None,
        "nonsense": "a.b.c",
        "a stranger's": forged,
        "another audience": await token("another"),
        "the API server's audience": await token(None),
        "another issuer": signed(genuine, other_issuer, key_file=control_plane.directory / "sa.key"),
        "of a pod outside": genuine,
    }
    bundle = await api.get("ConfigMap", CA_CONFIG_MAP, namespace=SERVED[0])
    context = ssl.create_default_context(cadata=bundle["data"][CA_KEY])
    async with aiohttp.ClientSession() as session:
        for number in range(FORGERIES):
            invented = unknown_key(forged, f"invented-{number}")
            status, cause = await post(session, process.url, context, token=invented)
            assert (status, cause) in {(401, "badToken"), (503, "unavailable")}
        return {name: await post(session, process.url, context, token=token) for name, token in tokens.items()}


def unknown_key(token: str, key_id: str) -> str:
    """Name another key in a token's header."""
    _, payload, signature = token.split(".")
    header = encode(f'{{"alg":"RS256","kid":"{key_id}"}}'.encode())
    return f"{header}.{payload}.{signature}"


async def post(
    session: aiohttp.ClientSession, url: str, context: ssl.SSLContext, *, token: str | None
) -> tuple[int, str]:
    headers = {"Content-Type": "application/cloudevents+json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = message("TRAINING_START", subject="any")
    async with session.post(url, data=body, headers=headers, ssl=context) as answer:
        recorded: dict[str, Any] = await answer.json()
        return answer.status, recorded["cause"]


# What is true of it


def test_a_project_goes_to_trained_in_each_namespace_that_is_served(recorded: Recorded) -> None:
    assert recorded.phases == {namespace: ["PREPROCESSING", "TRAINING", "TRAINED"] for namespace in SERVED}
    assert recorded.exit_code == 0


def test_a_namespace_that_is_not_served_is_not_looked_at(recorded: Recorded) -> None:
    assert "status" not in recorded.outside
    assert [str(request) for request in recorded.requests if request.namespace == OUTSIDE] == []


def test_nothing_is_asked_of_the_whole_cluster(recorded: Recorded) -> None:
    assert [str(request) for request in recorded.requests if request.resource and not request.namespace] == []


def test_nothing_is_asked_for_that_is_forbidden(recorded: Recorded) -> None:
    assert recorded.forbidden == []
    assert "forbidden" not in recorded.log.lower()


def test_each_right_that_is_given_is_used_and_no_other(recorded: Recorded, control_plane: ControlPlane) -> None:
    everywhere, own = (rights_in(given) for given in rules(control_plane))
    for namespace in SERVED:
        assert recorded.asked[namespace] | SOMETIMES.keys() == everywhere - UNASKED.keys()
    assert recorded.asked[OWN] == own


def test_bad_tokens_are_refused_each_for_its_reason(recorded: Recorded) -> None:
    assert recorded.answers == {
        "none": (401, "noToken"),
        "nonsense": (401, "badToken"),
        "a stranger's": (401, "badToken"),
        "another audience": (401, "badToken"),
        "the API server's audience": (401, "badToken"),
        "another issuer": (401, "badToken"),
        "of a pod outside": (403, "wrongPod"),
    }


def test_keys_are_fetched_once_and_once_more_for_a_flood_of_invented_ones(recorded: Recorded) -> None:
    fetched = [request for request in recorded.requests if request.path == "/openid/v1/jwks"]
    assert 2 <= len(fetched) <= 3


async def test_an_operator_without_a_role_in_one_of_its_namespaces_says_where(
    recorded: Recorded, control_plane: ControlPlane
) -> None:
    served = f"{SERVED[0]},{OUTSIDE}"
    process = await _operator(control_plane, server=control_plane.url, forked=True, CHORUS_WATCH_NAMESPACES=served)

    async def is_told() -> bool:
        words = process.log.replace("\\", "").replace('"', "")
        return f"cannot watch resource projects in API group chorus.dev in the namespace {OUTSIDE}" in words

    async with process:
        await eventually(is_told, what="the log names the namespace", seconds=20)


async def test_an_operator_that_may_not_review_tokens_ends_and_names_the_setting(
    recorded: Recorded, control_plane: ControlPlane
) -> None:
    process = await _operator(control_plane, server=control_plane.url, forked=True, CHORUS_TOKEN_CHECK="Review")
    process.start()
    assert await process.wait(30) == 1
    assert "set CHORUS_TOKEN_CHECK=PublishedKeys" in process.log
