"""A model is data: no file of it is executed, whoever may answer a question at a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chorus_trainer import ask
from trainer_world import BaseModel, Train, TrainerRun

LORA = {"epochs": 1, "batchSize": 4, "gradientAccumulation": 2, "learningRate": "5e-3", "r": 4, "precision": "float32"}
Change = Callable[[Path, str], None]
"""Makes a base model bring code: its directory, and the code."""


@pytest.fixture(autouse=True)
def _keep_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard input that answers yes to everything."""
    answers = io.StringIO("y\n" * 20)
    monkeypatch.setattr("sys.stdin", answers)
    return answers


@pytest.fixture
def own(tmp_path: Path, base: BaseModel) -> Path:
    """Directory of a base model that a test may change."""
    shutil.copytree(base("t5"), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a model's code makes when it is executed."""
    return tmp_path / "executed"


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def _own_configuration(base: Path, code: str) -> None:
    (base / "own.py").write_text(
        f"{code}\nfrom transformers import T5Config\nclass Own(T5Config):\n    model_type='own'\n"
    )
    _edit(base / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own"})


def _own_model(base: Path, code: str) -> None:
    model = "from transformers import T5ForConditionalGeneration\nclass Own(T5ForConditionalGeneration):\n    pass\n"
    (base / "own.py").write_text(f"{code}\n{model}")
    _edit(base / "config.json", auto_map={"AutoModelForSeq2SeqLM": "own.Own"})


def _own_tokenizer(base: Path, code: str) -> None:
    (base / "own.py").write_text(f"{code}\nfrom transformers import PreTrainedTokenizerFast as Own\n")
    _edit(base / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})


def _own_generation(base: Path, code: str) -> None:
    (base / "custom_generate").mkdir()
    (base / "custom_generate" / "generate.py").write_text(f"{code}\ndef generate(model, **rest):\n    return None\n")


@pytest.mark.parametrize("change", [_own_configuration, _own_model, _own_tokenizer, _own_generation])
def test_code_of_a_base_model_is_not_executed_and_nobody_is_asked(
    own: Path, mark: Path, terminal: io.StringIO, change: Change
) -> None:
    change(own, f"open({str(mark)!r}, 'w').close()")
    code = ask.main(["--model", "none", "--base", str(own), "--prompt", "x", "--no-adapter", "--max-tokens", "2"])
    assert not mark.exists()
    assert terminal.tell() == 0
    assert code in (0, 64)


def test_a_run_on_a_base_model_with_code_fails_and_executes_nothing(
    tmp_path: Path, own: Path, mark: Path, terminal: io.StringIO, train: Train
) -> None:
    _own_configuration(own, f"open({str(mark)!r}, 'w').close()")
    run = TrainerRun.make(tmp_path / "run", base=own, lora=LORA)
    assert train(run) == 64
    assert not mark.exists()
    assert terminal.tell() == 0
    assert run.termination().reason == "BaseModelNotFound"
    assert "custom code" in run.termination().message


class Pickled:
    """What unpickles to a file that is written."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.mark.parametrize("harmless", [True, False])
def test_weights_in_a_pickle_are_refused(
    own: Path, mark: Path, capsys: pytest.CaptureFixture[str], harmless: bool
) -> None:
    weights = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    if harmless:
        torch.save(weights, own / "pytorch_model.bin")
    else:
        (own / "pytorch_model.bin").write_bytes(pickle.dumps(Pickled(mark)))
    code = ask.main(["--model", "none", "--base", str(own), "--prompt", "x", "--no-adapter", "--max-tokens", "2"])
    assert code == 64
    assert "safetensors" in capsys.readouterr().err
    assert not mark.exists()


def test_an_adapter_in_a_pickle_is_refused(
    tmp_path: Path, base: BaseModel, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA)
    assert train(run) == 0, run.log()
    model = run.run_dir / "out"
    torch.save(load_file(model / "adapter_model.safetensors"), model / "adapter_model.bin")
    (model / "adapter_model.safetensors").unlink()
    capsys.readouterr()
    assert ask.main(["--model", str(model), "--base", str(base("t5")), "--prompt", "x", "--max-tokens", "2"]) == 64
    assert "adapter_model.safetensors" in capsys.readouterr().err
