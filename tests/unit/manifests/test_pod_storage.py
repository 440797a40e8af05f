"""No pod of Chorus can fill its node's disk: every emptyDir has a size, and every container a limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api.quantity import GIB, amount, in_bytes
from chorus_operator.manifests.pod import whole_cpus
from operator_worlds import every_pod, pods_of, trained_by_lora
from unit_manifests import plugin, project
from world import World

REPOSITORY = Path(__file__).resolve().parents[3]
PODS = every_pod()
OF_THE_PROJECT = ("prepare", "fetch", "publish")
WITHOUT_TMP = ("publish", "container publish")


def containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def sizes(pod: dict[str, Any]) -> set[str]:
    return {volume["emptyDir"].get("sizeLimit", "none") for volume in pod["volumes"] if "emptyDir" in volume}


def storage(container: dict[str, Any]) -> tuple[str | None, str | None]:
    resources = container["resources"]
    name = "ephemeral-storage"
    return resources.get("requests", {}).get(name), resources.get("limits", {}).get(name)


def test_every_kind_of_pod_is_looked_at() -> None:
    assert {"prepare", "fetch", "train", "publish", "container train", "describe", "exchange"} <= PODS.keys()


@pytest.mark.parametrize("role", PODS)
def test_every_empty_dir_has_a_size_and_every_container_a_limit_of_ephemeral_storage(role: str) -> None:
    pod = PODS[role]
    assert sizes(pod) == (set() if role in WITHOUT_TMP else {"1Gi"})
    assert storage(pod["containers"][0]) == ("64Mi", "2Gi")
    beside = [storage(container) for container in pod.get("initContainers", ())]
    assert beside == [("16Mi", "256Mi")] * len(beside)


def test_nothing_in_the_repository_makes_an_empty_dir_without_a_size() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for folder in ("operator", "trainer_image", "deploy", "charts", "hack", "examples", "docs")
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.suffix in (".py", ".yaml", ".tpl", ".md")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"""emptyDir["']?:""", line) and "sizeLimit" not in line
    ]
    assert not found


@pytest.mark.parametrize("role", PODS)
def test_a_mount_that_can_be_written_to_has_a_bound(role: str) -> None:
    pod = PODS[role]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in containers(pod):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            assert mount["readOnly"] or "persistentVolumeClaim" in volume or "sizeLimit" in volume.get("emptyDir", {})


def test_a_plugin_raises_what_its_own_pods_may_use() -> None:
    pods = every_pod(plugin_spec={"scratch": {"size": "20Gi"}})
    for role, pod in pods.items():
        size, limit = ("1Gi", "2Gi") if role.removeprefix("container ") in OF_THE_PROJECT else ("20Gi", "21Gi")
        assert (sizes(pod), storage(pod["containers"][0])[1]) == (set() if role in WITHOUT_TMP else {size}, limit), role


def test_a_project_raises_what_the_pods_that_prepare_fetch_and_publish_may_use() -> None:
    pods = pods_of(trained_by_lora(project_spec={"scratch": {"size": "1500M"}}))
    for role, pod in pods.items():
        size, limit = ("1500000000", "2573741824") if role in OF_THE_PROJECT else ("1Gi", "2Gi")
        assert (sizes(pod), storage(pod["containers"][0])[1]) == (set() if role in WITHOUT_TMP else {size}, limit), role


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"limits": {"ephemeral-storage": "5Gi"}}, (None, "5Gi")),
        ({"limits": {"ephemeral-storage": "32Mi"}}, (None, "32Mi")),
        ({"requests": {"ephemeral-storage": "1Gi"}}, ("1Gi", "2Gi")),
        ({"requests": {"ephemeral-storage": "9Gi"}}, ("9Gi", "9Gi")),
        ({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}, ("64Mi", "2Gi")),
    ],
)
def test_what_the_plugin_asks_for_itself_stays(given: dict[str, Any], expected: tuple[str | None, str]) -> None:
    pod = pods_of(trained_by_lora(plugin_spec={"resources": given}))["train"]
    assert storage(pod["containers"][0]) == expected


def test_a_wider_scratch_prepares_data_again_that_did_not_fit() -> None:
    world = World()
    world.put(plugin(), project())
    before = world.jobs("prepare")
    world.put(project(scratch={"size": "4Gi"}))
    assert len(world.jobs("prepare")) == len(before) + 1


@given(st.integers(1, 1 << 60))
def test_sizes_are_written_and_read_again(size: int) -> None:
    assert amount(in_bytes(size)) == size


@pytest.mark.parametrize(
    ("text", "number"), [("500m", "0.5"), ("1k", "1000"), ("1.5Gi", str(GIB * 3 // 2)), ("7", "7")]
)
def test_quantities_of_every_suffix_are_read(text: str, number: str) -> None:
    assert amount(text) == amount(number)


@pytest.mark.parametrize("text", ["", "Gi", "1Xi", "1.2.3", "-1", "1 Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        amount(text)


def test_a_thousand_cpus_are_counted() -> None:
    assert whole_cpus({"requests": {"cpu": "1k"}}) == 1000
