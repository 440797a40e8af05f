"""Take the README's tour word for word, and say how long each step took.

    python3 benchmarks/tour.py

Run it in a clean clone. All steps share one shell, as they do for a reader. Exit: the status of the step that fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
END = "the step has ended with"


def steps(page: str) -> list[str]:
    """Read the commands of the section `A tour`."""
    section = page.partition("\n## A tour\n")[2].partition("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    if block is None:
        raise SystemExit("README.md has no block of commands under 'A tour'")
    return [re.sub(r"\s+#.*$", "", line) for line in block[1].splitlines() if line.strip()]


def main() -> int:
    """Take it."""
    shell = subprocess.Popen(["bash"], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert shell.stdin is not None
    assert shell.stdout is not None
    took = []
    status = "0"
    for step in steps((REPOSITORY / "README.md").read_text(encoding="utf-8")):
        print(f"$ {step}", flush=True)
        began = time.monotonic()
        shell.stdin.write(f"{step} </dev/null 2>&1\nended=$?; echo; echo '{END}' $ended\n")
        shell.stdin.flush()
        for line in shell.stdout:
            if line.startswith(END):
                status = line.split()[-1]
                break
            print(line, end="", flush=True)
        else:
            status = "1"  # the shell is gone
        took.append((step, time.monotonic() - began))
        if status != "0":
            break
    shell.stdin.close()
    shell.wait()
    print("\n| step | seconds |\n| --- | ---: |")
    for step, seconds in [*took, ("all", sum(seconds for _, seconds in took))]:
        print(f"| `{step}` | {seconds:.1f} |" if step != "all" else f"| all | {seconds:.0f} |")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
