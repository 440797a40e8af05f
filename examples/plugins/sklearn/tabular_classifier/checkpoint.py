"""What a stopped search has found out so far, in a file of the run's directory, for the next attempt to go on with.

It is JSON and no saved model: nothing that could run code lies on the volume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "search.json"


class Checkpoint:
    """The scores of the fits that are done. What was saved about another frame or with other parameters is not used."""

    def __init__(self, path: Path, *, about: Mapping[str, Any]) -> None:
        self._path = path
        self._about = dict(about)
        self.scores: dict[str, float] = self._saved()
        """Accuracy of each fit that is done, by candidate and fold."""

    def _saved(self) -> dict[str, float]:
        try:
            saved = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return dict(saved["scores"]) if saved.get("about") == self._about else {}

    def save(self) -> None:
        """Write what is done; a reader sees the old file or the new one, never a part."""
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps({"about": self._about, "scores": self.scores}), encoding="utf-8")
        os.replace(unfinished, self._path)
