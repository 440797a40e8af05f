"""Learn that the pod is being stopped, without breaking into the work: the work asks at its own safe points."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
    """The pod was asked to stop; what can be saved has been, or there is nothing to save."""


class StopFlag:
    """Set by SIGTERM or SIGINT.

    It is a plain attribute and no `threading.Event`: an Event that is set by a signal handler can deadlock with a wait
    on it in the same thread.
    """

    def __init__(self) -> None:
        self._signal: int | None = None

    def install(self) -> StopFlag:
        """Take over SIGTERM and SIGINT. Only the main thread may do this; returns the flag itself."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def request(self, number: int = signal.SIGTERM) -> None:
        """Set the flag, as the signal would."""
        self._signal = number

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._signal is not None

    @property
    def signal_name(self) -> str:
        """Name of the signal that came, or an empty text."""
        return signal.Signals(self._signal).name if self._signal is not None else ""

    def check(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self.requested:
            raise Stopped(f"stopped by {self.signal_name}")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
