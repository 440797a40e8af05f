"""One cluster with Chorus installed for all tests here. KUBECONFIG and the two images say where: make test-cluster."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from harness.binaries import REPOSITORY
from harness.client import Api
from harness.cluster import Cluster, command
from harness.hands import make_models
from harness.killer import Killer

HERE = Path(__file__).parent
NEEDED = ("KUBECONFIG", "CHORUS_OPERATOR_IMAGE", "CHORUS_TRAINER_IMAGE")
TEST_SECONDS = 600
INSTALL_SECONDS = 300.0
GPU = "nvidia.com/gpu"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"gpus: needs a node that shows {GPU}, a real or a pretend one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One event loop for all, since they share watches; and what the cluster cannot give is deselected and listed."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    wanting = [item for item in ours if item.get_closest_marker("gpus") is not None]
    if wanting and not has_gpus():
        config.hook.pytest_deselected(items=wanting)
        items[:] = [item for item in items if item not in wanting]
        for item in wanting:
            print(f"deselected, no node shows {GPU}: {item.nodeid}", file=sys.stderr)


def has_gpus() -> bool:
    """Ask the cluster of KUBECONFIG, if there is one."""
    if not os.environ.get("KUBECONFIG"):
        return False
    words = ["kubectl", "get", "nodes", "-o", "json"]
    done = subprocess.run(words, capture_output=True, timeout=30, check=False)
    nodes = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return any(node["status"].get("allocatable", {}).get(GPU, "0") != "0" for node in nodes)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The cluster, with this version of Chorus installed."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.fail(f"{', '.join(missing)} not set: run make test-cluster, or see kind/README.md", pytrace=False)
    models = tmp_path_factory.mktemp("models")
    await asyncio.gather(make_models(models), command(str(REPOSITORY / "scripts" / "install"), seconds=INSTALL_SECONDS))
    async with Api(Path(os.environ["KUBECONFIG"])) as api:
        yield Cluster(
            api=api,
            models=models,
            operator_image=os.environ["CHORUS_OPERATOR_IMAGE"],
            trainer_image=os.environ["CHORUS_TRAINER_IMAGE"],
            gpus=await asyncio.to_thread(has_gpus),
        )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def killer(cluster: Cluster) -> AsyncIterator[Killer]:
    """Something that can kill without grace."""
    async with Killer.make(cluster.api, image=cluster.operator_image) as made:
        yield made
