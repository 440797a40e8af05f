"""How long each wait of a check may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Seconds of each wait."""

    describe: float = 120.0
    training: float = 900.0
    grace: float = 120.0
    """From SIGTERM to the end."""
    away: float = 5.0
    """How long the receiver refuses connections."""
    impostor: float = 5.0
    """How long the plugin may try to speak to a false receiver, beyond what it took to describe itself."""
