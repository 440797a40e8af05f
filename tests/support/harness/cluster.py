"""A namespace of a real cluster for tests: apply, wait on what is watched, run programs in pods, and say what is so.

    async with Env.make(api, "happy") as place:
        await place.apply(make_project(...))
        await place.wait("Project", "shop", phase="TRAINED", seconds=120)

Its namespace enforces the restricted Pod Security profile. It is deleted at the end, without waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.client import Api, Manifest, eventually
from harness.record import Predicate, Record

COMMAND_SECONDS = 60.0
FINAL = frozenset({"failed", "notApplicable", "cancelled", "TRAINED"})
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
OPERATOR_NAMESPACE = "chorus-system"


@dataclass(frozen=True)
class Cluster:
    """The cluster at hand, with Chorus installed. `models` holds t5 and decoder; `gpus`: nodes show nvidia.com/gpu."""

    api: Api
    models: Path
    operator_image: str
    trainer_image: str
    gpus: bool


class CommandFailed(Exception):
    """A program ended with an error; the text holds what it said."""


async def command(*words: str, stdin: bytes | None = None, seconds: float = COMMAND_SECONDS) -> str:
    """Run a program and return what it printed. Raises CommandFailed, or TimeoutError after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            printed, errors = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(words)[:300]} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return printed.decode()


