"""Log lines of a training pod: to standard error and to log.txt on the volume, without secrets."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

from chorus_client.masking import mask

LOG_FILE = "log.txt"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class MaskingFormatter(logging.Formatter):
    """Formats a record and masks what looks like a secret, in tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return mask(super().format(record))


def set_up(run_dir: Path | None) -> None:
    """Send everything from INFO up to standard error and, with `run_dir`, to log.txt there. Warnings included."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if run_dir is not None:
        handlers.append(logging.FileHandler(run_dir / LOG_FILE, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(MaskingFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks for it
    for name in ("httpx", "httpcore", "accelerate", "transformers", "peft"):
        logging.getLogger(name).setLevel(logging.WARNING)
