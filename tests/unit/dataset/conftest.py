from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_builders import Preparer
from message_receiver import Receiver, serving


@pytest.fixture
def preparer(tmp_path: Path) -> Preparer:
    return Preparer(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path / "identity"
    folder.mkdir()
    with serving(folder) as running:
        yield running
