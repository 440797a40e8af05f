"""What the run says while it goes on, and what it reads of pytest's reports."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from runner.tiers import Counts


def say(text: str) -> None:
    """Write one line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def read_counts(report: Path) -> Counts:
    """Read pytest's XML report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    total = Counts()
    for suite in suites:
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        total += Counts(number["tests"] - failed - number["skipped"], failed, number["skipped"])
    return total
