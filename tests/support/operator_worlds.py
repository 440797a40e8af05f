"""Worlds in which the operator has made every kind of child that there is, and these children as it asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from chorus_api.resources import Resources
from chorus_kube.resources import JOBS
from chorus_operator.ca import CaBundle, make_ca
from chorus_operator.manifests.job import service_account
from fakes import FakeKube, Manifest
from service_world import ServiceWorld
from unit_manifests import container_plugin, plugin, project
from world import START, World

HUB = {"baseModel": {"uri": "hf://google/flan-t5-small", "secretRef": {"name": "hub"}}}
SCRIPT = {"configMap": {"name": "code", "key": "train.py"}, "sha256": "0" * 64}
Spec = Mapping[str, Any]
NOTHING_SAID = Resources()
Pods = dict[str, dict[str, Any]]
"""The pod of each role."""


def trained_by_lora(
    *, plugin_spec: Spec | None = None, project_spec: Spec | None = None, job_resources: Resources = NOTHING_SAID
) -> World:
    """Data was prepared, a base model fetched, a LoRA plugin with a script of its own trained; a model is published."""
    world = World(job_resources=job_resources)
    world.put(plugin(lora=HUB, script=SCRIPT, **(plugin_spec or {})), project(**(project_spec or {})))
    world.frame_ready()
    [fetch] = world.jobs("fetch")
    world.pod_starts(fetch)
    world.job_ends(fetch)
    world.pod_trains("home-soft-1")
    world.pod_says("home-soft-1", modelName={"modelName": "best"})
    [attempt] = world.jobs("train")
    world.job_ends(attempt)
    return world


def trained_by_a_container(
    *, plugin_spec: Spec | None = None, project_spec: Spec | None = None, job_resources: Resources = NOTHING_SAID
) -> World:
    """A container plugin trains, with everything beside it that there is."""
    world = World(job_resources=job_resources)
    world.put(
        container_plugin(describe=False, frameFormat="csv", messages="File", script=SCRIPT, **(plugin_spec or {})),
        project(**(project_spec or {})),
    )
    world.frame_ready()
    return world


def described(*, plugin_spec: Spec | None = None, job_resources: Resources = NOTHING_SAID) -> World:
    """An image is asked what it is."""
    world = World(job_resources=job_resources)
    world.put(container_plugin(messages="File", script=SCRIPT, **(plugin_spec or {})))
    return world


def served(
    *, plugin_spec: Spec | None = None, project_spec: Spec | None = None, job_resources: Resources = NOTHING_SAID
) -> World:
    """A service trains, and an exchange serves it."""
    world = ServiceWorld(job_resources=job_resources)
    world.begin(spec=plugin_spec, project=project_spec)
    return world


def pods_of(world: World) -> Pods:
    return {
        job["metadata"]["labels"]["chorus.dev/role"]: job["spec"]["template"]["spec"] for job in world.kube.all(JOBS)
    }


def every_pod(
    *, plugin_spec: Spec | None = None, project_spec: Spec | None = None, job_resources: Resources = NOTHING_SAID
) -> Pods:
    """One pod of each role; those of the world of a container plugin have `container` before their role."""
    project, default = project_spec, job_resources
    beside = pods_of(trained_by_a_container(plugin_spec=plugin_spec, project_spec=project, job_resources=default))
    return (
        pods_of(trained_by_lora(plugin_spec=plugin_spec, project_spec=project, job_resources=default))
        | {f"container {role}": pod for role, pod in beside.items()}
        | pods_of(described(plugin_spec=plugin_spec, job_resources=default))
        | pods_of(served(plugin_spec=plugin_spec, project_spec=project, job_resources=default))
    )


@cache
def children() -> tuple[Manifest, ...]:
    """Everything that the operator makes but Events, without owners, and without what an API server adds."""
    kubes = [world.kube for world in (trained_by_lora(), trained_by_a_container(), described(), served())]
    found = [stored for kube in kubes for stored in _made(kube)]
    found += [service_account("default"), asyncio.run(_bundle())]
    by_name = {(stored["kind"], stored["metadata"]["name"]): _as_asked_for(stored) for stored in found}
    return tuple(by_name.values())


def _made(kube: FakeKube) -> Iterator[Manifest]:
    asked = {(call.kind, call.name) for call in kube.calls if call.verb in ("create", "apply") and call.kind != "Event"}
    for (kind, _, name), stored in kube.objects.items():
        if (kind, name) in asked:
            yield stored


async def _bundle() -> Manifest:
    kube = FakeKube()
    await CaBundle(kube, authority=make_ca(now=START)).ensure("default", webhook_key="none")  # type: ignore[arg-type]
    [stored] = kube.objects.values()
    return stored


def _as_asked_for(stored: Manifest) -> Manifest:
    asked = ("name", "namespace", "labels", "annotations")
    kept = {key: value for key, value in stored["metadata"].items() if key in asked}
    return {key: value for key, value in stored.items() if key != "status"} | {"metadata": kept}
