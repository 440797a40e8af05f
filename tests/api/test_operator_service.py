"""A service as a plugin, with everything real but the pods: asked, told, heard, and its artefact taken."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from builders import make_project, make_run, make_service_plugin, overlay
from chorus_api.contract import AUDIENCE
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions import names
from far_service import REPORT, WEIGHTS, FarService, check_signature, far_service
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest, eventually
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import EXCHANGED
from message_builders import service_account, service_pod

RUN = "home-far-1"


def project(namespace: str) -> Manifest:
    return make_project("home", namespace=namespace, plugins=["far"])


def conditions(stored: Manifest) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}


async def test_a_service_is_asked_trains_and_leaves_its_model(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace, loopback_services=True) as on:
        async with far_service(on.mailbag.exchanges) as far:
            await on.create(make_service_plugin(namespace=namespace, service={"url": far.url}), project(namespace))
            run = await on.reaches("TrainingRun", RUN, "TRAINED")
            assert on.witness.of("TrainingRun", RUN)[-2:] == ["TRAINING", "TRAINED"]
            assert run["status"]["model"]["metrics"] == {"f1": "0.9", "eval_loss": "0.5", "final_loss": "0.4"}
            assert conditions(run)["TrainingDataDelivered"] == "True"
            assert far.frame == EXCHANGED["train.parquet"]
            assert on.mailbag.artefacts[RUN, 1] == {"model.safetensors": WEIGHTS}
            assert [status for _, status in far.answers] == [202] * 5
            plugin = await api.get("Plugin", "far", namespace=namespace)
            assert conditions(plugin) == {"Ready": "True", "Online": "True"}
            assert plugin["status"]["report"]["parameters"] == REPORT["parameters"]
            await is_signed(api, far, namespace)
            await is_heard_no_more(on, far)
            assert ("create", "services") in {(r.verb, r.resource) for r in on.work()}
            assert on.answered(403) == []


async def is_signed(api: Api, far: Any, namespace: str) -> None:
    """Everything that came bears a signature that fits the key in the namespace's ConfigMap, and comes once."""
    bundle = await api.get("ConfigMap", "chorus-ca", namespace=namespace)
    for (headers, event), body in zip(far.got, far.raw, strict=True):
        check_signature(bundle["data"]["webhook.pub"], headers, body)
        assert headers["webhook-id"] == event["id"]
        assert event["recipient"] == far.url
    assert len(far.of("TRAINING_DATA")) == 1


