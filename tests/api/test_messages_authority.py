"""Who may say what, decided by the API server's own tokens and its TokenReview."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chorus_api.contract import MAX_BODY_BYTES, SERVICE_SPEAKER
from chorus_operator.settings import TokenCheck
from chorus_protocol.refusals import Cause
from harness.apiserver import ControlPlane
from harness.client import Api
from message_builders import FRAME, message, service_account, training_pod
from message_harness import MessageHarness, claims_of, message_harness, signed


@pytest.fixture
async def stage(installed: ControlPlane, api: Api, namespace: str) -> AsyncIterator[MessageHarness]:
    async with message_harness(installed, api, namespace) as running:
        yield running


@pytest.fixture(params=TokenCheck)
async def either(
    request: pytest.FixtureRequest, installed: ControlPlane, api: Api, namespace: str
) -> AsyncIterator[MessageHarness]:
    """With each of the two ways to check tokens."""
    async with message_harness(installed, api, namespace, token_check=request.param) as running:
        yield running


async def refused(stage: MessageHarness, body: bytes, *, token: str | None, status: int, cause: Cause) -> str:
    """Check that a message is refused and counted, and that the run does not change."""
    before = await stage.status()
    counted = stage.receivers[0].refusals.counts[cause]
    code, answer = await stage.post(body, token=token)
    assert (code, answer["cause"]) == (status, cause.value), answer
    assert stage.receivers[0].refusals.counts[cause] == counted + 1
    assert await stage.status() == before
    return str(answer["error"])


async def test_a_pods_own_token_is_accepted(either: MessageHarness) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    assert await stage.say(speaker, "DATA_REPORT", applicable=True) == 202
    assert (await stage.status())["report"]["podUid"] == speaker.pod["metadata"]["uid"]


async def test_tokens_that_the_cluster_did_not_give_are_refused(either: MessageHarness) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    body = message("TRAINING_START", subject=speaker.subject)
    claims = claims_of(speaker.token)
    genuine = stage.control_plane.directory / "sa.key"
    hour = {"iat": int(time.time()) - 7200, "nbf": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
    bad = {
        "nonsense": "nonsense",
        "cut": speaker.token[:-20],
        "a stranger's": signed(speaker.token, claims, key_file=None),
        "expired": signed(speaker.token, claims | hour, key_file=genuine),
    }
    for name, token in bad.items():
        assert await refused(stage, body, token=token, status=401, cause=Cause.BAD_TOKEN), name
    assert signed(speaker.token, claims, key_file=genuine) == speaker.token  # the forger knows its trade
    await refused(stage, body, token=None, status=401, cause=Cause.NO_TOKEN)


@pytest.mark.parametrize("audience", [None, "another"])
async def test_a_token_for_another_audience_is_refused(either: MessageHarness, audience: str | None) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    token = await stage.token(speaker.pod, audience=audience)
    body = message("TRAINING_START", subject=speaker.subject)
    await refused(stage, body, token=token, status=401, cause=Cause.BAD_TOKEN)


async def test_a_token_that_is_bound_to_no_pod_is_refused(either: MessageHarness) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    body = message("TRAINING_START", subject=speaker.subject)
    await refused(stage, body, token=await stage.token(None), status=403, cause=Cause.NOT_A_POD)


async def test_a_token_of_a_pod_that_is_not_there_is_refused(either: MessageHarness) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    claims = claims_of(speaker.token)
    other_pod = {**claims, "kubernetes.io": {**claims["kubernetes.io"], "pod": {"name": "pod-9", "uid": "u"}}}
    token = signed(speaker.token, other_pod, key_file=stage.control_plane.directory / "sa.key")
    code, answer = await stage.post(message("TRAINING_START", subject=speaker.subject), token=token)
    assert (code, answer["cause"]) in {(401, "badToken"), (403, "wrongPod")}
    assert "report" not in await stage.status()


async def test_the_token_of_a_deleted_pod_is_refused_at_once(either: MessageHarness) -> None:
    stage = either
    speaker = await stage.training(await stage.run())
    await stage.api.delete("Pod", "pod-1", namespace=stage.namespace)
    await stage.api.wait_until_gone("Pod", "pod-1", namespace=stage.namespace)
    body = message("TRAINING_START", subject=speaker.subject)
    code, answer = await stage.post(body, token=speaker.token)
    # Either check may come first: the API server remembers a good token for some seconds.
    assert (code, answer["cause"]) in {(401, "badToken"), (403, "wrongPod")}
    assert "report" not in await stage.status()


async def test_another_runs_pod_is_refused(stage: MessageHarness) -> None:
    run = await stage.run()
    other = await stage.training(await stage.run("home-soft-2"), name="other")
    body = message("MODEL_NAME", subject=run["metadata"]["uid"], model_name="m")
    await refused(stage, body, token=other.token, status=403, cause=Cause.WRONG_RUN)


async def test_a_pod_that_the_operator_did_not_mark_is_refused(stage: MessageHarness) -> None:
    run = await stage.run()
    pod = await stage.api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "stranger", "namespace": stage.namespace},
            "spec": {"containers": [{"name": "main", "image": "any"}]},
        }
    )
    body = message("TRAINING_START", subject=run["metadata"]["uid"])
    await refused(stage, body, token=await stage.token(pod), status=403, cause=Cause.WRONG_POD)


async def test_a_services_pod_is_known_by_its_service_account_and_no_other_pod_is(either: MessageHarness) -> None:
    stage = either
    run = await stage.run("home-far-1")
    await stage.accepted(run, account="far")
    far, stranger = await stage.serving(run, account="far"), await stage.serving(run, account="stranger")
    body = message("TRAINING_START", subject=far.subject, attributes={"subject": "home-far-1"})
    code, answer = await stage.post(body, token=stranger.token)
    assert (code, answer["cause"]) == (403, "wrongPod")
    assert "service account stranger" in answer["error"]
    assert "report" not in await stage.status("home-far-1")
    assert (await stage.post(body, token=far.token))[0] == 202
    assert (await stage.status("home-far-1"))["report"]["podUid"] == SERVICE_SPEAKER


async def test_a_services_pod_with_the_labels_of_a_training_pod_is_refused(either: MessageHarness) -> None:
    stage = either
    run = await stage.run()
    await stage.api.create(service_account("far", namespace=stage.namespace))
    manifest = training_pod(run)
    manifest["spec"]["serviceAccountName"] = "far"
    token = await stage.token(await stage.api.create(manifest))
    body = message("TRAINING_START", subject=run["metadata"]["uid"])
    await refused(stage, body, token=token, status=403, cause=Cause.WRONG_POD)


@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_an_older_attempt_is_refused_and_the_newer_one_accepted(stage: MessageHarness, kind: str) -> None:
    run = await stage.run(attempt=2)
    old = await stage.training(run, name="pod-1", attempt=1)
    new = await stage.training(run, name="pod-2", attempt=2)
    for claimed, cause in ((1, Cause.WRONG_ATTEMPT), (2, Cause.WRONG_ATTEMPT)):
        body = message(kind, subject=old.subject, attempt=claimed, percent=1)
        await refused(stage, body, token=old.token, status=403, cause=cause)
    assert await stage.say(new, kind, percent=1) == 202


async def test_a_second_pod_of_the_attempt_is_refused_while_the_first_lives(stage: MessageHarness) -> None:
    run = await stage.run()
    first = await stage.training(run)
    second = await stage.training(run, name="pod-2")
    assert await stage.say(first, "DATA_REPORT", applicable=True) == 202
    body = message("TRAINING_START", subject=second.subject)
    await refused(stage, body, token=second.token, status=403, cause=Cause.WRONG_POD)
    await stage.api.delete("Pod", "pod-1", namespace=stage.namespace)
    await stage.api.wait_until_gone("Pod", "pod-1", namespace=stage.namespace)
    assert await stage.say(second, "TRAINING_START") == 202
    assert (await stage.status())["report"]["podUid"] == second.pod["metadata"]["uid"]


@pytest.mark.parametrize("ids", [{"project_id": 1, "plugin_id": 77}, {"project_id": 4095123, "plugin_id": 1}])
async def test_wrong_ids_are_refused(stage: MessageHarness, ids: dict[str, int]) -> None:
    speaker = await stage.training(await stage.run())
    body = message("TRAINING_START", subject=speaker.subject, ids=ids)
    assert "is not that of the sender's run" in await refused(
        stage, body, token=speaker.token, status=403, cause=Cause.WRONG_IDS
    )


async def test_a_prepare_pod_speaks_for_its_project_and_key_alone(stage: MessageHarness) -> None:
    await stage.run()
    home = await stage.project()
    other = await stage.project("other")
    speaker = await stage.preparing(home)
    fields: dict[str, Any] = {"attempt": 0, "prepare_key": "abc123", "frame": FRAME}
    uid, strange = home["metadata"]["uid"], other["metadata"]["uid"]
    for body, cause in (
        (message("FRAME_READY", subject=strange, **fields), Cause.WRONG_RUN),
        (message("FRAME_READY", subject=uid, **{**fields, "prepare_key": "other"}), Cause.WRONG_IDS),
        (message("TRAINING_START", subject=uid), Cause.WRONG_POD),
    ):
        await refused(stage, body, token=speaker.token, status=403, cause=cause)
    found = await stage.api.list("ConfigMap", namespace=stage.namespace)
    assert [config_map for config_map in found if "frame" in config_map["metadata"]["name"]] == []


async def test_a_body_over_the_limit_or_malformed_is_refused(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    body = message("TRAINING_START", subject=speaker.subject)
    long = body + b" " * (MAX_BODY_BYTES - len(body) + 1)
    await refused(stage, long, token=speaker.token, status=413, cause=Cause.TOO_LARGE)
    await refused(stage, b"{}", token=speaker.token, status=422, cause=Cause.MALFORMED)
    unknown = message("TRAINING_DATA", subject=speaker.subject)
    await refused(stage, unknown, token=speaker.token, status=422, cause=Cause.UNKNOWN_TYPE)
    nan = message("MODEL_NAME", subject=speaker.subject, model_name="m", metrics={"eval_loss": float("nan")})
    text = await refused(stage, nan, token=speaker.token, status=422, cause=Cause.MALFORMED)
    assert "data.metrics.eval_loss" in text
