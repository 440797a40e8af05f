"""The real `python -m chorus_trainer` as a pod starts it: real signals, real messages over HTTPS, real exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chorus_client.sender import Sender
from message_receiver import Receiver, serving
from trainer_world import BaseModel, Train, TrainerRun, wait_for

LORA: dict[str, Any] = {
    "epochs": 12,
    "batchSize": 2,
    "gradientAccumulation": 2,
    "learningRate": "1e-3",
    "r": 4,
    "dropout": "0.1",
    "precision": "float32",
}
DEADLINE = 140
pytestmark = pytest.mark.timeout(400)
"""The deadlines below are for a busy machine, on which torch alone takes half a minute to load."""


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return process.returncode, output


def _posted(receiver: Receiver) -> dict[str, dict[str, Any]]:
    return {
        kind: post.event["data"]
        for kind, post in zip(receiver.types, receiver.posts, strict=True)
        if kind != "progress"
    }


def test_sigterm_saves_at_the_next_step_exits_75_and_the_next_attempt_ends_with_the_same_bits(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    whole = TrainerRun.make(tmp_path / "whole", base=base("t5"), lora=LORA)
    assert train(whole) == 0, whole.log()

    identity = tmp_path / "identity"
    identity.mkdir()
    with serving(identity) as receiver:
        run = TrainerRun.make(tmp_path / "run", base=base("t5"), lora=LORA, messaging=receiver.messaging())
        process = run.start(attempt=1)
        wait_for(lambda: process.poll() is not None or _steps(run) >= 3, what="three steps", deadline=DEADLINE)
        process.send_signal(signal.SIGTERM)
        code, output = _finish(process)
        assert code == 75, output
        saved = run.termination().step
        assert saved is not None
        assert 3 <= saved < 72
        assert (run.run_dir / "checkpoints" / f"1-{saved}" / "COMPLETE").exists()
        assert receiver.types[:2] == ["DATA_REPORT", "TRAINING_START"]
        assert "MODEL_NAME" not in receiver.types
        assert "ERROR_REPORT" not in receiver.types

        code, output = _finish(run.start(attempt=2))
        assert code == 0, output
        posted = _posted(receiver)
        assert posted["MODEL_NAME"]["digest"] == run.termination().digest
        last = receiver.posts[-1].event
        assert (last["attempt"], last["subjectuid"]) == ("2", receiver.messaging().subject_uid)
    assert f"going on from checkpoint 1-{saved}" in run.log()
    ours, theirs = (load_file(one.run_dir / "out" / "adapter_model.safetensors") for one in (run, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=run.run_dir / "out", check=True)


def _steps(run: TrainerRun) -> int:
    curve = run.run_dir / "metrics.jsonl"
    return len(curve.read_text().splitlines()) if curve.exists() else 0


def test_a_control_plane_that_refuses_everything_does_not_fail_the_training(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    identity = tmp_path / "identity"
    identity.mkdir()
    with serving(identity) as receiver:
        for _ in range(200):
            receiver.answer(403, body="not your run")
        lora = LORA | {"epochs": 1}
        run = TrainerRun.make(tmp_path / "run", base=base("decoder"), lora=lora, messaging=receiver.messaging())
        assert train(run, messages=Sender(run.config.messaging, attempt=1)) == 0, run.log()
    assert run.termination().outcome == "succeeded"
    assert (run.run_dir / "out" / "SHA256SUMS").exists()
    assert "MODEL_NAME was refused: 403" in run.log()


def test_a_run_json_that_is_wrong_is_named_with_its_field_before_torch_is_loaded(
    tmp_path: Path, base: BaseModel
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA)
    config = json.loads((tmp_path / "run.json").read_bytes())
    config["encoderDecoder"]["epochs"] = "many"
    (tmp_path / "run.json").write_text(json.dumps(config))
    code, output = _finish(run.start(PYTHONPROFILEIMPORTTIME="1"))
    assert code == 64, output
    assert "encoderDecoder.epochs" in run.termination().message
    assert not any(line.endswith(" torch") for line in output.splitlines())