async def test_a_message_to_one_namespace_does_not_verify_as_one_to_another_and_names_whom_it_is_for(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    other = f"{namespace}-other"
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    async with operator_harness(installed, api, namespace=namespace, loopback_services=True) as on:
        async with far_service({}) as ours, far_service({}) as theirs:
            services = {namespace: ours, other: theirs}
            for where, far in services.items():
                await api.create(make_service_plugin(namespace=where, service={"url": far.url}))
            keys = {}
            for where, far in services.items():
                await eventually(partial(was_asked, far), what=f"the service of {where} is asked")
                keys[where] = (await api.get("ConfigMap", "chorus-ca", namespace=where))["data"]["webhook.pub"]
            for where, far in services.items():
                headers, event = far.got[0]
                assert event["recipient"] == far.url
                check_signature(keys[where], headers, far.raw[0])
                for stranger in services.keys() - {where}:
                    with pytest.raises(InvalidSignature):
                        check_signature(keys[stranger], headers, far.raw[0])
            assert on.answered(403) == []
            await api.delete("Plugin", "far", namespace=other)


async def was_asked(far: FarService) -> bool:
    return bool(far.of("ONLINE_INQUIRY"))


async def is_heard_no_more(on: OperatorHarness, far: Any) -> None:
    """After its end, a run takes nothing of the service, and says so."""
    _, event = far.of("TRAINING_DATA")[0]
    ids = {"project_id": event["data"]["project_id"], "plugin_id": event["data"]["plugin_id"]}
    assert await far.say(event, "MODEL_NAME", 9, model_name="another", **ids) == 403
    assert 'chorus_messages_refused_total{reason="wrongRun"} 1.0' in await on.operator.metrics()


async def token_of(control_plane: ControlPlane, api: Api, namespace: str, *, account: str) -> str:
    """Create a service account and a pod that has it; the pod's token, as the kubelet would mount it."""
    await api.create(service_account(account, namespace=namespace))
    pod = await api.create(service_pod(account=account, name=f"{account}-0", namespace=namespace))
    return await control_plane.token_for(account, namespace=namespace, audience=AUDIENCE, pod=pod)


async def test_a_service_in_the_cluster_speaks_with_its_service_account_and_a_pod_of_another_is_not_heard(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace, loopback_services=True) as on:
        own = await token_of(installed, api, namespace, account="far")
        stranger = await token_of(installed, api, namespace, account="stranger")
        async with far_service(on.mailbag.exchanges, account_token=own, dies_after="TRAINING_START") as far:
            service = {"url": far.url, "serviceAccountName": "far"}
            await on.create(make_service_plugin(namespace=namespace, service=service), project(namespace))
            await on.reaches("TrainingRun", RUN, "TRAINING")
            plugin = await api.get("Plugin", "far", namespace=namespace)
            assert conditions(plugin) == {"Ready": "True", "Online": "True"}
            _, event = far.of("TRAINING_DATA")[0]
            ids = {"project_id": event["data"]["project_id"], "plugin_id": event["data"]["plugin_id"]}
            far.account_token = stranger
            assert await far.say(event, "MODEL_NAME", 3, model_name="forged", **ids) == 403
            assert 'chorus_messages_refused_total{reason="wrongPod"} 1.0' in await on.operator.metrics()
            far.account_token = own
            assert await far.say(event, "MODEL_NAME", 3, model_name="far-model", **ids) == 202
            run = await on.reaches("TrainingRun", RUN, "TRAINED")
            assert run["status"]["report"]["modelName"]["modelName"] == "far-model"
            assert await far.say(event, "MODEL_NAME", 4, model_name="late", **ids) == 403
            assert 'chorus_messages_refused_total{reason="wrongRun"} 1.0' in await on.operator.metrics()
            assert on.answered(403) == []


async def test_an_operator_that_is_killed_in_between_loses_nothing(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace, loopback_services=True) as on:
        async with far_service(on.mailbag.exchanges, refuses=2, on_data=on.operator.kill) as far:
            await on.create(make_service_plugin(namespace=namespace, service={"url": far.url}), project(namespace))

            async def was_killed() -> bool:
                return not on.operator.running

            await eventually(was_killed, what="the operator is killed when TRAINING_DATA comes", seconds=90)
            far.on_data = lambda: None
            on.operator.start()
            run = await on.reaches("TrainingRun", RUN, "TRAINED", seconds=90)
            assert run["status"]["attempts"]["current"] == 1
            assert {headers["webhook-id"] for headers, _ in far.of("TRAINING_DATA")} == {f"{run['metadata']['uid']}-1"}
            assert set(on.jobs_created().values()) == {1}


async def test_a_service_that_dies_ends_the_run_at_a_deadline_and_cancel_ends_the_exchange(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace, loopback_services=True) as on:
        async with far_service(on.mailbag.exchanges, dies_after="DATA_REPORT") as far:
            plugin = make_service_plugin(
                namespace=namespace,
                service={"url": far.url},
                spec={"deadlines": {"trainingStartSeconds": 10, "dataReportSeconds": 10}},
            )
            await on.create(plugin, project(namespace))
            run = await on.reaches("TrainingRun", RUN, "failed")
            assert run["status"]["reason"] == "TrainingStartDeadlineExceeded"
            await on.api.wait_until_gone(
                "Job", names.attempt_job(TrainingRun.model_validate(run), 1), namespace=namespace
            )
            await on.create(make_run("stopped", namespace=namespace, project="home", plugin="far"))
            await on.reaches("TrainingRun", "stopped", "PREPROCESSING")
            await on.set_run("stopped", cancel=True)
            await on.reaches("TrainingRun", "stopped", "cancelled")


async def test_without_leave_the_operator_does_not_speak_to_its_own_machine(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        async with far_service(on.mailbag.exchanges) as far:
            await on.create(make_service_plugin(namespace=namespace, service={"url": far.url}), project(namespace))
            run = await on.reaches("TrainingRun", RUN, "failed")
            assert run["status"]["reason"] == "BadConfiguration"
            assert "this machine" in run["status"]["message"]
            assert far.got == []


BAD = {
    "neither url nor serviceRef": ({"url": None}, "set url or serviceRef, and not both"),
    "both": ({"serviceRef": {"name": "far"}}, "set url or serviceRef, and not both"),
    "another scheme": ({"url": "ftp://far.example.org/"}, "must be https://<host>"),
    "a password": ({"url": "https://me:secret@far.example.org/"}, "without user, password and fragment"),
    "too many inquiries": ({"inquirySeconds": 9}, "should be greater than or equal to 10"),
    "the account of run pods": ({"serviceAccountName": "chorus-run"}, "serviceAccountName must not be chorus-run"),
    "an account that cannot be": (
        {"serviceAccountName": "Far_1"},
        "must be of lower-case letters, digits, '-' and '.'",
    ),
    "a path that is none": ({"url": None, "serviceRef": {"name": "far", "path": "x"}}, "must begin with '/'"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_service_is_refused_with_the_field_and_the_fix(case: str, api: Api, namespace: str) -> None:
    change, message = BAD[case]
    with pytest.raises(ApiError) as caught:
        await api.create(make_service_plugin(namespace=namespace, service=change))
    assert message in str(caught.value)


@pytest.mark.parametrize("change", [{"service": None}, {"type": "lora", "lora": {}}])
async def test_a_service_block_is_for_services(change: Manifest, api: Api, namespace: str) -> None:
    manifest = make_service_plugin(namespace=namespace)
    with pytest.raises(ApiError, match="service is required when type is service, and for no other type"):
        await api.create({**manifest, "spec": overlay(manifest["spec"], change)})
