"""`python -m harness.tiny_models DIR`: write DIR/t5 and DIR/decoder, as small as models get, and DIR/damaged.

The damaged one is the T5 with a weight that is no number, so that its loss is none either.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from chorus_trainer.frame import Pair
from chorus_trainer.tiny.build import Shape
from chorus_trainer.tiny.pretrain import Kind, make

KINDS: tuple[Kind, ...] = ("t5", "decoder")


def main(out: Path) -> None:
    """Write the models."""
    rooms = ("kitchen", "bedroom", "garage", "hall")
    pairs = [Pair(f"lights on in the {room}", f"Switch the {room} lights on.") for room in rooms]
    for kind in KINDS:
        make(kind, pairs, out=out / kind, steps=1, shape=Shape(vocabulary=400, width=32, layers=1, heads=2), seed=1)
    shutil.copytree(out / "t5", out / "damaged")
    weights = load_file(out / "t5" / "model.safetensors")
    next(iter(weights.values()))[0] = math.nan
    save_file(weights, out / "damaged" / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
