"""Nodes of a kind cluster, which are containers of an engine on this machine: stop and start, cordon, mount.

What is done to a node is undone at the end, whatever happens in between.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fault_builders import make_volume
from harness.client import Api, Manifest, eventually
from harness.cluster import OPERATOR_NAMESPACE, Env, command

STOP_SECONDS = 120.0
READY_SECONDS = 240.0


async def operator_node(api: Api) -> str:
    """The node that the operator runs on."""
    pods = await api.list("Pod", namespace=OPERATOR_NAMESPACE, labels="app.kubernetes.io/name=chorus-operator")
    return next(str(pod["spec"]["nodeName"]) for pod in pods if pod["status"]["phase"] == "Running")


@asynccontextmanager
async def cordoned(api: Api, node: str) -> AsyncIterator[None]:
    """Let no new pod onto a node."""
    await api.patch("Node", node, {"spec": {"unschedulable": True}})
    try:
        yield
    finally:
        await uncordon(api, node)


async def uncordon(api: Api, node: str) -> None:
    """Let pods onto a node again."""
    await api.patch("Node", node, {"spec": {"unschedulable": None}})


@asynccontextmanager
async def stopped(api: Api, node: str) -> AsyncIterator[None]:
    """Stop a node; at the end it is started, and waited for until its kubelet says that it is ready."""
    before = await api.get("Node", node)
    await engine("stop", node)
    try:
        yield
    finally:
        began = datetime.now(UTC)
        await engine("start", node)
        await _ready(api, node, since=began)
        await _give_devices_back(api, node, before)


async def _ready(api: Api, node: str, *, since: datetime) -> None:
    async def is_ready() -> bool:
        seen = await api.get("Node", node)
        ready = next(each for each in seen["status"]["conditions"] if each["type"] == "Ready")
        return ready["status"] == "True" and datetime.fromisoformat(ready["lastHeartbeatTime"]) > since

    await eventually(is_ready, what=f"node {node} is ready again", seconds=READY_SECONDS)


async def _give_devices_back(api: Api, node: str, before: Manifest) -> None:
    """A restarted kubelet forgets pretend devices."""
    devices = {name: count for name, count in before["status"]["capacity"].items() if "nvidia.com" in name}
    if devices:
        status = {"status": {"capacity": devices, "allocatable": devices}}
        await api.patch("Node", node, status, subresource="status")


async def engine(*words: str) -> str:
    """Run the container engine's command; a node has the name of its container."""
    program = shutil.which("docker") or shutil.which("podman")
    assert program is not None, "no container engine"
    return await command(program, *words, seconds=STOP_SECONDS)


@asynccontextmanager
async def small_disk(node: str, path: str, *, megabytes: int) -> AsyncIterator[None]:
    """Mount a file system of so many megabytes on a node, in memory, that any user may write to."""
    await engine("exec", node, "mkdir", "-p", path)
    await engine("exec", node, "mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "chorus-test", path)
    try:
        yield
    finally:
        await engine("exec", node, "umount", "--lazy", path)
        await engine("exec", node, "rmdir", path)


@asynccontextmanager
async def operator_away(api: Api) -> AsyncIterator[None]:
    """Scale the operator to none, and back at the end."""
    name = "chorus-operator"
    replicas = (await api.get("Deployment", name, namespace=OPERATOR_NAMESPACE))["spec"]["replicas"]

    async def is_gone() -> bool:
        labels = f"app.kubernetes.io/name={name}"
        return not await api.list("Pod", namespace=OPERATOR_NAMESPACE, labels=labels)

    await api.patch("Deployment", name, {"spec": {"replicas": 0}}, namespace=OPERATOR_NAMESPACE)
    try:
        await eventually(is_gone, what="the operator is gone", seconds=STOP_SECONDS)
        yield
    finally:
        await api.patch("Deployment", name, {"spec": {"replicas": replicas}}, namespace=OPERATOR_NAMESPACE)
        words = ("-n", OPERATOR_NAMESPACE, "rollout", "status", f"deployment/{name}", f"--timeout={READY_SECONDS:g}s")
        await command("kubectl", *words, seconds=READY_SECONDS + 10)


@asynccontextmanager
async def volume_on_node(place: Env, *, claim: str, node: str, path: str) -> AsyncIterator[None]:
    """A claim of the namespace that is bound to a directory of a node; the volume is deleted at the end.

    A directory that is not there is made as root's: no pod of a run may write to it.
    """
    volume, claimed = make_volume(
        f"{place.namespace}-{claim}", claim=claim, namespace=place.namespace, node=node, path=path
    )
    await place.api.create(volume)
    try:
        await place.apply(claimed)
        yield
    finally:
        await place.api.delete("PersistentVolume", volume["metadata"]["name"])
