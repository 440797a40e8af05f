"""A pretend kubelet: it binds the pods of a namespace to a node, runs a program of the test for each, and reports it.

A pod starts when the ConfigMaps that it mounts are there, with a real token that is bound to it. Deleting it stops its
program; it is gone when the program has ended, and its log can be read through the API server all the while.

    async with Kubelet(control_plane, namespace=namespace, program=pods.chorus({})) as kubelet:
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from child_names import plain
from chorus_api import contract
from chorus_api.run_config import TerminationRecord
from harness.apiserver import HOST, ControlPlane
from harness.client import ApiError, Manifest, eventually, load_pair

MOUNT_SECONDS = 30.0
STOP_SECONDS = 20.0
THREADS = 64
JOB_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Exit:
    """How a program ended, and what it leaves behind."""

    code: int = 0
    record: TerminationRecord | None = None
    log: str = ""


@dataclass
class Container:
    """A pod's one container, as its program sees it: files by name, environment, identity, the wish to stop."""

    pod: Manifest
    files: dict[str, str]
    directory: Path
    threads: ThreadPoolExecutor
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the pod is being deleted: SIGTERM."""

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels."""
        labels: dict[str, str] = self.pod["metadata"]["labels"]
        return labels

    @property
    def env(self) -> dict[str, str]:
        """The container's environment."""
        return {entry["name"]: entry["value"] for entry in self.pod["spec"]["containers"][0].get("env", ())}


Program = Callable[[Container], Awaitable[Exit]]


