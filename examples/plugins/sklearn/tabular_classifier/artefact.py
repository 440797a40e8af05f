"""Write what is published: the model, a card that says what it is, its figures, and the digests of all three.

The model is saved by skops. Such a file is a description of the pipeline and its arrays, and who loads it says which
types he trusts; a pickle would run whatever it holds. ONNX would also do, but its converter and the runtime that is
needed to try the result are several times as large as all the rest of this image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import sklearn
import skops
import skops.io
from sklearn.pipeline import Pipeline

from tabular_classifier.frame import Frame
from tabular_classifier.parameters import Parameters
from tabular_classifier.search import Found

TRUSTED = ("numpy.dtype",)
"""What the file holds beside the types that skops trusts: the imputer remembers the type of its column."""
MODEL, CARD, FIGURES, SUMS = "model.skops", "README.md", "metrics.json", "SHA256SUMS"


def write(
    folder: Path,
    *,
    model: Pipeline,
    frame: Frame,
    frame_name: str,
    parameters: Parameters,
    found: Found,
    metrics: Mapping[str, float],
) -> str:
    """Write the artefact into a directory, which is made; return its digest: that of its SHA256SUMS."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, folder / MODEL)
    figures = {"metrics": metrics, "search": asdict(found), "parameters": asdict(parameters), "frame": frame_name}
    (folder / FIGURES).write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    card = _card(frame, frame_name=frame_name, parameters=parameters, found=found, metrics=metrics)
    (folder / CARD).write_text(card, encoding="utf-8")
    sums = "".join(f"{_digest(folder / name)}  {name}\n" for name in (CARD, FIGURES, MODEL))
    (folder / SUMS).write_text(sums, encoding="ascii")
    return f"sha256:{_digest(folder / SUMS)}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _card(frame: Frame, *, frame_name: str, parameters: Parameters, found: Found, metrics: Mapping[str, float]) -> str:
    figures = [f"| {name} | {value:.4f} |" for name, value in metrics.items()] or ["| none: no rows were held back | |"]
    strength = "depth" if parameters.model == "forest" else "C"
    return "\n".join(
        [
            f"# Classifier of `{frame.outcome}`",
            "",
            f"A {parameters.model} model of scikit-learn {sklearn.__version__}, trained on {len(frame.train)} rows of"
            f" the frame {frame_name}. It tells {', '.join(frame.classes)}.",
            "",
            f"| on {len(frame.evaluation)} rows held back | |",
            "| --- | --- |",
            *figures,
            "",
            f"Cross-validation chose {strength} = {found.strength:g} (accuracy {found.accuracy:.4f}).",
            "",
            "## What goes in",
            "",
            "One row is a list of these values, in this order. A missing number is NaN, a missing category None.",
            "",
            *(f"1. `{name}`, a number" for name in frame.features.numbers),
            *(f"1. `{name}`, a category" for name in frame.features.categories),
            "",
            f"Left out: {', '.join(f'`{name}`' for name in frame.features.left_out) or 'nothing'}."
            f" Rows without an outcome, passed over: {frame.without_outcome}.",
            "",
            "## How to use it",
            "",
            "```python",
            "import numpy, skops.io",
            f'model = skops.io.load("{MODEL}", trusted={list(TRUSTED)})  # beside what skops trusts by itself',
            "model.predict(numpy.array([row], dtype=object))",
            "```",
            "",
            f"Saved by skops {skops.__version__}. Parameters: {json.dumps(asdict(parameters))}.",
            "",
        ]
    )
