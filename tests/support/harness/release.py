"""Chorus as a Helm release in the cluster of KUBECONFIG, and the removal of whatever was installed before.

release = Release(Helm("helm4"), "chorus", namespace="chorus-system")
await release.install({"operator": {"replicas": 2}})
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builders import overlay
from harness.binaries import REPOSITORY
from harness.client import Api, ApiError, Manifest
from harness.cluster import RESTRICTED, command
from harness.helm import CHART, Helm

WAIT_SECONDS = 180
TEST_SECONDS = 500  # the first pull of the trainer image is part of it
CLEAR_SECONDS = 180
KINDS = ("Project", "Plugin", "TrainingRun")
CRDS = tuple(f"{kind.lower()}s.chorus.dev" for kind in KINDS)


def image_values(reference: str) -> dict[str, str]:
    """The chart's values for an image, from `registry/name:tag`."""
    path, _, tag = reference.rpartition(":")
    registry, _, name = path.rpartition("/")
    return {"registry": registry, "name": name, "tag": tag}


def images() -> Manifest:
    """Values for the two images of the environment."""
    return {
        "operator": {"image": image_values(os.environ["CHORUS_OPERATOR_IMAGE"])},
        "trainer": {"image": image_values(os.environ["CHORUS_TRAINER_IMAGE"])},
    }


@dataclass(frozen=True)
class Release:
    """One release; every verb waits until it is done, or raises HelmFailed."""

    helm: Helm
    name: str
    namespace: str

    async def install(self, values: Mapping[str, Any] | None = None, *, flags: Sequence[str] = ()) -> str:
        """Install the chart with the images of the environment and `values`."""
        return await self._make("install", values, flags)

    async def upgrade(self, values: Mapping[str, Any] | None = None) -> str:
        """Upgrade to these values."""
        return await self._make("upgrade", values)

    async def roll_back(self, revision: int) -> str:
        """Go back to a revision."""
        return await self.run("rollback", self.name, str(revision), *_waiting())

    async def test(self) -> str:
        """Run `helm test`; with the log, which has what the test's pod said."""
        words = ("test", self.name, "--timeout", f"{TEST_SECONDS}s")
        return await self.run(*words, seconds=TEST_SECONDS + 40, with_logs=True)

    async def uninstall(self) -> str:
        """Uninstall it."""
        return await self.run("uninstall", self.name, *_waiting())

    async def revision(self) -> int:
        """Its present revision."""
        return int(json.loads(await self.run("status", self.name, "-o", "json"))["version"])

    async def run(
        self, *words: str, stdin: str | None = None, seconds: float = WAIT_SECONDS + 30, with_logs: bool = False
    ) -> str:
        """Run Helm in the release's namespace."""
        return await asyncio.to_thread(
            self.helm.run, *words, "-n", self.namespace, stdin=stdin, seconds=seconds, with_logs=with_logs
        )

    async def _make(self, verb: str, values: Mapping[str, Any] | None, flags: Sequence[str] = ()) -> str:
        given = json.dumps(overlay(images(), values or {}))
        return await self.run(verb, self.name, str(CHART), "--values", "-", *flags, *_waiting(), stdin=given)


def _waiting() -> tuple[str, ...]:
    return ("--wait", "--timeout", f"{WAIT_SECONDS}s")


async def make_namespace(api: Api, name: str) -> None:
    """Make a namespace that enforces the restricted profile."""
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})


async def clear(api: Api) -> None:
    """Remove every installation of Chorus, its CRDs too. AssertionError when there are objects that no test made."""
    await _refuse_if_used(api)
    for one in json.loads(await asyncio.to_thread(Helm("helm4").run, "list", "-A", "-o", "json")):
        if one["chart"].startswith("chorus-"):
            release = Release(Helm("helm4"), one["name"], one["namespace"])
            await release.uninstall()
            await kubectl("delete", "namespace", one["namespace"], "--ignore-not-found")
    await kubectl("delete", "-k", str(REPOSITORY / "deploy"), "--ignore-not-found")


async def _refuse_if_used(api: Api) -> None:
    for kind in KINDS:
        try:
            found = await api.list(kind)
        except LookupError:  # no such kind: nothing is installed
            return
        except ApiError as error:  # the kind was there when the client looked first
            if error.status == 404:
                return
            raise
        used = {one["metadata"]["namespace"] for one in found}
        foreign = sorted(name for name in used if not name.startswith("test-"))
        assert not foreign, f"the tests of the chart remove the CRDs, and namespace {foreign[0]} has a {kind}: " + (
            "give them a cluster of their own, such as kind/cluster up makes"
        )


async def kubectl(*words: str, stdin: bytes | None = None, seconds: float = CLEAR_SECONDS) -> str:
    """Run kubectl."""
    return await command("kubectl", *words, stdin=stdin, seconds=seconds)
