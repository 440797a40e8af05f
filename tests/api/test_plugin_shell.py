"""The plugin in sh and awk as a process, on a frame of penguins in CSV, with messages in a file."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chorus_api.parameters import ParametersSchema
from docs_text import REPOSITORY
from plugin_process import Frame, PluginPlace, assert_kit_passes, penguin_rows, penguins, plugin_place

FOLDER = REPOSITORY / "examples" / "plugins" / "shell"
SCRIPT = FOLDER / "naive_bayes.sh"
OUTCOME = {"outcome": "species"}
Env = Callable[..., AbstractContextManager[PluginPlace]]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Env:
    def make(frame: Frame | None = None, **more: Any) -> AbstractContextManager[PluginPlace]:
        settings: dict[str, Any] = {"info": OUTCOME, "command": ["sh", SCRIPT.name]} | more
        return plugin_place(tmp_path, cwd=FOLDER, frame=frame, channel="File", **settings)

    return make


def test_it_says_what_it_is_and_needs(place: Env) -> None:
    with place() as here:
        ended = here.run(role="describe", attempt=0)
    assert (ended.code, ended.kinds) == (0, ["ONLINE_REPORT"]), ended.log
    report = ended.data("ONLINE_REPORT")
    schema = ParametersSchema.model_validate(report["parameters_schema"])
    assert {name: rule.default for name, rule in schema.properties.items()} == report["parameters"] == {"smoothing": 1}
    assert (report["needed_info"], report["min_rows"]) == (["outcome"], 10)


def test_it_tells_species_far_better_than_a_guess(place: Env, tmp_path: Path) -> None:
    with place(penguins(tmp_path)) as here:
        ended = here.run()
        out = here.out_dir
        model = json.loads((out / "model.json").read_text(encoding="utf-8"))
        lines = (out / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    assert (ended.code, ended.kinds) == (0, ["DATA_REPORT", "TRAINING_START", "MODEL_NAME"]), ended.log
    said = ended.data("MODEL_NAME")
    assert said["metrics"]["accuracy"] > 0.9 > said["metrics"]["majority_accuracy"] + 0.2
    assert said["metrics"]["log_loss"] < 0.3
    assert lines == [f"{sha256(out / name)}  {name}" for name in ("README.md", "model.json")]
    assert said["digest"] == f"sha256:{sha256(out / 'SHA256SUMS')}"
    assert model["classes"].keys() == {"Adelie", "Chinstrap", "Gentoo"}
    kinds = {name: column["kind"] for name, column in model["columns"].items()}
    assert kinds["sex"] == kinds["island"] == "category"
    assert kinds["body_mass_g"] == "number"
    percents = [each.payload.model_dump()["percent"] for each in ended.messages if each.envelope.type == "progress"]
    assert percents == [*range(10, 100, 10), 100]


def test_the_model_holds_what_the_rows_say(place: Env, tmp_path: Path) -> None:
    """Counted again, with another tool: missing values are left out of both."""
    frame = penguins(tmp_path)
    with place(frame) as here:
        here.run()
        model = json.loads((here.out_dir / "model.json").read_text(encoding="utf-8"))
        with (here.folder / "csv" / "train.csv").open(encoding="utf-8", newline="") as file:
            gentoo = [row for row in csv.DictReader(file) if row["species"] == "Gentoo"]
    weights = [float(row["body_mass_g"]) for row in gentoo if row["body_mass_g"]]
    assert model["classes"]["Gentoo"] == len(gentoo)
    assert model["columns"]["body_mass_g"]["of"]["Gentoo"]["mean"] == pytest.approx(sum(weights) / len(weights))
    assert model["columns"]["island"]["of"]["Gentoo"] == {"Biscoe": len(gentoo), "Dream": 0, "Torgersen": 0}


def test_names_and_values_with_quotes_commas_and_line_breaks_come_through(place: Env, tmp_path: Path) -> None:
    kinds = ('the "big", one', "zwei\nZeilen \\ süß", "\N{PENGUIN}")
    rows = [{"the kind, of it": kinds[n % 3], 'size "in" mm': str(n % 3 + n / 1000), "note": ""} for n in range(60)]
    with place(penguins(tmp_path, rows=rows), info={"outcome": "the kind, of it"}) as here:
        ended = here.run()
        model = json.loads((here.out_dir / "model.json").read_text(encoding="utf-8"))
    assert ended.code == 0, ended.log
    assert set(model["classes"]) == set(kinds)
    assert list(model["columns"]) == ['size "in" mm']
    assert ended.data("MODEL_NAME")["metrics"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"epochs": 3}, "parameters.epochs: there is no such parameter; there is smoothing"),
        ({"smoothing": 0}, "parameters.smoothing: 0 is not a whole number from 1 to 100"),
        ({"smoothing": 'a "lot"'}, 'parameters.smoothing: a "lot" is not a whole number'),
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
    [
        ({}, "info has no key 'outcome'"),
        ({"outcome": "colour"}, 'the column "colour"; the frame has species, island'),
        ({"outcome": "ö" * 200}, "info.outcome names the column"),
    ],
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
    assert "one value only" in ended.data("ERROR_REPORT")["detail"]


def test_stopped_while_it_counts_it_ends_with_75_and_begins_again(place: Env, tmp_path: Path) -> None:
    """Its rows come from a pipe that gives none until the process was told to stop."""
    with place(penguins(tmp_path)) as here:
        environment = here.environment(role="train", attempt=1)
        table = here.folder / "csv" / "train.csv"
        kept = table.rename(table.with_suffix(".kept"))
        subprocess.run(["mkfifo", str(table)], check=True, timeout=10)
        process = subprocess.Popen(["sh", SCRIPT.name], cwd=FOLDER, env=environment, stderr=subprocess.PIPE, text=True)
        with table.open("w", encoding="utf-8"):  # open returns when awk has opened the other end
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
        assert (process.returncode, "stopped" in log) == (75, True), log
        table.unlink()
        kept.rename(table)
        again = here.run(attempt=2)
    assert (again.code, again.kinds[-1]) == (0, "MODEL_NAME"), again.log


def test_the_kit_finds_nothing_wrong() -> None:
    assert_kit_passes("examples/plugins/shell", "--messages", "file", "--frame-format", "csv")


def test_the_manifest_starts_the_script() -> None:
    plugin = yaml.safe_load((FOLDER / "plugin.yaml").read_text(encoding="utf-8"))
    assert plugin["spec"]["container"]["command"] == ["sh", f"/chorus/script/{SCRIPT.name}"]