class Kubelet:
    """Runs the pods of one namespace that Jobs made, and no others.

    `started` counts them by the plain name of their Job.
    """

    def __init__(
        self, control_plane: ControlPlane, *, namespace: str, program: Program, hold_seconds: float = 0.0
    ) -> None:
        """`hold_seconds`: how long each main container runs at least, unless its pod is deleted before.

        It may be changed, for the pods that start later; `math.inf` is until they are deleted.
        """
        self.program = program
        self.hold_seconds = hold_seconds
        self.started: Counter[str] = Counter()
        self.logs: dict[str, str] = {}
        self.node = f"node-of-{namespace}"
        self._control_plane = control_plane
        self._namespace = namespace
        self._stops: dict[str, asyncio.Event] = {}  # by pod uid
        self._lost: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(dir=self._control_plane.directory)
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="pod")
        self._api = await self._control_plane.api().__aenter__()
        await self._serve_logs()
        await self._register()
        self._begin(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self._api.delete("Node", self.node)
        await self._api.__aexit__(None, None, None)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._directory.cleanup()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise what went wrong in a program or in the kubelet itself, if anything did."""
        if self._broken:
            raise self._broken[0]

    def lose(self) -> None:
        """Lose the node with all pods that are there now: nothing is heard of them again. Later pods run as ever."""
        self._lost |= self._stops.keys()

    # The node

    async def _serve_logs(self) -> None:
        pair = self._control_plane.authority.server("kubelet", hosts=(HOST,))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_pair(context, certificate=pair.certificate, key=pair.key)
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, ssl_context=context).start()

    async def _log(self, request: web.Request) -> web.Response:
        text = self.logs.get(request.match_info["pod"])
        if text is None:
            return web.Response(status=404)
        if "tailLines" in request.query:
            text = "".join(text.splitlines(keepends=True)[-int(request.query["tailLines"]) :])
        return web.Response(text=text[: int(request.query.get("limitBytes", len(text)))])

    async def _register(self) -> None:
        await self._api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}})
        port = self._runner.addresses[0][1]
        status = {
            "addresses": [{"type": "InternalIP", "address": HOST}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self._api.patch("Node", self.node, {"status": status}, subresource="status")

    # Its pods

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken.append(error)

    async def _follow(self) -> None:
        async for event, pod in self._api.follow("Pod", namespace=self._namespace):
            uid = pod["metadata"]["uid"]
            gone = event == "DELETED" or "deletionTimestamp" in pod["metadata"]
            ours = JOB_LABEL in pod["metadata"].get("labels", {})
            if ours and uid not in self._stops and not gone and pod["status"]["phase"] == "Pending":
                self._stops[uid] = asyncio.Event()
                self._begin(self._run(pod))
            elif gone and uid in self._stops:
                self._stops[uid].set()

    async def _run(self, pod: Manifest) -> None:
        name = pod["metadata"]["name"]
        try:
            await self._bind(name)
            container = await self._mount(pod)
            await self._report(pod, {"phase": "Running", **_state(pod, {"running": {"startedAt": _now()}})})
            self.started[plain(container.labels[JOB_LABEL])] += 1
            since, until = _now(), asyncio.get_running_loop().time() + self.hold_seconds
            done = await self.program(container)
            await hold(container, until=until)
            self.logs[name] = done.log
            await self._report(pod, _terminated(pod, done, since=since))
        except ApiError as error:
            if error.status not in (404, 409):  # the pod was deleted before it was bound, or taken away by force
                raise
        await self._remove(pod)

    async def _bind(self, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        await self._api.request("POST", f"/api/v1/namespaces/{self._namespace}/pods/{name}/binding", body=binding)

    async def _mount(self, pod: Manifest) -> Container:
        directory = Path(tempfile.mkdtemp(prefix=f"{pod['metadata']['name']}-", dir=self._directory.name))
        files: dict[str, str] = {}
        for volume in pod["spec"]["volumes"]:
            sources = volume.get("projected", {}).get("sources", [volume])
            for source in sources:
                if "configMap" in source:
                    name = source["configMap"].get("name")
                    files |= (await self._config_map(name, pod))["data"]
        if contract.CA_KEY in files:
            await self._identify(pod, directory, files[contract.CA_KEY])
        return Container(pod, files, directory, self._threads, self._stops[pod["metadata"]["uid"]])

    async def _identify(self, pod: Manifest, directory: Path, authority: str) -> None:
        """Give a pod what it sends messages with."""
        (directory / contract.CA_KEY).write_text(authority, encoding="ascii")
        token = await self._control_plane.token_for(
            pod["spec"]["serviceAccountName"],
            namespace=self._namespace,
            audience=contract.AUDIENCE,
            pod=pod,
            api=self._api,
        )
        (directory / "token").write_text(token, encoding="ascii")

    async def _config_map(self, name: str, pod: Manifest) -> Manifest:
        async def find() -> Manifest | None:
            return await self._api.find("ConfigMap", name, namespace=self._namespace)

        what = f"ConfigMap {name}, which pod {pod['metadata']['name']} mounts"
        found = await eventually(find, what=what, seconds=MOUNT_SECONDS)
        assert found is not None
        return found

    async def _report(self, pod: Manifest, status: Manifest) -> None:
        name = pod["metadata"]["name"]
        await self._unless_lost(pod)
        await self._api.patch("Pod", name, {"status": status}, namespace=self._namespace, subresource="status")

    async def _unless_lost(self, pod: Manifest) -> None:
        if pod["metadata"]["uid"] in self._lost:
            await asyncio.Future()

    async def _remove(self, pod: Manifest) -> None:
        """Once the pod is to be deleted, say that nothing of it is left."""
        await self._stops[pod["metadata"]["uid"]].wait()
        await self._unless_lost(pod)
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}"
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        with contextlib.suppress(ApiError):
            await self._api.request("DELETE", path, body=options)


async def hold(container: Container, *, until: float) -> None:
    """Keep a container running until that time of the loop's clock, or until its pod is being deleted."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(None if math.isinf(until) else until):
            await container.stopping.wait()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _state(pod: Manifest, state: Manifest) -> Manifest:
    container = pod["spec"]["containers"][0]
    status = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }
    return {"containerStatuses": [status]}


def _terminated(pod: Manifest, done: Exit, *, since: str) -> Manifest:
    message = done.record.model_dump_json(by_alias=True, exclude_none=True) if done.record else ""
    terminated = {
        "exitCode": done.code,
        "reason": "Error" if done.code else "Completed",
        "message": message,
        "startedAt": since,
        "finishedAt": _now(),
    }
    return {"phase": "Failed" if done.code else "Succeeded", **_state(pod, {"terminated": terminated})}
