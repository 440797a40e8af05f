"""One cluster with Chorus installed for all tests here. KUBECONFIG and the two images say where: make test-cluster."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness.audit import AUDIT_LOG
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
POLICY = "MutatingAdmissionPolicies.v1.admissionregistration.k8s.io"
PLUGIN_IMAGES = {name: f"CHORUS_PLUGIN_{name.upper()}_IMAGE" for name in ("first", "sklearn", "service")}
"""The variables that hold the images of the example plugins."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"gpus: needs a node that shows {GPU}, a real or a pretend one")
    config.addinivalue_line("markers", "audit: needs an API server that keeps an audit log, and comes after all others")
    config.addinivalue_line("markers", "engine: needs a container engine on this machine that can get the images")
    config.addinivalue_line("markers", "nodes: needs nodes that are containers of an engine on this machine")
    config.addinivalue_line("markers", f"policies: needs an API server that serves {POLICY}")
    config.addinivalue_line("markers", "plugins: needs the images of the example plugins")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One event loop for all, since they share watches; and what the cluster cannot give is deselected and listed."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    for marker, given, why in (
        ("gpus", has_gpus, f"no node shows {GPU}"),
        ("audit", keeps_audit_log, "the API server keeps no audit log"),
        ("engine", has_engine, "no container engine answers, or it cannot get the images"),
        ("nodes", has_nodes, "the nodes are no containers of an engine here"),
        ("policies", serves_policies, f"the API server does not serve {POLICY}"),
        ("plugins", has_plugin_images, f"{' or '.join(PLUGIN_IMAGES.values())} is not set"),
    ):
        wanting = [item for item in ours if item.get_closest_marker(marker) is not None]
        if wanting and not given():
            config.hook.pytest_deselected(items=wanting)
            items[:] = [item for item in items if item not in wanting]
            for item in wanting:
                print(f"deselected, {why}: {item.nodeid}", file=sys.stderr)
    items.sort(key=lambda item: item.get_closest_marker("audit") is not None)


def has_gpus() -> bool:
    """Ask the cluster of KUBECONFIG, if there is one."""
    return any(node["status"].get("allocatable", {}).get(GPU, "0") != "0" for node in listed("nodes"))


def keeps_audit_log() -> bool:
    """Ask the cluster of KUBECONFIG, if there is one, for how kubeadm started its API server."""
    servers = listed("pods", "-n", "kube-system", "-l", "component=kube-apiserver")
    return any(f"--audit-log-path={AUDIT_LOG}" in server["spec"]["containers"][0]["command"] for server in servers)


def has_plugin_images() -> bool:
    """Ask whether the images of the example plugins were made for this cluster."""
    return all(os.environ.get(variable) for variable in PLUGIN_IMAGES.values())


def has_nodes() -> bool:
    """Ask the engine for a container of each node's name."""
    engine, nodes = shutil.which("docker") or shutil.which("podman"), listed("nodes")
    words = ["container", "inspect", *(node["metadata"]["name"] for node in nodes)]
    if engine is None or not nodes:
        return False
    return subprocess.run([engine, *words], capture_output=True, timeout=30, check=False).returncode == 0


def serves_policies() -> bool:
    """Ask the cluster of KUBECONFIG, if there is one, for policies that change objects."""
    if not os.environ.get("KUBECONFIG"):
        return False
    done = subprocess.run(["kubectl", "get", POLICY.lower()], capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def listed(*words: str) -> list[dict[str, Any]]:
    """What `kubectl get` lists; nothing where there is no cluster or it may not be asked."""
    if not os.environ.get("KUBECONFIG"):
        return []
    done = subprocess.run(["kubectl", "get", *words, "-o", "json"], capture_output=True, timeout=30, check=False)
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return items


def has_engine() -> bool:
    """Ask whether docker or podman has the operator's image, or can pull it."""
    image = os.environ.get("CHORUS_OPERATOR_IMAGE")
    engine = shutil.which("docker") or shutil.which("podman")
    if image is None or engine is None:
        return False
    tries = ([engine, "image", "inspect", image], [engine, "pull", "--quiet", image])
    return any(subprocess.run(words, capture_output=True, timeout=300, check=False).returncode == 0 for words in tries)


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
