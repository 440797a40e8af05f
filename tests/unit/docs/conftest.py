"""The generators of pages, which are no packages of ours, as modules."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from docs_text import REPOSITORY


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", REPOSITORY / "hack" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    return script("reference")


@pytest.fixture(scope="session")
def outcomes() -> ModuleType:
    return script("outcomes")


@pytest.fixture(scope="session")
def protocol() -> ModuleType:
    return script("protocol")
