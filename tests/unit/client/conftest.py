from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from message_receiver import Receiver, serving


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with serving(tmp_path) as running:
        yield running
