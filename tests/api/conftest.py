"""One control plane for all API tests, with the CRDs of the repository; a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import yaml

from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api, Manifest

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(kube_binaries()) as running:
        asyncio.run(running.install(committed_crds()))
        running.start_controllers()
        yield running


def committed_crds() -> list[Manifest]:
    files = [file for file in sorted((REPOSITORY / "crds").glob("*.yaml")) if file.name != "kustomization.yaml"]
    return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]


@pytest.fixture(scope="session")
def installed(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with everything that `kubectl apply -k deploy/` makes."""
    asyncio.run(control_plane.install(kustomize(REPOSITORY / "deploy", binaries=control_plane.binaries)))
    return control_plane


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """A client with all rights."""
    async with control_plane.api() as client:
        yield client


@pytest.fixture
async def namespace(api: Api) -> str:
    """A fresh namespace with its default service account."""
    name = f"test-{next(_numbers)}"
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await api.wait_for("ServiceAccount", "default", lambda account: True, namespace=name)
    return name
