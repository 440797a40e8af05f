"""What a training needs of the world around it, so that tests can give it another world."""

from __future__ import annotations

from typing import Protocol

from chorus_protocol.messages import Payload, ProgressReport


class Messages(Protocol):
    """The way to the control plane. Neither call waits, and neither fails a training."""

    def send(self, payload: Payload) -> None:
        """Send until acknowledged, in the background."""

    def progress(self, payload: ProgressReport) -> None:
        """Send once, if nothing newer comes first."""


class Stop(Protocol):
    """Whether the pod was told to stop."""

    @property
    def requested(self) -> bool:
        """A signal came."""


class ClosingMessages(Messages, Protocol):
    """Messages that can be waited for."""

    def close(self, deadline_seconds: float) -> object:
        """Deliver what waits, for at most so long."""
