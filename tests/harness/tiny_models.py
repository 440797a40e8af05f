"""`python -m harness.tiny_models DIR`: write DIR/t5 and DIR/decoder, as small as models get, in a few seconds."""

from __future__ import annotations

import sys
from pathlib import Path

from chorus_trainer.frame import Pair
from chorus_trainer.tiny.build import Shape
from chorus_trainer.tiny.pretrain import Kind, make

KINDS: tuple[Kind, ...] = ("t5", "decoder")


def main(out: Path) -> None:
    """Write both models."""
    rooms = ("kitchen", "bedroom", "garage", "hall")
    pairs = [Pair(f"lights on in the {room}", f"Switch the {room} lights on.") for room in rooms]
    for kind in KINDS:
        make(kind, pairs, out=out / kind, steps=1, shape=Shape(vocabulary=400, width=32, layers=1, heads=2), seed=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
