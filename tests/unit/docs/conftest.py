"""docs/reference.py, which is no package of ours, as a module."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from docs_text import REPOSITORY


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", REPOSITORY / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
