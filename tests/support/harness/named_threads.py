"""The operator's program, whose threads have their Python names in /proc too, as every program has from Python 3.14 on.

Operator(control_plane, kubeconfig=kubeconfig, program=("-m", "harness.named_threads"))
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from chorus_operator.__main__ import main

LONGEST = 15
"""What the kernel keeps of a name."""


class NamedThread(threading.Thread):
    """A thread that names itself before it does its work."""

    def run(self) -> None:
        """Do the work of the thread."""
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self.name[:LONGEST], encoding="utf-8")
        super().run()


if __name__ == "__main__":
    threading.Thread = NamedThread  # type: ignore[misc]
    sys.exit(main())
