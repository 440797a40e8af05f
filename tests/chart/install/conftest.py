"""The cluster of KUBECONFIG, with the images of the environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from harness.client import Api

HERE = Path(__file__).parent
NEEDED = ("KUBECONFIG", "CHORUS_OPERATOR_IMAGE", "CHORUS_TRAINER_IMAGE")
INSTALL_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share one event loop, since they share watches."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(INSTALL_SECONDS))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api() -> AsyncIterator[Api]:
    """A client of the cluster, with all rights."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.fail(f"{', '.join(missing)} not set: run make test-chart, or see kind/README.md", pytrace=False)
    async with Api(Path(os.environ["KUBECONFIG"])) as client:
        yield client
