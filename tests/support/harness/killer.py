"""Signals for the processes of a pod: SIGKILL, as a crash of the machine gives it, without grace; SIGSTOP and SIGCONT.

Deleting a pod, also with force, sends SIGTERM first, and nothing inside a container can kill its first process. So a
pod that sees the node's processes, under the same uid, does it. Its namespace has the privileged Pod Security profile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from builders import Manifest
from harness.client import Api
from harness.cluster import Env

LABELS = {"pod-security.kubernetes.io/enforce": "privileged"}
START_SECONDS = 60.0
UID = 65532

SCRIPT = """
import json, os, signal, sys
wanted, name = json.load(sys.stdin)
told = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            groups = file.read().replace("_", "-")
        if wanted in groups:
            with open(f"/proc/{pid}/cmdline") as file:
                command = file.read().replace("\\0", " ").strip()
            os.kill(int(pid), signal.Signals[name])
            told.append(command)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        continue  # it has just ended, or is the pod's pause container
print(json.dumps(told))
"""


class Killer:
    """Kills, stops and continues what runs in a pod. Make it with `Killer.make`."""

    def __init__(self, place: Env, *, image: str) -> None:
        self._place = place
        self._image = image
        self._nodes: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def make(cls, api: Api, *, image: str) -> AsyncIterator[Killer]:
        """Make it with a namespace of its own. `image` has a Python."""
        async with Env.make(api, "killer", labels=LABELS) as place:
            yield cls(place, image=image)

    async def kill(self, pod: Manifest) -> list[str]:
        """Kill every process of a pod that is not its pause container; their command lines."""
        return await self.signal(pod, "SIGKILL")

    async def signal(self, pod: Manifest, name: str) -> list[str]:
        """Send a signal to every process of a pod that is not its pause container; their command lines."""
        there = await self._on_node(pod["spec"]["nodeName"])
        told: list[str] = await self._place.python(there, SCRIPT, given=[pod["metadata"]["uid"], name])
        return told

    async def reach(self, pod: Manifest) -> None:
        """Be ready on the node of a pod, so that `kill` takes no time."""
        await self._on_node(pod["spec"]["nodeName"])

    async def _on_node(self, node: str) -> str:
        if node not in self._nodes:
            name = f"killer-{len(self._nodes)}"
            await self._place.apply(_manifest(name, node=node, image=self._image))
            await self._place.wait("Pod", name, phase="Running", seconds=START_SECONDS)
            self._nodes[node] = name
        return self._nodes[node]


def _manifest(name: str, *, node: str, image: str) -> Manifest:
    container = {"name": "main", "image": image, "command": ["sleep", "3600"]}
    spec = {
        "hostPID": True,
        "nodeName": node,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": UID, "runAsGroup": UID, "runAsNonRoot": True},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
