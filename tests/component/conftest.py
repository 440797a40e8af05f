"""Fixtures of the tests that drive one part of Chorus with real files, processes, sockets and clocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import limited_server
import message_receiver
from dataset_builders import Preparer
from lean_worker import plain_tracebacks, pytest_collection_finish
from limited_server import Env
from message_receiver import Receiver

__all__ = ["plain_tracebacks", "pytest_collection_finish"]


@pytest.fixture
def preparer(tmp_path: Path) -> Preparer:
    return Preparer(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path / "identity"
    folder.mkdir()
    with message_receiver.serving(folder) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Env]:
    async with limited_server.serving(tmp_path, secure=request.param) as running:
        yield running
