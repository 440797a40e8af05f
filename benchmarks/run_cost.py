r"""Measure what runs cost: bare Jobs and runs side by side, through one operator on a control plane without nodes.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" benchmarks/run_cost.py

etcd, API server, controller manager and operator are the real processes. Pods are simulated: a harness plays the
kubelet and has each main container run for 5 seconds. Its own requests and watches burden the API server as a kubelet's
do; they are not subtracted. Prints Markdown tables; compare figures of one call only. Each option that measures more
does so on a control plane of its own.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from cost import modes
from cost.figures import Figures


async def measure(asked: argparse.Namespace) -> Figures:
    """Do what is asked for, one after the other."""
    figures = Figures()
    if not asked.only:
        await modes.lines(figures, runs=asked.runs, rate=asked.rate, hold_seconds=asked.hold)
    if asked.latency:
        await modes.latency(figures, runs=asked.runs, hold_seconds=asked.hold)
    if asked.burst:
        await modes.burst(hold_seconds=asked.hold)
    if asked.projects:
        await modes.projects()
    if asked.live:
        await modes.live(figures, count=asked.live)
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, or these words, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="how many of each line (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=4.0, help="created a second (default: %(default)s)")
    parser.add_argument("--hold", type=float, default=5.0, help="seconds that a pod runs (default: %(default)s)")
    parser.add_argument("--latency", action="store_true", help="also: creation to Job at 5 and at 10 a second")
    parser.add_argument("--burst", action="store_true", help="also: 1,000 runs at once beside 1,000 bare Jobs at once")
    parser.add_argument("--projects", action="store_true", help="also: 1,000 runs of one Project and of 100 Projects")
    parser.add_argument("--live", type=int, metavar="N", help="also: memory, CPU and requests with N runs that go on")
    parser.add_argument("--only", action="store_true", help="nothing but what these options add")
    parser.add_argument("--json", action="store_true", help="the last line is the figures of the targets, as JSON")
    asked = parser.parse_args(words)
    figures = asyncio.run(measure(asked))
    if asked.json:
        print(figures.line())


if __name__ == "__main__":
    main()
