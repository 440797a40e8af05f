"""What becomes of messages in the API server: who owns which field, what never overwrites what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, WEBHOOK_KEY
from chorus_kube.client import Kube
from chorus_kube.errors import Conflict, Invalid, NotFound
from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.ca import CaBundle, load_authority
from chorus_operator.events import emit_event
from chorus_operator.messages.runs import Outcome
from chorus_operator.reconcile.namespaces import RunNamespaces
from chorus_operator.services.keys import WebhookKeys, service_keys
from chorus_protocol.webhook_signature import public_key
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest, eventually
from message_builders import FRAME, ended
from message_harness import OPERATOR_NAMESPACE, MessageHarness, message_harness, now


@pytest.fixture
async def stage(installed: ControlPlane, api: Api, namespace: str) -> AsyncIterator[MessageHarness]:
    async with message_harness(installed, api, namespace, receivers=2) as running:
        yield running


@pytest.fixture
async def kube(installed: ControlPlane) -> AsyncIterator[Kube]:
    """The client with the operator's own rights."""
    kubeconfig = await installed.kubeconfig_for("chorus-operator", namespace=OPERATOR_NAMESPACE)
    async with await Kube.connect(str(kubeconfig)) as client:
        yield client


def managers(run: Manifest) -> dict[str, set[str]]:
    """Name what of the status each field manager owns."""
    owned: dict[str, set[str]] = {}
    for entry in run["metadata"]["managedFields"]:
        fields = entry["fieldsV1"].get("f:status", {})
        owned.setdefault(entry["manager"], set()).update(name.removeprefix("f:") for name in fields)
    return owned


