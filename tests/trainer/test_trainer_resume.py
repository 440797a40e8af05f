"""A training that was stopped and goes on ends with the very bits of one that was not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chorus_client.stop import StopFlag
from chorus_protocol.messages import ErrorReport, ModelName, ProgressReport, TrainingStart
from trainer_world import FAMILIES, BaseModel, KeptMessages, Train, TrainerRun, pairs

LORA = {
    "epochs": 2,
    "batchSize": 2,
    "gradientAccumulation": 2,
    "learningRate": "2e-3",
    "r": 4,
    "dropout": "0.1",
    "targetModules": ["all-linear"],
    "precision": "float32",
}
STEPS = 12  # 22 rows, four a step, two epochs


@dataclass
class StoppingMessages(KeptMessages):
    """Tells the pod to stop once a step was reported."""

    stop: StopFlag | None = None
    at_step: int = 0

    def progress(self, payload: ProgressReport) -> None:
        super().progress(payload)
        if self.stop is not None and payload.step == self.at_step:
            self.stop.request()


def _make(directory: Path, base: Path, **changes: object) -> TrainerRun:
    return TrainerRun.make(directory, base=base, lora=LORA, train=pairs(22), **changes)


def _stopped(run: TrainerRun, train: Train, *, at_step: int, attempt: int) -> None:
    """The step after the one at which the signal came is completed and saved."""
    stop = StopFlag()
    messages = StoppingMessages(stop=stop, at_step=at_step)
    assert train(run, messages=messages, stop=stop, attempt=attempt) == 75, run.log()
    assert run.termination().outcome == "preempted"
    assert run.termination().retryable
    assert run.termination().step == at_step + 1
    assert not messages.of(ErrorReport)
    assert not messages.of(ModelName)
    assert messages.reports[-1].checkpoint_step == at_step + 1


def _assert_same(run: TrainerRun, other: TrainerRun) -> None:
    mine, theirs = (load_file(one.run_dir / "out" / "adapter_model.safetensors") for one in (run, other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    same = ("final_loss", "eval_loss", "eval_loss_without_adapter", "tokens", "steps", "samples_used")
    assert {name: run.record()[name] for name in same} == {name: other.record()[name] for name in same}
    assert [point["loss"] for point in run.curve()] == [point["loss"] for point in other.curve()]
    assert [point["step"] for point in run.curve()] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_stopped_within_and_between_epochs_ends_as_an_uninterrupted_one(
    tmp_path: Path, base: BaseModel, train: Train, family: str
) -> None:
    whole = _make(tmp_path / "whole", base(family))
    assert train(whole) == 0, whole.log()
    stopped = _make(tmp_path / "stopped", base(family))
    _stopped(stopped, train, at_step=2, attempt=1)  # within the first epoch
    _stopped(stopped, train, at_step=5, attempt=2)  # at the end of the first epoch: six steps
    messages = KeptMessages()
    assert train(stopped, messages=messages, attempt=3) == 0, stopped.log()
    _assert_same(stopped, whole)
    assert messages.of(TrainingStart)
    assert messages.reports[0].step == 6
    assert [path.name for path in sorted((stopped.run_dir / "checkpoints").iterdir())] == ["2-6", "3-12"]


def test_a_damaged_and_a_half_written_checkpoint_are_skipped_for_the_newest_whole_one(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    whole = _make(tmp_path / "whole", base("t5"))
    assert train(whole) == 0, whole.log()
    run = _make(tmp_path / "run", base("t5"))
    _stopped(run, train, at_step=2, attempt=1)
    _stopped(run, train, at_step=6, attempt=2)
    checkpoints = run.run_dir / "checkpoints"
    damaged = checkpoints / "2-7" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8] + b"\0" * 8)
    half = checkpoints / "2-9"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (checkpoints / ".tmp-2-8").mkdir()
    assert train(run, attempt=3) == 0, run.log()
    assert "checkpoint 2-7 is not used: adapter_model.safetensors is damaged" in run.log()
    assert "checkpoint 2-9 is not used: it is incomplete" in run.log()
    assert "going on from checkpoint 1-3" in run.log()
    _assert_same(run, whole)
    assert [path.name for path in sorted(checkpoints.iterdir())] == ["1-3", "3-12"]


def test_a_run_that_was_killed_after_its_last_step_does_not_train_again(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    run = _make(tmp_path / "run", base("decoder"))
    assert train(run) == 0, run.log()
    digest = run.termination().digest
    messages = KeptMessages()
    assert train(run, messages=messages, attempt=2) == 0, run.log()
    assert run.termination().digest != ""
    assert run.record()["steps"] == STEPS
    assert not messages.of(TrainingStart)
    (model,) = messages.of(ModelName)
    assert model.digest == run.termination().digest
    assert digest is not None


def test_a_checkpoint_of_other_parameters_is_not_gone_on_from(tmp_path: Path, base: BaseModel, train: Train) -> None:
    run = _make(tmp_path / "run", base("decoder"))
    _stopped(run, train, at_step=2, attempt=1)
    changed = run.config.model_copy(update={"decoder": run.config.decoder.model_copy(update={"learning_rate": "1e-3"})})
    (run.directory / "run.json").write_text(changed.model_dump_json())
    assert train(run, attempt=2) == 0, run.log()
    assert "checkpoint 1-3 is not used: it belongs to a training with other parameters" in run.log()
    assert len(run.curve()) == STEPS


def test_checkpoints_are_made_in_the_interval_and_only_the_newest_are_kept(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    run = _make(tmp_path / "run", base("decoder"), checkpoint_every_seconds=0, checkpoint_keep=3)
    messages = KeptMessages()
    assert train(run, messages=messages) == 0, run.log()
    assert sorted(path.name for path in (run.run_dir / "checkpoints").iterdir()) == ["1-10", "1-11", "1-12"]
    assert [report.checkpoint_step for report in messages.reports][-1] == STEPS
    marker = json.loads((run.run_dir / "checkpoints" / "1-12" / "COMPLETE").read_bytes())
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= marker["files"].keys()
