"""`python -m chorus_trainer.tiny --data FILE --out DIR`: write DIR/t5 and DIR/decoder."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from transformers.utils import logging as transformers_logging

from chorus_trainer.tiny.build import Shape
from chorus_trainer.tiny.pretrain import Kind, make
from chorus_trainer.tiny.texts import read_pairs

STEPS: dict[Kind, int] = {"t5": 600, "decoder": 600}


def main(arguments: list[str]) -> int:
    """Make the models that are asked for; prints a JSON line for each."""
    parser = argparse.ArgumentParser(prog="chorus_trainer.tiny", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="table of requests: .sqlite or .csv")
    parser.add_argument("--out", type=Path, required=True, help="directory to write t5/ and decoder/ to")
    parser.add_argument("--only", choices=sorted(STEPS), help="make this one only")
    parser.add_argument("--steps", type=int, help=f"training steps; the default is {STEPS}")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same models")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    transformers_logging.disable_progress_bar()
    pairs = read_pairs(options.data)
    for kind in [options.only] if options.only else STEPS:
        begun = time.monotonic()
        steps = options.steps or STEPS[kind]
        loss = make(kind, pairs, out=options.out / kind, steps=steps, shape=Shape(), seed=options.seed)
        seconds = round(time.monotonic() - begun, 1)
        print(
            json.dumps({"model": str(options.out / kind), "steps": steps, "loss": round(loss, 4), "seconds": seconds})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