async def test_reports_progress_and_the_rest_of_the_status_have_an_owner_each(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    assert await stage.say(speaker, "DATA_REPORT", applicable=True) == 202
    assert await stage.say(speaker, "progress", percent=7, step=3, loss=2.5, sequence=2) == 202
    run = await stage.api.wait_for(
        "TrainingRun", "home-soft-1", lambda run: "progress" in run["status"], namespace=stage.namespace
    )
    assert run["status"]["progress"]["loss"] == "2.5"
    owners = managers(run)
    assert owners["chorus-report"] == {"report"}
    assert owners["chorus-progress"] == {"progress", "shown"}
    assert run["status"]["shown"] == {"percent": 7, "loss": "2.5"}
    await stage.set_status("home-soft-1", {"phase": "TRAINING"})
    assert {"report", "progress", "phase", "attempts"} <= (await stage.status()).keys()


async def test_a_whole_run_is_reported(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    metrics = {"eval_loss": 1.25, "train_loss": 1e-7}
    assert await stage.say(speaker, "DATA_REPORT", applicable=True, sequence=1) == 202
    assert await stage.say(speaker, "TRAINING_START", sequence=2) == 202
    digest = "sha256:" + "0" * 64
    assert (
        await stage.say(speaker, "MODEL_NAME", model_name="home-soft-1", digest=digest, metrics=metrics, sequence=4)
        == 202
    )
    report = (await stage.status())["report"]
    assert report["modelName"] | {"time": "", "instance": ""} == {
        "modelName": "home-soft-1",
        "digest": digest,
        "metrics": {"eval_loss": "1.25", "train_loss": "1e-07"},
        "sequence": 4,
        "instance": "",
        "time": "",
    }
    assert report["sequence"] == 4


async def test_texts_at_their_limits_and_of_any_script_are_stored(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    detail = "שגיאה: 内存不足 🚀 \u0000 " + "x" * 4000
    assert await stage.say(speaker, "ERROR_REPORT", detail=detail, reason="OutOfMemory") == 202
    assert (await stage.status())["report"]["error"]["detail"] == detail


async def test_a_duplicate_is_acknowledged_and_changes_nothing(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    assert await stage.say(speaker, "TRAINING_START") == 202
    before = await stage.api.get("TrainingRun", "home-soft-1", namespace=stage.namespace)
    for receiver in (0, 1):
        assert await stage.say(speaker, "TRAINING_START", receiver=receiver) == 204
    assert await stage.api.get("TrainingRun", "home-soft-1", namespace=stage.namespace) == before


async def test_a_new_attempt_replaces_the_report_of_the_one_before(stage: MessageHarness) -> None:
    run = await stage.run()
    first = await stage.training(run)
    assert await stage.say(first, "ERROR_REPORT", detail="killed", retryable=True, sequence=9) == 202
    await stage.set_status("home-soft-1", {"attempts": {"current": 2}})
    second = await stage.training(run, name="pod-2", attempt=2)
    assert await stage.say(second, "TRAINING_START") == 202
    report = (await stage.status())["report"]
    assert (report["attempt"], report["sequence"]) == (2, 1)
    assert "error" not in report
    assert await stage.say(first, "MODEL_NAME", model_name="m", sequence=99) == 403
    assert (await stage.status())["report"] == report


async def test_an_ended_run_is_not_changed(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    await stage.set_status("home-soft-1", {"conditions": [ended("False")]})
    before = await stage.status()
    assert await stage.say(speaker, "MODEL_NAME", model_name="m") == 204
    assert await stage.say(speaker, "progress", percent=99, sequence=2) == 204
    assert await stage.status() == before


async def test_another_instance_of_the_sender_is_heard_by_either_receiver(stage: MessageHarness) -> None:
    speaker = await stage.training(await stage.run())
    instances = [{"attributes": {"instance": name}, "receiver": number} for number, name in enumerate(("one", "two"))]
    for number, instance in enumerate(instances):
        assert await stage.say(speaker, "ERROR_REPORT", detail=f"of {number}", sequence=3 - number, **instance) == 202
        assert await stage.say(speaker, "progress", percent=5, step=9 - number, sequence=3 - number, **instance) == 202

        async def is_written(step: int = 9 - number) -> bool:
            return bool((await stage.status()).get("progress", {}).get("step") == step)

        await eventually(is_written, what="progress is written", seconds=30)
    status = await stage.status()
    assert (status["report"]["error"]["detail"], status["report"]["instances"]) == ("of 1", ["one", "two"])
    assert status["progress"]["instances"] == [
        {"instance": "one", "sequence": 3},
        {"instance": "two", "sequence": 2},
    ]
    before = await stage.api.get("TrainingRun", "home-soft-1", namespace=stage.namespace)
    for late in instances:
        assert await stage.say(speaker, "ERROR_REPORT", detail="of 0", sequence=1, **late) == 204
    assert await stage.api.get("TrainingRun", "home-soft-1", namespace=stage.namespace) == before


async def test_two_receivers_and_a_reconciler_that_write_at_once_lose_nothing(stage: MessageHarness) -> None:
    run = await stage.run()
    speaker = await stage.training(run)

    async def reconcile() -> None:
        for number in range(30):
            await stage.set_status("home-soft-1", {"message": f"looked {number} times"})

    statuses = await asyncio.gather(
        stage.say(speaker, "DATA_REPORT", applicable=True, sequence=1, receiver=0),
        stage.say(speaker, "TRAINING_START", sequence=2, receiver=1),
        stage.say(speaker, "ERROR_REPORT", detail="no", sequence=3, receiver=0),
        stage.say(speaker, "MODEL_NAME", model_name="m", sequence=4, receiver=1),
        *(stage.say(speaker, "progress", percent=n, sequence=n, receiver=n % 2) for n in range(5, 15)),
        reconcile(),
    )
    assert set(statuses[:-1]) <= {202, 204}

    async def progress_of_both_is_written() -> bool:
        return "progress" in await stage.status()

    await eventually(progress_of_both_is_written, what="progress is written")
    status = await stage.status()
    assert {"dataReport", "trainingStart", "error", "modelName"} <= status["report"].keys()
    assert status["report"]["sequence"] == 4
    assert status["message"] == "looked 29 times"
    taken = [receiver.inbox.taken for receiver in stage.receivers if receiver.inbox is not None]
    assert sum(count for counter in taken for (_, outcome), count in counter.items() if outcome is Outcome.TAKEN) >= 5


async def test_a_frame_becomes_an_immutable_config_map_that_goes_with_its_project(stage: MessageHarness) -> None:
    home = await stage.project()
    speaker = await stage.preparing(home)
    statuses = await asyncio.gather(
        *(
            stage.say(speaker, "FRAME_READY", prepare_key="abc123", frame=FRAME, receiver=number % 2)
            for number in range(4)
        )
    )
    assert sorted(statuses) == [202, 204, 204, 204]
    failed: dict[str, Any] = {"prepare_key": "abc123", "reason": "NoRows", "detail": "0 rows"}
    assert await stage.say(speaker, "FRAME_FAILED", sequence=2, **failed) == 204
    name = f"home-{home['metadata']['uid'][:5]}-frame-abc123"
    stored = await stage.api.get("ConfigMap", name, namespace=stage.namespace)
    assert json.loads(stored["data"]["result.json"])["ready"]["digest"] == FRAME["digest"]
    with pytest.raises(ApiError, match="immutable"):
        await stage.api.patch("ConfigMap", name, {"data": {"result.json": "{}"}}, namespace=stage.namespace)
    await stage.api.delete("Project", "home", namespace=stage.namespace)
    await stage.api.wait_until_gone("ConfigMap", name, namespace=stage.namespace, seconds=20)


# The client and the CA, as the API server sees them


async def test_an_applied_status_is_refused_when_the_object_has_changed_or_is_gone(
    stage: MessageHarness, kube: Kube
) -> None:
    run = await stage.run()
    await stage.set_status("home-soft-1", {"phase": "queued"})
    stored = await stage.api.get("TrainingRun", "home-soft-1", namespace=stage.namespace)
    newest = stored["metadata"]["resourceVersion"]

    async def apply(part: Manifest, *, name: str = "home-soft-1", version: str = newest) -> Manifest:
        return await kube.apply_status(
            TRAINING_RUNS,
            namespace=stage.namespace,
            name=name,
            status_part=part,
            manager="chorus-report",
            resource_version=version,
        )

    report = {"report": {"attempt": 1, "podUid": "u"}}
    with pytest.raises(Conflict):
        await apply(report, version=run["metadata"]["resourceVersion"])
    with pytest.raises(NotFound):
        await apply(report, name="nobody")
    with pytest.raises(Invalid, match="attempt"):
        await apply({"report": {"podUid": "u"}})
    assert "report" in (await apply(report))["status"]


async def test_a_status_patch_is_refused_when_the_object_has_changed(stage: MessageHarness, kube: Kube) -> None:
    run = await stage.run()
    await stage.set_status("home-soft-1", {"phase": "queued"})
    with pytest.raises(Conflict):
        await kube.patch_status(
            TRAINING_RUNS,
            namespace=stage.namespace,
            name="home-soft-1",
            status={"phase": "failed"},
            resource_version=run["metadata"]["resourceVersion"],
        )
    assert (await stage.status())["phase"] == "queued"


async def test_operators_that_start_at_once_share_one_ca_and_publish_it(
    stage: MessageHarness, kube: Kube, api: Api
) -> None:
    await api.delete("Secret", "chorus-ca", namespace=OPERATOR_NAMESPACE)
    authorities = await asyncio.gather(
        *(load_authority(kube, namespace=OPERATOR_NAMESPACE, clock=now) for _ in range(5))
    )
    assert len({authority.certificate for authority in authorities}) == 1
    namespaces = [
        RunNamespaces(kube, bundle=CaBundle(kube, authority=one), keys=WebhookKeys(kube, service_keys(one)))
        for one in authorities
    ]
    await asyncio.gather(*(each.ensure(stage.namespace) for each in namespaces))
    bundle = await api.get("ConfigMap", CA_CONFIG_MAP, namespace=stage.namespace)
    uid = (await api.get("Namespace", stage.namespace))["metadata"]["uid"]
    key = public_key(service_keys(authorities[0]).webhook_key(uid))
    assert bundle["data"] == {CA_KEY: authorities[0].certificate.decode(), WEBHOOK_KEY: key}
    wrong = {"data": {CA_KEY: "somebody else's", "more": "x"}}
    await api.patch("ConfigMap", CA_CONFIG_MAP, wrong, namespace=stage.namespace)
    for one in authorities:
        await CaBundle(kube, authority=one).ensure(stage.namespace, webhook_key=key)
    mended = await api.get("ConfigMap", CA_CONFIG_MAP, namespace=stage.namespace)
    assert mended["data"] == bundle["data"]


async def test_an_event_is_told_once(stage: MessageHarness, kube: Kube) -> None:
    run = {**TYPE, **await stage.run()}
    for _ in range(3):
        await emit_event(kube, run, reason="Trained", message="done", now=now())
    await emit_event(kube, run, reason="Trained", message="done", now=now(), occurrence="again", warning=True)
    events = await stage.api.list("Event", namespace=stage.namespace, fields="involvedObject.name=home-soft-1")
    assert sorted(event["type"] for event in events) == ["Normal", "Warning"]


TYPE = {"apiVersion": "chorus.dev/v1alpha1", "kind": "TrainingRun"}
