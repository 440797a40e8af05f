"""What a run trains with, apart from the frame: its parameters, all layers over one another, and what runs them."""

from __future__ import annotations

from typing import Any, Protocol


class Recipe(Protocol):
    """Each plugin type has its own."""

    def training_data(self) -> dict[str, Any]:
        """Give the parameters of TRAINING_DATA."""

    def training_hash(self, frame: str) -> str:
        """Hash everything that a run on the frame trains with."""
