"""Tests of the trainer with real torch, transformers and peft, on models so small that a test takes a second or two."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from chorus_client.stop import StopFlag
from chorus_trainer import runner
from chorus_trainer.frame import Pair
from chorus_trainer.tiny.build import Shape
from chorus_trainer.tiny.pretrain import make
from trainer_world import FAMILIES, BaseModel, KeptMessages, Train, TrainerRun, pairs

SMALL = Shape(vocabulary=420, width=32, layers=2, heads=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/trainer/" in item.path.as_posix():
            # peft 0.21 asks transformers 5.23 for an attribute that it has renamed; nothing here calls it.
            item.add_marker(
                pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
            )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A T5 and a decoder that have learned a little, made once."""
    root = tmp_path_factory.mktemp("bases")
    texts = [Pair(*pair) for pair in pairs(60)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        for family in FAMILIES:
            make(family, texts, out=root / family, steps=25, shape=SMALL, seed=1)
    return root


@pytest.fixture
def base(bases: Path) -> BaseModel:
    """Directory of the base model of a family; not to be written to."""
    return lambda family: bases / family


@pytest.fixture
def without_dropout(bases: Path, tmp_path: Path) -> BaseModel:
    """Directory of a copy of the base model without dropout of its own."""

    def copied(family: str) -> Path:
        target = tmp_path / f"{family}-without-dropout"
        shutil.copytree(bases / family, target)
        config = json.loads((target / "config.json").read_bytes())
        config |= {name: 0.0 for name in ("dropout_rate", "attention_dropout") if name in config}
        (target / "config.json").write_text(json.dumps(config))
        return target

    return copied


@pytest.fixture
def train() -> Iterator[Train]:
    """Run the trainer in this process, as `main` does; returns the exit code."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def run(
        job: TrainerRun, *, messages: KeptMessages | None = None, stop: StopFlag | None = None, attempt: int = 1
    ) -> int:
        kept = messages or KeptMessages()
        with warnings.catch_warnings():
            return runner.main(
                job.arguments,
                environ={"CHORUS_ATTEMPT": str(attempt), "OMP_NUM_THREADS": "1"},
                stop=stop or StopFlag(),
                make_messages=lambda _messaging, _attempt: kept,
            )

    yield run
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
