"""Check a plugin's own script before anything of it is executed.

`python -m chorus_client.script SOURCE TARGET SHA256 NAME`, an init container.

What is put at TARGET are the very bytes whose digest was taken, so nothing can change between the check and the use.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from chorus_api.contract import TERMINATION_LOG
from chorus_api.nearest import nearest, with_suggestion
from chorus_api.reasons import ExitCode, Reason
from chorus_api.records import TerminationRecord
from chorus_client.termination import write_termination

LOG = logging.getLogger(__name__)
MAX_BYTES = 4 << 20
EXECUTABLE = 0o555
MOST_NAMES = 500
SHOWN = 10


class Unusable(Exception):
    """The script may not be executed; `reason` says why in a word."""

    def __init__(self, reason: Reason, message: str):
        super().__init__(message)
        self.reason = reason


def read_checked(path: Path, *, sha256: str, name: str) -> bytes:
    """Read a script of at most 4 MiB and compare its digest; `Unusable` names what people call it and both digests."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise Unusable(Reason.SCRIPT_NOT_FOUND, _not_there(path, name)) from error
    except OSError as error:
        raise Unusable(Reason.SCRIPT_NOT_FOUND, f"{name} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise Unusable(Reason.SCRIPT_NOT_FOUND, f"{name} is larger than {MAX_BYTES} bytes")
    there = hashlib.sha256(content).hexdigest()
    if there != sha256:
        raise Unusable(Reason.SCRIPT_HASH_MISMATCH, f"{name} has the SHA-256 {there}, not {sha256} as the Plugin says")
    return content


def _not_there(path: Path, name: str) -> str:
    """Say that a script is not there, which files are, and which was most likely meant."""
    names = [each.name for each in itertools.islice(path.parent.iterdir(), MOST_NAMES)] if path.parent.is_dir() else []
    there = sorted(each for each in names if not each.startswith(".."))  # those of a mounted ConfigMap are no keys
    message = f"{name} is not there; there are: {', '.join(there[:SHOWN]) or 'none'}."
    return with_suggestion(message, nearest(path.name, there))


def read_inside(root: Path, path: str, *, sha256: str) -> bytes:
    """Read a checked script that lies below `root`: no part of its path may be a link or lead out; else `Unusable`."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or PurePosixPath(path).is_absolute():
        raise Unusable(Reason.SCRIPT_NOT_FOUND, f"script.path {path!r} must be relative to {root}, without '..' parts")
    here = root
    for part in parts:
        here = here / part
        if here.is_symlink():
            raise Unusable(Reason.SCRIPT_NOT_FOUND, f"the script {path}: {here} is a link; links are not followed")
    return read_checked(here, sha256=sha256, name=f"the script {path}")


def failure_of(error: Unusable) -> TerminationRecord:
    """The last word of a container whose script may not be executed."""
    hints = {Reason.SCRIPT_HASH_MISMATCH: "Mend the script, or state its new digest in the Plugin."}
    hint = hints.get(error.reason, "Have the Plugin name a plain file that is there, of at most 4 MiB.")
    return TerminationRecord(
        outcome="failed", reason=error.reason, message=str(error)[:700], hint=f"{hint} Nothing of it was executed."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and copy; returns the exit code of the container."""
    parser = argparse.ArgumentParser(prog="chorus_client.script", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("sha256")
    parser.add_argument("name", help="what people call the script")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        content = read_checked(options.source, sha256=options.sha256, name=options.name)
    except Unusable as error:
        LOG.error("%s: %s", error.reason, error)
        write_termination(failure_of(error), options.termination_log)
        return ExitCode.BAD_CONFIGURATION
    options.target.write_bytes(content)
    os.chmod(options.target, EXECUTABLE)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
