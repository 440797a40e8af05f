"""Pods that cannot start: who keeps them from it, in whose words, and how long that is borne.

All runs are of one Project and wait side by side from the first test on, beside two Projects whose claims are bad.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from builders import make_config_map, overlay
from cluster_builders import PIECES, claim_project, lora_plugin
from fault_builders import ENDS_WELL, make_limit_range, program
from fault_stories import (
    PROJECT,
    SECONDS,
    assert_failed,
    assert_waiting,
    assert_words,
    flat,
    job_of,
    run_of,
)
from harness.client import Manifest
from harness.cluster import Cluster, Env
from harness.hands import POD, lay_hands
from harness.nodes import volume_on_node
from harness.policies import refusing

pytestmark = pytest.mark.faults

START_SECONDS = 30
SECRET = "hub-token"
PULL_SECRET = "registry-login"
REFUSAL = "images of this namespace must be signed"
UNWRITABLE = "unwritable"
NO_CLASS = "no-such-class"


def no_image(cluster: Cluster) -> str:
    """An image that the cluster's registry does not have."""
    repository, _, _ = cluster.operator_image.rpartition(":")
    return f"{repository}-nobody-made:1"


def plugins(cluster: Cluster) -> list[Manifest]:
    """A Plugin for each fault."""
    image, soon = cluster.operator_image, {"deadlines": {"startSeconds": START_SECONDS}}
    hub = {"baseModel": {"uri": "hf://owner/model", "secretRef": {"name": SECRET}}}
    pulls = {"container": {"image": no_image(cluster)}}
    return [
        lora_plugin("no-secret", lora=hub),
        program("no-image", image, spec=pulls),
        program("no-login", image, spec={**pulls, "pod": {"imagePullSecrets": [{"name": PULL_SECRET}]}}),
        program("no-device", image, spec={**soon, "accelerator": {"resourceName": "example.com/tpu"}}),
        program("no-node", image, spec={**soon, "pod": {"nodeSelector": {"disk": "gold"}}}),
        program("no-cpus", image, spec={**soon, "resources": overlay(PIECES, {"requests": {"cpu": "64"}})}),
        program("no-range", image, spec={"resources": {"limits": {"memory": "64Gi"}}}),
        program("no-admission", image),
        program("no-digest", image, spec={"container": {"script": script("code", "main.sh")}}),
        program("no-key", image, spec={"container": {"script": script("code", "other.sh")}}),
    ]


def script(name: str, key: str) -> dict[str, Any]:
    return {"configMap": {"name": name, "key": key}, "sha256": "0" * 64}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(cluster: Cluster) -> AsyncIterator[Env]:
    async with Env.make(cluster.api, "start") as made, AsyncExitStack() as stack:
        await lay_hands(made, image=cluster.operator_image, models=cluster.models)
        await stack.enter_async_context(refusing(made, run=run_of("no-admission"), message=REFUSAL))
        node = (await cluster.api.get("Pod", POD, namespace=made.namespace))["spec"]["nodeName"]
        path = f"/var/tmp/{made.namespace}"
        await stack.enter_async_context(volume_on_node(made, claim=UNWRITABLE, node=node, path=path))
        plugs = plugins(cluster)
        names = [plugin["metadata"]["name"] for plugin in plugs]
        await made.apply(
            make_limit_range("memory", memory="32Gi"),
            make_config_map("code", data={"main.sh": ENDS_WELL}),
            *plugs,
            program("never", cluster.operator_image),
            claim_project(PROJECT, plugins=names),
            claim_project(UNWRITABLE, plugins=["never"], spec={"storage": {"claimName": UNWRITABLE}}),
            claim_project("classless", plugins=["never"], spec={"storage": storage_of_no_class()}),
        )
        yield made


def storage_of_no_class() -> dict[str, Any]:
    return {"claimName": None, "size": "1Gi", "storageClassName": NO_CLASS}


