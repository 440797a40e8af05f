"""The tools around the trainer: asking a model, and making small base models."""

from __future__ import annotations

import csv
import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from chorus_trainer import ask
from chorus_trainer.tiny import __main__ as tiny
from chorus_trainer.tiny.texts import read_pairs
from trainer_world import FAMILIES, BaseModel, Train, TrainerRun, pairs

LORA = {"epochs": 1, "batchSize": 4, "gradientAccumulation": 2, "learningRate": "5e-3", "r": 4, "precision": "float32"}


@pytest.fixture(autouse=True)
def _keep_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_question_is_answered_with_and_without_the_adapter(
    tmp_path: Path, base: BaseModel, train: Train, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    run = TrainerRun.make(tmp_path, base=base(family), lora=LORA)
    assert train(run) == 0, run.log()
    capsys.readouterr()
    where = ["--model", str(run.run_dir / "out"), "--base", str(base(family)), "--max-tokens", "8"]
    assert ask.main([*where, "--prompt", "turn on the fan", "--prompt", "x"]) == 0
    lines = _lines(capsys)
    asked = [(line["prompt"], line["adapter"]) for line in lines]
    assert asked == [("turn on the fan", True), ("turn on the fan", False), ("x", True), ("x", False)]
    assert ask.main([*where, "--prompt", "turn on the fan", "--no-adapter"]) == 0
    assert _lines(capsys) == [lines[1]]


def test_asking_an_adapter_that_is_not_there_says_so(
    tmp_path: Path, base: BaseModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask.main(["--model", str(tmp_path / "none"), "--base", str(base("t5")), "--prompt", "x"]) == 64
    assert "cannot be put on this base model" in capsys.readouterr().err


def _table(path: Path) -> None:
    rows = []
    for number, (prompt, response) in enumerate(pairs(40)):
        suggestions = [{"description": "no", "confidence": 0.1}, {"description": response, "confidence": 0.9}]
        rows.append((str(number), prompt, json.dumps(suggestions)))
    rows += [("x", "no answer", "[]"), ("y", "broken", "[{"), ("z", "odd", '[{"confidence": null}]')]
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE ask_ai_queries (query_id TEXT, original_query TEXT, suggestions TEXT)")
        database.executemany("INSERT INTO ask_ai_queries VALUES (?, ?, ?)", rows)
        database.commit()
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("query_id", "original_query", "suggestions"), *rows])


def test_small_models_are_made_from_a_table_and_are_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _table(tmp_path / "requests.sqlite")
    assert len(read_pairs(tmp_path / "requests.sqlite")) == 40
    assert set(read_pairs(tmp_path / "requests.csv")) == set(read_pairs(tmp_path / "requests.sqlite"))
    for name in ("one", "two"):
        source = ["--data", str(tmp_path / "requests.sqlite"), "--out", str(tmp_path / name)]
        assert tiny.main([*source, "--steps", "2"]) == 0
        assert [line["steps"] for line in _lines(capsys)] == [2, 2]
    for family in FAMILIES:
        first, second = (load_file(tmp_path / name / family / "model.safetensors") for name in ("one", "two"))
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
        assert 300_000 < sum(tensor.numel() for tensor in first.values()) < 3_000_000
        read: Any = AutoTokenizer.from_pretrained(tmp_path / "one" / family)
        made: Any = PreTrainedTokenizerFast.from_pretrained(tmp_path / "one" / family)
        text = "Turn on the light. Größe 漢字 😀\n"
        assert read.encode(text) == made.encode(text)
        assert read.decode(read.encode(text), skip_special_tokens=True) == text
