"""Why a pod does not start, in the words of who blocks it: Events of the pod, of its claim, of a Job without pods."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest

from builders import make_plugin, make_project
from chorus_kube.errors import Forbidden
from chorus_kube.resources import EVENTS
from fakes import Call
from unit_manifests import plugin, project
from world import World, iso

RUN = "home-soft-1"
QUOTA = "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"


@cache
def _accepted() -> World:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    return world


def accepted() -> World:
    """A run whose Job is there."""
    return copy.deepcopy(_accepted())


def happens(world: World, about: dict[str, Any], *, reason: str, message: str) -> None:
    """Somebody of the cluster says something about an object."""
    metadata = about["metadata"]
    world.kube.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{len(world.kube.all(EVENTS))}", "namespace": "default"},
            "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata.get("uid", "")},
            "reason": reason,
            "message": message,
            "lastTimestamp": iso(world.now),
        }
    )


def status(world: World, run: str = RUN) -> dict[str, Any]:
    return dict(world.run(run)["status"])


def test_a_quota_that_leaves_no_room_is_told_with_its_numbers() -> None:
    world = accepted()
    job = world.job(world.attempt(RUN))
    assert job is not None
    happens(world, job, reason="FailedCreate", message=f'Error creating: pods "x" is forbidden: {QUOTA}')
    world.later(11)
    name = job["metadata"]["name"]
    assert status(world)["message"] == f"{QUOTA} (Job {name} has no pod yet.)"
    assert status(world)["shown"]["message"].startswith(QUOTA)
    world.later(121)
    assert (status(world)["phase"], status(world)["reason"]) == ("failed", "JobRejected")
    assert "exceeded quota: q" in status(world)["message"]
    assert "kubectl describe job" not in status(world)["message"], "that Job is deleted"


@pytest.mark.parametrize(
    "words",
    [
        'admission webhook "policy.example" denied the request: images must have a digest',
        'Internal error occurred: failed calling webhook "policy.example": connection refused',
    ],
)
def test_what_a_webhook_says_of_a_pod_comes_first(words: str) -> None:
    world = accepted()
    job = world.job(world.attempt(RUN))
    assert job is not None
    happens(world, job, reason="FailedCreate", message=f"Error creating: {words}")
    world.later(11)
    assert status(world)["message"].startswith(words)


def test_the_secret_of_a_base_model_that_is_missing_is_named_with_its_field_and_nothing_waits_for_hours() -> None:
    world = World()
    model = {"uri": "hf://a/b", "secretRef": {"name": "hf-token"}}
    world.put(plugin(lora={"baseModel": model}), project())
    world.frame_ready()
    (fetch,) = world.jobs("fetch")
    name = world.pod_waits(fetch, reason="ContainerCreating")
    (pod,) = world.pods_of(fetch)
    happens(world, pod, reason="FailedMount", message=f'MountVolume.SetUp failed: secret "hf-token" not found {name}')
    world.later(11)
    expected = "lora.baseModel.secretRef.name: Secret 'hf-token' is not in this namespace; create it."
    assert expected in status(world)["message"]
    world.later(61)
    assert (status(world)["phase"], status(world)["reason"]) == ("failed", "SecretNotFound")
    assert status(world)["message"] == expected


def test_a_pull_secret_that_is_missing_is_named() -> None:
    world = accepted()
    job = world.attempt(RUN)
    world.pod_waits(job, reason="ImagePullBackOff", message='Back-off pulling image "x": not found')
    (pod,) = world.pods_of(job)
    words = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    happens(world, pod, reason="FailedToRetrieveImagePullSecret", message=words)
    world.later(1)
    assert "spec.pod.imagePullSecrets: there is no Secret regcred in this namespace" in status(world)["message"]
    world.later(301)
    assert status(world)["reason"] == "ImagePullFailed"
    assert "regcred" in status(world)["message"]


def test_a_claim_that_cannot_be_bound_is_named_with_its_own_cause() -> None:
    world = World()
    world.put(make_plugin("p"), make_project(plugins=["p"]))
    (prepare,) = world.jobs("prepare")
    world.pod_waits(prepare, unschedulable="0/2 nodes: pod has unbound immediate PersistentVolumeClaims.")
    claim = world.project("shop")["status"]["claimName"]
    about = {"kind": "PersistentVolumeClaim", "metadata": {"name": claim}}
    happens(world, about, reason="ProvisioningFailed", message='storageclass.storage.k8s.io "no-such" not found')
    world.later(1)
    expected = f'PersistentVolumeClaim {claim}: storageclass.storage.k8s.io "no-such" not found'
    assert expected in world.project("shop")["status"]["message"]
    world.later(301)
    condition = next(c for c in world.project("shop")["status"]["conditions"] if c["type"] == "DatasetReady")
    assert (condition["reason"], expected in condition["message"]) == ("VolumeNotBound", True)


def test_events_are_listed_only_while_a_pod_does_not_start() -> None:
    world = accepted()
    world.train_to_the_end(RUN)
    assert Call("list", "Event") not in world.kube.calls


def test_an_operator_without_the_right_to_list_events_goes_on_without_them() -> None:
    world = accepted()

    def before(call: Call) -> None:
        if (call.verb, call.kind) == ("list", "Event"):
            raise Forbidden("events is forbidden", status=403, reason="Forbidden")

    world.kube.before = before
    world.later(11)
    assert "Quota or admission may refuse it." in status(world)["message"]
    world.train_to_the_end(RUN)
    assert world.phase(RUN) == "TRAINED"


@pytest.mark.parametrize("message", ['secret "x', 'secret "../x" not found', "x" * 5000, ""])
def test_words_that_name_no_object_blame_none(message: str) -> None:
    world = accepted()
    job = world.attempt(RUN)
    world.pod_waits(job, reason="ContainerCreating")
    (pod,) = world.pods_of(job)
    happens(world, pod, reason="FailedMount", message=message)
    world.later(300)
    assert status(world)["phase"] == "queued"


@pytest.mark.parametrize("kind", ["secret", "configmap"])
def test_a_volume_that_was_mounted_since_ends_no_run_whose_image_is_still_pulled(kind: str) -> None:
    world = accepted()
    job = world.attempt(RUN)
    world.pod_waits(job, reason="ContainerCreating")
    (pod,) = world.pods_of(job)
    happens(world, pod, reason="FailedMount", message=f'MountVolume.SetUp failed: {kind} "late" not found')
    world.later(20)
    happens(world, pod, reason="Pulling", message='Pulling image "x"')
    world.later(600)
    assert status(world)["phase"] == "queued"
    world.kube.objects.pop(("Pod", "default", pod["metadata"]["name"]))
    world.train_to_the_end(RUN)
    assert world.phase(RUN) == "TRAINED"


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "soon", "", 7])
def test_an_event_whose_time_cannot_be_read_stops_nothing(time: Any) -> None:
    world = accepted()
    job = world.job(world.attempt(RUN))
    assert job is not None
    happens(world, job, reason="FailedCreate", message=QUOTA)
    for stored in world.kube.all(EVENTS):
        if stored["reason"] == "FailedCreate":
            world.kube.put({**stored, "lastTimestamp": time})
    world.later(11)
    assert QUOTA in status(world)["message"]
