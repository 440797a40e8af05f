from __future__ import annotations

from pathlib import Path

import pytest

from dataset_builders import Preparer


@pytest.fixture
def preparer(tmp_path: Path) -> Preparer:
    return Preparer(tmp_path)