async def test_the_secret_of_a_base_model_that_is_missing_is_named_with_its_field(place: Env) -> None:
    words = ("lora.baseModel.secretRef.name", f"'{SECRET}'", "create it")
    await assert_failed(place, run_of("no-secret"), reason="SecretNotFound", words=words)


async def test_an_image_that_is_not_there_is_named_while_its_pod_waits(cluster: Cluster, place: Env) -> None:
    words = (no_image(cluster), "not found")
    await assert_waiting(place, run_of("no-image"), reason="ImagePull", words=words)


async def test_a_pull_secret_that_is_missing_is_named_beside_the_image(cluster: Cluster, place: Env) -> None:
    words = ("spec.pod.imagePullSecrets", f"no Secret {PULL_SECRET}", "create it", no_image(cluster))
    await assert_waiting(place, run_of("no-login"), reason="ImagePull", words=words)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("no-device", "Insufficient example.com/tpu"),
        ("no-node", "didn't match Pod's node affinity/selector"),
        ("no-cpus", "Insufficient cpu"),
    ],
)
async def test_what_no_node_has_is_named_in_the_schedulers_words(place: Env, plugin: str, words: str) -> None:
    told = (f"No pod started within deadlines.startSeconds ({START_SECONDS} s)", words)
    await assert_failed(place, run_of(plugin), reason="StartDeadlineExceeded", words=told)
    seen = [run["status"] for run in place.record.versions("TrainingRun", name=run_of(plugin)) if "status" in run]
    waiting = [status for status in seen if status.get("reason") == "Unschedulable"]
    assert {status["phase"] for status in waiting} == {"queued"}
    assert words in flat(waiting[-1]["message"])


async def test_a_limit_range_is_told_with_its_numbers_while_the_job_is_still_there(place: Env) -> None:
    words = ("maximum memory usage per Container is 32Gi, but limit is 64Gi",)
    await assert_waiting(place, run_of("no-range"), reason="Pending", words=words)
    await assert_job_tells(place, run_of("no-range"), words[0])


async def test_a_policy_that_refuses_pods_is_told_in_its_own_words_while_the_job_is_still_there(place: Env) -> None:
    words = ("ValidatingAdmissionPolicy", REFUSAL)
    await assert_waiting(place, run_of("no-admission"), reason="Pending", words=words)
    await assert_job_tells(place, run_of("no-admission"), REFUSAL)


async def assert_job_tells(place: Env, run: str, words: str) -> None:
    """`kubectl describe job` says it as well: the Job is not taken away while the run waits."""
    job = await job_of(place, run)
    assert words in await place.describe("Job", job["metadata"]["name"])


@pytest.mark.parametrize(
    ("plugin", "reason", "words"),
    [
        ("no-digest", "ScriptHashMismatch", ("ConfigMap code, key main.sh", "SHA-256", "0" * 64)),
        ("no-key", "ScriptNotFound", ("other.sh",)),
    ],
)
async def test_a_script_that_is_not_the_one_stated_is_named(
    place: Env, plugin: str, reason: str, words: tuple[str, ...]
) -> None:
    await assert_failed(place, run_of(plugin), reason=reason, words=words)


async def test_a_storage_class_that_is_missing_is_told_by_the_claims_own_event(place: Env) -> None:
    words = ("PersistentVolumeClaim classless", f'storageclass.storage.k8s.io "{NO_CLASS}" not found')
    await assert_project_says(place, "classless", words=words)


async def test_a_claim_that_no_pod_may_write_to_is_named(place: Env) -> None:
    await assert_project_says(place, UNWRITABLE, words=(f"claim {UNWRITABLE}", "Permission denied"))


async def assert_project_says(place: Env, name: str, *, words: tuple[str, ...]) -> None:
    """Wait until a Project that is not ready says why; so do `kubectl get -o wide` and `kubectl describe`."""

    def says(project: Manifest) -> bool:
        return all(word in flat(project["status"].get("message", "")) for word in words)

    await place.wait("Project", name, where=says, seconds=SECONDS)
    assert_words(words, await place.kubectl("get", "cproj", name, "-o", "wide"))
    assert_words(words, await place.describe("Project", name))
