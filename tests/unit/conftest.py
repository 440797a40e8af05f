"""What every unit test runs under."""

from __future__ import annotations

from lean_worker import plain_tracebacks, pytest_collection_finish

__all__ = ["plain_tracebacks", "pytest_collection_finish"]
