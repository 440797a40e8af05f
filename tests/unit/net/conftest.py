"""Fixtures of every test of a server within limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limited_server import Place, serving


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with serving(tmp_path, secure=request.param) as running:
        yield running
