"""What CPU Jobs and the containers beside a plugin's may use: the Project's word, the operator's, the built-in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api.quantity import amount
from chorus_api.resources import BUILT_IN_JOB_RESOURCES, ResourceName, Resources
from chorus_operator.decisions.job_resources import job_resources, merged
from operator_worlds import NOTHING_SAID, every_pod
from unit_manifests import plugin, project
from world import NAMESPACE, World

QUANTITIES = st.builds("{}{}".format, st.integers(0, 4000), st.sampled_from(["", "m", "k", "Mi", "Gi"]))
BY_NAME = st.dictionaries(st.sampled_from(["cpu", "memory", "ephemeral-storage"]), QUANTITIES, max_size=3)
RESOURCES = st.builds(lambda requests, limits: Resources(requests=requests, limits=limits), BY_NAME, BY_NAME)
OWN = ("prepare", "fetch", "publish", "exchange", "describe")
"""Roles whose main container has the resources of CPU Jobs."""
WITHOUT_PROJECT = ("describe",)


def of(*, requests: dict[ResourceName, str] | None = None, limits: dict[ResourceName, str] | None = None) -> Resources:
    return Resources(requests=requests or {}, limits=limits or {})


def containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def computed(container: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Requests and limits of a container, without those of its node's disk."""
    return {
        kind: {name: quantity for name, quantity in quantities.items() if name != "ephemeral-storage"}
        for kind, quantities in container["resources"].items()
    }


# How the words are put together


@given(st.lists(RESOURCES, max_size=4))
def test_no_request_is_ever_above_its_limit(layers: list[Resources]) -> None:
    whole = merged(*layers)
    assert whole.above_limits() == []
    named = {name for each in layers for name in each.requests}
    assert whole.requests.keys() == named


@given(RESOURCES, RESOURCES)
def test_what_a_project_says_stands_unless_it_contradicts_itself(default: Resources, wanted: Resources) -> None:
    whole = job_resources(default, wanted)
    assert whole.limits.items() >= wanted.limits.items()
    for name in wanted.requests.keys() - set(wanted.above_limits()):
        assert whole.requests[name] == wanted.requests[name]


@given(RESOURCES, RESOURCES)
def test_the_order_of_what_is_said_does_not_show(default: Resources, wanted: Resources) -> None:
    turned = [
        Resources(requests=dict(reversed(each.requests.items())), limits=dict(reversed(each.limits.items())))
        for each in (default, wanted)
    ]
    assert job_resources(default, wanted).model_dump_json() == job_resources(*turned).model_dump_json()


def test_nothing_said_is_the_built_in_values() -> None:
    assert job_resources(NOTHING_SAID) == BUILT_IN_JOB_RESOURCES


def test_the_project_wins_over_the_operator_which_wins_over_the_built_in_values() -> None:
    default = of(requests={"memory": "512Mi"}, limits={"cpu": "1", "memory": "2Gi"})
    whole = job_resources(default, of(limits={"cpu": "3"}))
    assert whole == of(requests={"cpu": "100m", "memory": "512Mi"}, limits={"cpu": "3", "memory": "2Gi"})


def test_a_limit_below_an_inherited_request_lowers_the_request() -> None:
    whole = job_resources(NOTHING_SAID, of(limits={"cpu": "50m", "memory": "128Mi"}))
    assert whole == of(
        requests={"cpu": "50m", "memory": "128Mi"},
        limits={"cpu": "50m", "memory": "128Mi"},
    )


def test_a_request_above_an_inherited_limit_raises_the_limit() -> None:
    whole = job_resources(of(limits={"cpu": "1"}), of(requests={"cpu": "2", "memory": "4Gi"}))
    assert whole == of(requests={"cpu": "2", "memory": "4Gi"}, limits={"cpu": "2", "memory": "4Gi"})


def test_a_limit_of_the_operator_leaves_no_trace_where_the_project_sets_another() -> None:
    assert job_resources(of(limits={"cpu": "50m"}), of(limits={"cpu": "1"})).requests["cpu"] == "100m"


# What Jobs are made with


def test_without_a_word_no_container_of_chorus_has_a_limit_of_cpu() -> None:
    for role, pod in every_pod().items():
        assert all("cpu" not in container["resources"]["limits"] for container in containers(pod)), role


