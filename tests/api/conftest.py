"""A control plane for the API tests of each process, with the CRDs of the repository; a namespace for each test."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import yaml

from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api, ApiError, Manifest

_numbers = itertools.count(1)
_lock = pytest.StashKey[Path]()

LONGEST_FIRST = (
    "test_operator_service",
    "test_operator_lease",
    "test_operator_killed",
    "test_operator_requests",
    "test_commands_of_pages",
    "test_plugin_sklearn",
    "test_operator_namespaced",
    "test_operator_faults",
    "test_operator_outage",
    "test_plugin_check_service",
    "test_plugin_check",
    "test_operator_story",
    "test_sources_postgres",
    "test_monitoring",
)
"""The files that take longest, so that no process begins one of them when the others are about to end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more for two cores: half of the time an operator is waited for."""
    cores = len(os.sched_getaffinity(0))
    return cores + (cores + 1) // 2


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: no other test runs meanwhile, in any process")
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # xdist would begin with the files of many tests, which are short


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, and last the tests that wait until all others have ended."""

    def rank(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.stem
        return _is_alone(item), LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests run side by side, but for those that are to be alone."""
    with _lock_of(item.config).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        return (yield)


def _lock_of(config: pytest.Config) -> Path:
    """A file that all processes of this run share."""
    if _lock not in config.stash:
        base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        config.stash[_lock] = (base.parent if hasattr(config, "workerinput") else base) / "alone.lock"
    return config.stash[_lock]


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
    """A fresh namespace with its default service account, which its controller else makes a moment later."""
    name = f"test-{next(_numbers)}"
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        await api.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        )
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    return name