class Env:
    """One namespace. Make it with `Env.make`."""

    def __init__(self, api: Api, namespace: str, record: Record) -> None:
        self.api = api
        self.namespace = namespace
        self.record = record

    @classmethod
    @asynccontextmanager
    async def make(cls, api: Api, name: str, *, labels: Mapping[str, str] | None = None) -> AsyncIterator[Env]:
        """Make a fresh namespace and follow it; KEEP in the environment leaves it."""
        namespace = f"test-{name}-{secrets.token_hex(3)}"
        metadata = {"name": namespace, "labels": dict(RESTRICTED if labels is None else labels)}
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            async with Record(api, namespace) as record:
                yield cls(api, namespace, record)
        finally:
            if not os.environ.get("KEEP"):
                await api.delete("Namespace", namespace)

    async def apply(self, *manifests: Manifest) -> None:
        """Apply manifests in this namespace, whichever they name."""
        for manifest in manifests:
            metadata = manifest["metadata"] | {"namespace": self.namespace}
            await self.api.apply(manifest | {"metadata": metadata})

    async def patch(self, kind: str, name: str, patch: Manifest) -> None:
        """Merge a patch into an object."""
        await self.api.patch(kind, name, patch, namespace=self.namespace)

    # What is so

    async def wait(
        self,
        kind: str,
        name: str,
        *,
        phase: str | None = None,
        where: Predicate | None = None,
        seconds: float,
        even_failed: bool = False,
    ) -> Manifest:
        """Wait until the object is in `phase` and as `where` wants it.

        AssertionError with the state of the namespace when the time is over, or as soon as the object has come to
        another final phase than the one wanted (unless `even_failed`).
        """

        def check() -> Manifest | None:
            seen = self.record.find(kind, name)
            now = (seen or {}).get("status", {}).get("phase")
            if seen is not None and phase in (None, now) and (where is None or where(seen)):
                return seen
            if now in FINAL and not even_failed and now not in (None, phase):
                raise AssertionError(f"{kind} {name} is {now}")
            return None

        try:
            return await self.record.wait(check, seconds=seconds)
        except (TimeoutError, AssertionError) as error:
            why = str(error) or f"{kind} {name} is not as wanted after {seconds:g} s"
            raise AssertionError(f"{why}; wanted phase {phase}\n{await self.report()}") from None

    async def pod_of(self, run: str, *, attempt: int = 1, seconds: float = 120, ready: bool = True) -> Manifest:
        """Wait for the training pod of a run's attempt; with `ready`, until it runs."""
        labels = {"chorus.dev/run": run, "chorus.dev/attempt": str(attempt), "chorus.dev/role": "train"}

        def check() -> Manifest | None:
            for pod in self.record.all("Pod", labels=labels):
                if not ready or pod.get("status", {}).get("phase") == "Running":
                    return pod
            return None

        try:
            return await self.record.wait(check, seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"no pod of attempt {attempt} of {run}\n{await self.report()}") from None

    async def row(self, kind: str, name: str) -> dict[str, Any]:
        """The object's row of `kubectl get`, by column heading."""
        return next(row for row in await self.api.table(kind, namespace=self.namespace) if row["NAME"] == name)

    async def describe(self, kind: str, name: str) -> str:
        """What `kubectl describe` prints, with white space made one blank each."""
        return " ".join((await self.kubectl("describe", kind.lower(), name)).split())

    async def events(self, name: str | None = None) -> list[Manifest]:
        """The Events that Chorus sent, oldest first."""
        fields = "source=chorus" + (f",involvedObject.name={name}" if name else "")
        events = await self.api.list("Event", namespace=self.namespace, fields=fields)
        return sorted(events, key=lambda event: (event["firstTimestamp"], event["metadata"]["resourceVersion"]))

    async def told(self, name: str, reason: str) -> list[Manifest]:
        """The Events about an object, once there is one with this reason: Events follow the status they explain."""

        async def check() -> list[Manifest] | None:
            events = await self.events(name)
            return events if reason in {event["reason"] for event in events} else None

        return await eventually(check, what=f"an Event about {name} with reason {reason}") or []

    # Programs

    async def kubectl(self, *words: str, stdin: bytes | None = None, seconds: float = COMMAND_SECONDS) -> str:
        """Run kubectl in this namespace."""
        return await command("kubectl", "-n", self.namespace, *words, stdin=stdin, seconds=seconds)

    async def python(self, pod: str, script: str, *, given: object = None, seconds: float = COMMAND_SECONDS) -> Any:
        """Run a script in a pod. It finds `given` as JSON on its standard input, and prints JSON."""
        words = ("exec", "-i", pod, "--", "python", "-c", script)
        return json.loads(await self.kubectl(*words, stdin=json.dumps(given).encode(), seconds=seconds))

    async def report(self) -> str:
        """Say what the namespace looks like, for people."""
        parts = [await self._told("get", "cproj,cplug,crun,jobs,pods,pvc", "-o", "wide")]
        parts += [await self._told("get", "events", "--sort-by=.lastTimestamp", "--no-headers", tail=25)]
        for pod in self.record.all("Pod"):
            phase = pod.get("status", {}).get("phase")
            name = pod["metadata"]["name"]
            if phase == "Pending":
                parts.append(await self._told("describe", "pod", name, tail=12))
            elif phase == "Failed":
                parts.append(await self._told("logs", name, "--tail=15"))
        for kind in ("Project", "TrainingRun"):
            for seen in self.record.all(kind):
                status = seen.get("status", {})
                told = f"{kind} {seen['metadata']['name']}: {status.get('phase')}: {status.get('message')}"
                parts.append(f"{told} (was {', '.join(self.record.phases(kind, seen['metadata']['name']))})")
        words = ("-n", OPERATOR_NAMESPACE, "logs", "deployment/chorus-operator", "--tail=15")
        parts.append(await self._told(*words))
        return "\n\n".join(parts)

    async def _told(self, *words: str, tail: int | None = None) -> str:
        try:
            told = await self.kubectl(*words)
        except (CommandFailed, TimeoutError) as error:
            told = f"({error})"
        lines = told.splitlines()
        return "\n".join([f"$ kubectl {' '.join(words)}", *(lines[-tail:] if tail else lines)])


def conditions(seen: Manifest) -> dict[str, Manifest]:
    """The object's conditions by type."""
    return {condition["type"]: condition for condition in seen.get("status", {}).get("conditions", [])}


def mounts(pod: Manifest) -> Sequence[Manifest]:
    """The mounts of a pod's only container, each with its volume."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    (container,) = pod["spec"]["containers"]
    return [mount | {"volume": volumes[mount["name"]]} for mount in container["volumeMounts"]]
