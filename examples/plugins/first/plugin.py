"""A row belongs to the class whose mean is nearest: a whole plugin, with Python's standard library alone."""

import csv
import json
import math
import os
import signal
import sys
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

DISTANCES = ("straight", "city")


class Ends(Exception):
    """The run ends here: the exit code, and why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def say(kind: str, **data: Any) -> None:
    """Tell Chorus something: one line of JSON in the messages file."""
    with open(os.environ["CHORUS_MESSAGES_FILE"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"type": kind, "data": data}) + "\n")


def describe() -> None:
    """Say what this plugin is, what it needs and which parameters it takes."""
    distance = {"type": "string", "enum": DISTANCES, "default": "straight", "description": "How to measure."}
    say(
        "ONLINE_REPORT",
        id="nearest-mean",
        name="Nearest mean",
        type="CLASSIFICATION",
        description="Tells the outcome of a row by the class whose mean is nearest.",
        parameters={"distance": "straight"},
        parameters_schema={"properties": {"distance": distance}},
        needed_columns=[],
        needed_info=["outcome"],
        min_rows=10,
    )


def train() -> None:
    """Learn from the frame, and leave the model in $CHORUS_OUT_DIR."""
    told = json.loads(Path(os.environ["CHORUS_TRAINING_DATA"]).read_text(encoding="utf-8"))
    chosen = {"distance": "straight"} | told["parameters"]
    if set(chosen) != {"distance"} or chosen["distance"] not in DISTANCES:
        raise Ends(64, f"parameters are {chosen}: there is distance alone, one of {', '.join(DISTANCES)}")
    outcome = told["info"].get("outcome")
    rows = read("train.csv")
    if outcome not in rows[0]:
        raise Ends(69, f"info.outcome is {outcome!r}: set it to one of the columns {', '.join(rows[0])}")
    numbers = [name for name in rows[0] if name != outcome and is_numbers([row[name] for row in rows])]
    if not numbers:
        raise Ends(69, "the frame has no column of numbers to learn from")
    if len({row[outcome] for row in rows if row[outcome]}) < 2:
        raise Ends(65, f"column {outcome!r} holds one value only: there is nothing to tell apart")
    say("DATA_REPORT", applicable=True)
    say("TRAINING_START")
    model = learn(rows, outcome, numbers) | chosen
    right = [nearest(row, model) == row[outcome] for row in read("eval.csv") if row[outcome]]
    out = Path(os.environ["CHORUS_OUT_DIR"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").write_text(json.dumps(model), encoding="utf-8")
    say("MODEL_NAME", model_name="nearest-mean", metrics={"accuracy": fmean(right)} if right else {})


def read(name: str) -> list[dict[str, str]]:
    """Read a file of the frame. A missing value is an empty text."""
    with open(Path(os.environ["CHORUS_DATA_DIR"]) / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def is_numbers(texts: list[str]) -> bool:
    """Whether a column holds numbers, beside missing values."""
    try:
        return any(texts) and all(math.isfinite(float(text)) for text in texts if text)
    except ValueError:
        return False


def learn(rows: list[dict[str, str]], outcome: str, numbers: list[str]) -> dict[str, Any]:
    """The mean of each number in each class, and how far each number is spread."""
    kinds = sorted({row[outcome] for row in rows if row[outcome]})
    means: dict[str, dict[str, float]] = {}
    for done, kind in enumerate(kinds, start=1):
        values = {name: [float(row[name]) for row in rows if row[outcome] == kind and row[name]] for name in numbers}
        means[kind] = {name: fmean(found) for name, found in values.items() if found}
        say("progress", percent=100 * done // len(kinds), step=done, total_steps=len(kinds))
    spread = {name: pstdev(float(row[name]) for row in rows if row[name]) or 1.0 for name in numbers}
    return {"outcome": outcome, "means": means, "spread": spread}


def nearest(row: dict[str, str], model: dict[str, Any]) -> str:
    """The class whose mean is nearest to a row."""
    power = 2 if model["distance"] == "straight" else 1
    means: dict[str, dict[str, float]] = model["means"]
    spread: dict[str, float] = model["spread"]

    def away(kind: str) -> float:
        gaps = [(float(row[name]) - mean) / spread[name] for name, mean in means[kind].items() if row[name]]
        return math.fsum(abs(gap) ** power for gap in gaps)

    return min(means, key=away)


def main() -> int:
    """Do what CHORUS_ROLE asks for. The exit code tells Chorus whose fault an end is."""
    # Learning takes a moment: there is nothing to save, and the next attempt begins again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    try:
        describe() if os.environ["CHORUS_ROLE"] == "describe" else train()
    except Ends as end:
        print(end, file=sys.stderr)
        if end.code == 69:
            say("DATA_REPORT", applicable=False, reason=str(end)[:253])
        else:
            say("ERROR_REPORT", detail=str(end)[:4096])
        return end.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
