"""A plugin's own training script in the place of the trainer: executed only if it is the one that the Plugin states.

It finds what a container plugin finds: the files and the environment of the plugin contract. How it ends is its own
matter; its exit code is that of the pod.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType, ModuleType

from chorus_api.reasons import ExitCode
from chorus_api.run_config import LoraScriptConfig
from chorus_client.script import Unusable, failure_of, read_inside
from chorus_client.termination import write_termination

logger = logging.getLogger(__name__)
FAILED = 1


def _end(number: int, _frame: FrameType | None) -> None:
    """End by SIGTERM as a process does that is not a container's first: the script may handle it itself."""
    sys.exit(128 + number)


def run_script(script: LoraScriptConfig, *, termination_log: Path | None) -> int:
    """Check the script and execute the very bytes that were checked, as `__main__`; returns its exit code."""
    try:
        content = read_inside(Path(script.root), script.path, sha256=script.sha256)
    except Unusable as error:
        logger.error("%s: %s", error.reason, error)
        write_termination(failure_of(error), termination_log)
        return ExitCode.BAD_CONFIGURATION
    signal.signal(signal.SIGTERM, _end)
    file = str(Path(script.root) / script.path)
    module = ModuleType("__main__")
    module.__dict__["__file__"] = file
    sys.argv, sys.modules["__main__"] = [file], module
    try:
        exec(compile(content, file, "exec"), module.__dict__)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else ExitCode.DONE
    except Exception:
        traceback.print_exc()
        return FAILED
    return ExitCode.DONE
