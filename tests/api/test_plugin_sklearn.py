"""The scikit-learn plugin as a process, on a frame of penguins: what it says, how it ends, what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from chorus_api.parameters import ParametersSchema
from docs_text import REPOSITORY
from plugin_process import Frame, PluginPlace, penguin_rows, penguins, plugin_place, python

FOLDER = REPOSITORY / "examples" / "plugins" / "sklearn"
OUTCOME = {"outcome": "species"}
SLOW: dict[str, Any] = {"model": "forest", "candidates": 3, "folds": 4, "trees": 120}
"""Twelve fits of a tenth of a second each: time enough to be stopped in."""
Env = Callable[..., AbstractContextManager[PluginPlace]]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def place(tmp_path: Path) -> Env:
    def make(frame: Frame | None = None, **more: Any) -> AbstractContextManager[PluginPlace]:
        settings: dict[str, Any] = {"info": OUTCOME} | more
        command = python("-m", "tabular_classifier")
        return plugin_place(tmp_path, command=command, cwd=FOLDER, frame=frame, hidden=["torch"], **settings)

    return make


def test_it_says_what_it_is_and_needs(place: Env) -> None:
    with place() as here:
        ended = here.run(role="describe", attempt=0)
    assert (ended.code, ended.kinds) == (0, ["ONLINE_REPORT"]), ended.log
    report = ended.data("ONLINE_REPORT")
    schema = ParametersSchema.model_validate(report["parameters_schema"])
    assert {name: rule.default for name, rule in schema.properties.items()} == report["parameters"]
    assert (report["needed_info"], report["min_rows"]) == (["outcome"], 20)


def test_it_tells_species_far_better_than_a_guess(place: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = penguins(tmp_path)
    with place(frame) as here:
        for status in (503, 500, 429):  # a control plane that is away for a moment gets the message all the same
            here.receiver.answer(status)
        ended = here.run()
        out = here.out_dir
    assert (ended.code, ended.kinds) == (0, [*["DATA_REPORT"] * 4, "TRAINING_START", "MODEL_NAME"]), ended.log
    assert len({each.envelope.id for each in ended.messages[:4]}) == 1, "sent again unchanged until it was taken"
    metrics = ended.data("MODEL_NAME")["metrics"]
    assert metrics["accuracy"] > 0.9 > metrics["majority_accuracy"] + 0.2
    assert metrics["roc_auc"] > 0.95
    assert metrics["log_loss"] < 0.3
    percents = [each.payload.model_dump()["percent"] for each in ended.messages if each.envelope.type == "progress"]
    assert percents == sorted(percents)
    assert [each.envelope.sequence for each in ended.messages[3:]] == list(range(1, len(ended.messages) - 2))
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "SHA256SUMS", "metrics.json", "model.skops"]
    monkeypatch.syspath_prepend(tmp_path / "hidden")  # no torch, as in the image: scikit-learn would import it
    assert predicted(out, frame) == pytest.approx(metrics["accuracy"])


def predicted(out: Path, frame: Frame) -> float:
    """Load the model as its card says, and give it the rows held back in the order that the card says."""
    card = (out / "README.md").read_text(encoding="utf-8")
    columns = [line.split("`")[1] for line in card.splitlines() if line.startswith("1. ")]
    from skops.io import load  # seconds of processor time, which only this test needs

    model = load(out / "model.skops", trusted=["numpy.dtype"])
    assert 'trusted=["numpy.dtype"]' in card.replace("'", '"')
    rows = pq.read_table(frame.folder / "eval.parquet").to_pylist()
    kinds = {column.name: column.type for column in frame.manifest.columns}
    missing = {name: None if kinds[name] == "string" else np.nan for name in columns}
    matrix = [[missing[name] if row[name] is None else row[name] for name in columns] for row in rows]
    told = model.predict(np.array(matrix, dtype=object))
    return float(np.mean([row["species"] for row in rows] == told))


def test_stopped_it_ends_with_75_and_goes_on_with_what_is_left(place: Env, tmp_path: Path) -> None:
    with place(penguins(tmp_path), parameters=SLOW) as here:
        process = here.start()
        here.receiver.wait_for_posts(3)  # DATA_REPORT, TRAINING_START and the first progress
        process.send_signal(signal.SIGTERM)
        stopped = here.end(process)
        done = json.loads((here.run_dir / "search.json").read_text(encoding="utf-8"))["scores"]
        ended = here.run(attempt=2)
    assert stopped.code == 75, stopped.log
    assert "MODEL_NAME" not in stopped.kinds
    assert 0 < len(done) < SLOW["candidates"] * SLOW["folds"]
    assert (ended.code, ended.kinds[-1]) == (0, "MODEL_NAME"), ended.log
    assert f"{len(done)} fits were done before" in ended.log
    steps = [each.payload.model_dump()["step"] for each in ended.messages if each.envelope.type == "progress"]
    assert min(steps) > len(done)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"epochs": 3}, "parameters.epochs: there is no such parameter; there are model, candidates"),
        ({"model": "oracle"}, "parameters.model: 'oracle' is not one of logistic, forest"),
        ({"folds": 1}, "parameters.folds: 1 is not a whole number from 2 to 20"),
        ({"trees": "many"}, "parameters.trees: 'many' is not a whole number"),
    ],
)
def test_a_wrong_parameter_is_named(place: Env, tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    with place(penguins(tmp_path), parameters=parameters) as here:
        ended = here.run()
    assert (ended.code, ended.kinds) == (64, ["ERROR_REPORT"]), ended.log
    error = ended.data("ERROR_REPORT")
    assert error["reason"] == "BadConfiguration"
    assert words in error["detail"]


@pytest.mark.parametrize(
    ("info", "words"),
    [({}, "info has no key 'outcome'"), ({"outcome": "colour"}, "'colour'; there are species, island")],
)
def test_a_frame_that_does_not_suit_is_not_applicable(
    place: Env, tmp_path: Path, info: dict[str, str], words: str
) -> None:
    with place(penguins(tmp_path), info=info) as here:
        ended = here.run()
    assert (ended.code, ended.kinds) == (69, ["DATA_REPORT"]), ended.log
    report = ended.data("DATA_REPORT")
    assert report["applicable"] is False
    assert words in report["reason"]


def test_a_single_class_is_bad_data(place: Env, tmp_path: Path) -> None:
    adelie = [row for row in penguin_rows() if row["species"] == "Adelie"]
    with place(penguins(tmp_path, rows=adelie)) as here:
        ended = here.run()
    assert (ended.code, ended.kinds) == (65, ["ERROR_REPORT"]), ended.log
    assert "one value only, 'Adelie'" in ended.data("ERROR_REPORT")["detail"]


def test_a_name_of_a_model_that_is_refused_for_good_ends_as_an_error(place: Env, tmp_path: Path) -> None:
    with place(penguins(tmp_path), parameters={"candidates": 1, "folds": 2}) as here:
        for _ in range(10):
            here.receiver.answer(422, body='{"cause": "malformed"}')
        ended = here.run()
    assert ended.code == 70
    assert "not delivered" in ended.log


def test_without_a_variable_it_says_which() -> None:
    command = python("-m", "tabular_classifier")
    done = subprocess.run(command, cwd=FOLDER, env={}, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "CHORUS_MESSAGES_URL is not set" in done.stderr) == (64, True), done.stderr
