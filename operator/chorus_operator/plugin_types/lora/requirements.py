"""What a frame must have for a LoRA plugin."""

from __future__ import annotations

COLUMNS = ("prompt", "response")
