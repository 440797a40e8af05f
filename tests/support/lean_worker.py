"""What keeps the start of a worker of pytest and each of its tests short; for the `conftest.py` of a tier."""

from __future__ import annotations

import gc
import os

import pytest
import structlog

from docs_text import REPOSITORY

# OpenSSL takes 30 ms of CPU to read the authorities of a system, for each client that is made. No test of these tiers
# talks to a server that they vouch for. It is set here, before any test module is imported: aiohttp reads them at its
# import.
os.environ["SSL_CERT_FILE"] = str(REPOSITORY / "tests" / "data" / "only_authority.pem")

# Modules and tests are collected once and stay: to look for garbage among them took a tenth of the CPU of a start.
gc.disable()


def pytest_collection_finish() -> None:
    """Count what was collected no more, and look for garbage from now on."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Write a logged exception as Python does.

    The renderer that structlog has by default gives it to rich where that is installed, as transformers wants it: rich
    takes 0.1 s of CPU for each, and tests of queues and back-offs log hundreds.
    """
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
