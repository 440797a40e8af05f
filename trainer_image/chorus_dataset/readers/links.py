"""Follow links on a volume of users, without ever leaving it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chorus_dataset.untrusted import Directory, Refused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
"""As many as Linux follows."""


def find_below(root: Path, name: str) -> tuple[Directory, str]:
    """Find where a path below `root` leads when links are followed, and give its directory and its last part.

    For volumes of users, where links are usual, also in the way in which a ConfigMap is mounted. `Refused` for one that
    is absolute or leaves `root`, and for more than 40. The caller closes the directory.
    """
    waiting = _split(name)
    held = [os.open(root, _DIRECTORY)]
    links = 0
    try:
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                if len(held) == 1:
                    raise Refused("leads out of its volume")
                os.close(held.pop())
                continue
            mode = os.stat(part, dir_fd=held[-1], follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                said = os.readlink(part, dir_fd=held[-1])
                if links > _MAX_LINKS or said.startswith("/"):
                    raise Refused("is reached by a link that is absolute, or by too many links")
                waiting[:0] = _split(said)
            elif waiting:
                held.append(os.open(part, _DIRECTORY, dir_fd=held[-1]))
            else:
                return Directory(held.pop()), part
        raise Refused("is a directory")
    finally:
        for descriptor in held:
            os.close(descriptor)


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