@pytest.mark.parametrize("role", OWN)
def test_the_main_container_of_each_cpu_job_has_what_the_operator_says(role: str) -> None:
    pod = every_pod(job_resources=of(requests={"cpu": "200m"}, limits={"cpu": "2"}))[role]
    assert computed(pod["containers"][0]) == {
        "requests": {"cpu": "200m", "memory": "256Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }


def test_the_main_container_of_each_cpu_job_of_a_project_has_what_the_project_says() -> None:
    spec = {"jobResources": {"limits": {"cpu": "3", "memory": "8Gi"}}}
    pods = every_pod(project_spec=spec, job_resources=of(limits={"cpu": "2"}))
    for role in OWN:
        limits = computed(pods[role]["containers"][0])["limits"]
        expected = ("2", "1Gi") if role in WITHOUT_PROJECT else ("3", "8Gi")
        assert (limits["cpu"], limits["memory"]) == expected, role


@pytest.mark.parametrize("said_by", ["operator", "project"])
def test_with_a_limit_of_cpu_every_container_of_every_pod_has_limits_and_requests_within_them(said_by: str) -> None:
    limits: dict[ResourceName, str] = {"cpu": "50m"}
    pods = every_pod(
        plugin_spec={"resources": {"limits": {"cpu": "4", "memory": "4Gi"}}},
        project_spec={"jobResources": {"limits": limits}} if said_by == "project" else None,
        job_resources=of(limits=limits) if said_by == "operator" else NOTHING_SAID,
    )
    for role, pod in pods.items():
        if said_by == "project" and role in WITHOUT_PROJECT:
            continue
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= resources["limits"].keys(), (role, container["name"])
            for name, quantity in resources.get("requests", {}).items():
                assert amount(quantity) <= amount(resources["limits"][name]), (role, container["name"], name)


@pytest.mark.parametrize(("limit", "forwarder", "frame"), [("2", "500m", "2"), ("300m", "300m", "300m")])
def test_containers_beside_a_plugin_keep_their_memory_and_the_small_ones_take_at_most_half_a_cpu(
    limit: str, forwarder: str, frame: str
) -> None:
    spec = {"jobResources": {"requests": {"memory": "6Gi"}, "limits": {"cpu": limit, "memory": "8Gi"}}}
    pod = every_pod(project_spec=spec)["container train"]
    beside = {container["name"]: computed(container) for container in pod["initContainers"]}
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": forwarder, "memory": "256Mi"}}
    assert beside == {
        "frame": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": frame, "memory": "1Gi"}},
        "script": small,
        "messages": small,
    }


def test_the_training_container_has_what_the_plugin_says_alone() -> None:
    pods = every_pod(project_spec={"jobResources": {"limits": {"cpu": "2"}}})
    for role in ("train", "container train"):
        assert "cpu" not in pods[role]["containers"][0]["resources"]["limits"], role


def test_a_limit_of_ephemeral_storage_is_that_of_the_job_in_place_of_the_one_by_scratch() -> None:
    spec = {"jobResources": {"limits": {"ephemeral-storage": "5Gi"}}}
    pods = every_pod(project_spec=spec)
    for role in ("prepare", "fetch", "publish", "exchange"):
        assert pods[role]["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "5Gi", role


def test_other_resources_prepare_data_again_that_may_have_failed_for_them() -> None:
    world = World()
    world.put(plugin(), project())
    before = world.jobs("prepare")
    world.put(project(jobResources={"limits": {"cpu": "1"}}))
    assert len(world.jobs("prepare")) == len(before) + 1


def test_another_word_of_the_operator_prepares_nothing_again() -> None:
    world = World()
    world.put(plugin(), project())
    before = world.jobs("prepare")
    world.job_resources = of(limits={"cpu": "1"})
    world.settle()
    assert world.jobs("prepare") == before


def test_a_job_that_is_deleted_since_it_got_no_pod_is_made_anew_with_what_the_operator_says_now() -> None:
    world = World()
    world.put(plugin(), project())
    [name] = world.jobs("prepare")
    world.job_resources = of(limits={"cpu": "1"})
    world.kube.objects.pop(("Job", NAMESPACE, name))
    world.settle()
    made = world.job(name)
    assert made is not None
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"


@pytest.mark.parametrize("role", ["prepare", "publish"])
def test_a_job_that_is_killed_for_its_memory_names_the_projects_field(role: str) -> None:
    world = World()
    world.put(plugin(), project())
    if role == "publish":
        world.frame_ready()
        world.pod_trains("home-soft-1")
        world.job_ends(world.attempt("home-soft-1"))
    [job] = world.jobs(role)
    world.pod_starts(job)
    world.job_ends(job, exit_code=137, terminated="OOMKilled")
    status = world.project()["status"] if role == "prepare" else world.run("home-soft-1")["status"]
    assert "Raise spec.jobResources.limits.memory of the Project." in status["message"]
