"""What reconciles tell whoever counts: facts that are written or found, after they are so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol


class Observer(Protocol):
    """Is told what happened; it must neither wait nor fail."""

    def status_written(self, kind: str, before: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        """A status was written: what it was, and the merge patch that changed it."""

    def run_gone(self, namespace: str, name: str) -> None:
        """A run is not there."""

    def runs_listed(self, namespace: str, project: str, names: Collection[str]) -> None:
        """These are all runs of a Project."""


class Nobody:
    """An observer that counts nothing."""

    def status_written(self, kind: str, before: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
        """Nothing."""

    def run_gone(self, namespace: str, name: str) -> None:
        """Nothing."""

    def runs_listed(self, namespace: str, project: str, names: Collection[str]) -> None:
        """Nothing."""
