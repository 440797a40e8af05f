"""Helm 3 and Helm 4, and what they make of the chart.

rendered = Helm("helm4").template({"networkPolicy": {"enabled": True}})
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.binaries import BUILD_SECONDS, REPOSITORY
from harness.client import Manifest

CHART = REPOSITORY / "charts" / "chorus"
RELEASE, NAMESPACE = "chorus", "chorus-system"
KUBERNETES = "1.36.0"
RENDER_SECONDS = 60
Version = Literal["helm3", "helm4"]
VERSIONS: tuple[Version, ...] = ("helm3", "helm4")


class HelmFailed(Exception):
    """Helm ended with an error; the text is what it said."""


@cache
def helm_binaries() -> Path:
    """Name the directory of helm3 and helm4: `CHORUS_HELM_BIN`, else what `kind/cluster helm` makes or has made."""
    if given := os.environ.get("CHORUS_HELM_BIN"):
        return Path(given)
    command = [str(REPOSITORY / "kind" / "cluster"), "helm"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError("kind/cluster helm failed, see above; or set CHORUS_HELM_BIN to where helm3 and helm4 are")
    return Path(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Helm:
    """One of the two, on the chart of the repository."""

    version: Version = "helm4"

    def run(
        self, *words: str, stdin: str | None = None, seconds: float = RENDER_SECONDS, with_logs: bool = False
    ) -> str:
        """Run Helm and return what it printed, with its log if asked to. HelmFailed, also when `seconds` are over."""
        command = [str(helm_binaries() / self.version), *words]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise HelmFailed(f"{self.version} {' '.join(words)} took over {seconds:g} s: {error.stdout!r}") from None
        if done.returncode != 0:
            raise HelmFailed(f"{self.version} {' '.join(words)[:200]}: {done.stderr.strip()}\n{done.stdout.strip()}")
        return done.stdout + done.stderr if with_logs else done.stdout

    def template(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
        chart: Path = CHART,
        hooks: bool = False,
    ) -> list[Manifest]:
        """Render the chart; without its hooks unless asked for them. Raises HelmFailed.

        What was rendered a moment ago is taken again: tests ask for the same values, and Helm takes 0.2 s of CPU.
        """
        words = ("template", release, str(chart), "-n", namespace, "--kube-version", KUBERNETES, "--values", "-")
        parts = _documents(self, words, json.dumps(values or {}))
        made = [manifest for part in parts if (manifest := deepcopy(_parsed(part)))]
        return [manifest for manifest in made if hooks or not is_hook(manifest)]

    def help(self, verb: str) -> str:
        """What `helm VERB --help` prints."""
        return _help(self, verb)


@lru_cache(maxsize=64)
def _documents(helm: Helm, words: tuple[str, ...], stdin: str) -> tuple[str, ...]:
    """The documents that Helm prints. Nothing of a chart may change between two calls with the same words."""
    return tuple(re.split("^---\n", helm.run(*words, stdin=stdin), flags=re.MULTILINE))


@lru_cache(maxsize=512)
def _parsed(document: str) -> Manifest | None:
    """One document. The definitions are most of each rendering, and the same in almost all."""
    parsed: Manifest | None = yaml.load(document, Loader=yaml.CSafeLoader)  # of libyaml: fast
    return parsed


@cache
def _help(helm: Helm, verb: str) -> str:
    return helm.run(verb, "--help")


def is_hook(manifest: Manifest) -> bool:
    """Whether Helm makes it only at certain moments."""
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one of a kind, or the one of that name too."""
    [found] = [one for one in of_kind(manifests, kind) if name is None or one["metadata"]["name"] == name]
    return found


def operator_pod(manifests: Sequence[Manifest]) -> Manifest:
    """The pod template of the operator's Deployment."""
    template: Manifest = only(manifests, "Deployment")["spec"]["template"]
    return template


def operator_container(manifests: Sequence[Manifest]) -> Manifest:
    """The operator's container."""
    [container] = operator_pod(manifests)["spec"]["containers"]
    found: Manifest = container
    return found


def environment(manifests: Sequence[Manifest]) -> dict[str, str | None]:
    """The plain variables of the operator's container; None for those from elsewhere."""
    return {entry["name"]: entry.get("value") for entry in operator_container(manifests)["env"]}
