"""Every way a training ends: its exit code, its termination record, its messages, and a text that says what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from chorus_protocol.messages import DataReport, ErrorReport, ModelName, TrainingStart
from chorus_trainer import training
from trainer_world import FAMILIES, BaseModel, KeptMessages, Train, TrainerRun, pairs

LORA: dict[str, Any] = {
    "epochs": 1,
    "batchSize": 4,
    "gradientAccumulation": 2,
    "learningRate": "2e-3",
    "r": 4,
    "precision": "float32",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_leaves_an_adapter_that_others_can_load_and_check(
    tmp_path: Path, base: BaseModel, train: Train, family: str
) -> None:
    run = TrainerRun.make(tmp_path, base=base(family), lora=LORA | {"targetModules": ["all-linear"]})
    messages = KeptMessages()
    assert train(run, messages=messages) == 0, run.log()

    out = run.run_dir / "out"
    assert {path.suffix for path in out.iterdir()} <= {".safetensors", ".json", ".jinja", ".md", ""}
    sums = (out / "SHA256SUMS").read_bytes()
    listed = dict(reversed(line.split("  ")) for line in sums.decode().splitlines())
    assert list(listed) == sorted(path.name for path in out.iterdir() if path.name != "SHA256SUMS")
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in listed.items())

    digest = "sha256:" + hashlib.sha256(sums).hexdigest()
    (model,) = messages.of(ModelName)
    last = run.termination()
    assert (model.model_name, model.digest) == ("home-soft-1", digest)
    assert (last.outcome, last.digest, last.samples, last.step) == ("succeeded", digest, 24, 3)
    assert last.bytes == sum(path.stat().st_size for path in out.iterdir())
    record = run.record()
    assert (record["run_id"], record["samples_used"], record["epochs"]) == ("run_20260101_000000_abcd", 24, 1)
    assert record["family"] == ("encoderDecoder" if family == "t5" else "decoder")
    assert model.metrics["eval_loss"] == record["eval_loss"] == last.eval_loss
    assert record["eval_loss"] < record["eval_loss_without_adapter"]
    assert (record["eval_samples"], record["steps"]) == (6, 3)

    described = json.loads((out / "adapter_config.json").read_bytes())
    assert described["base_model_name_or_path"] == "owner/tiny"
    local = [path.name for path in out.iterdir() if str(base(family)).encode() in path.read_bytes()]
    assert local == []
    assert "nats per token" in (out / "README.md").read_text()
    assert all(path.stat().st_mode & 0o044 for path in out.iterdir())


def test_messages_come_in_the_workflows_order_with_progress_for_every_step(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA)
    messages = KeptMessages()
    assert train(run, messages=messages) == 0, run.log()
    assert [type(payload) for payload in messages.sent] == [DataReport, TrainingStart, ModelName]
    assert messages.closed
    assert [(report.step, report.percent) for report in messages.reports] == [
        (0, 0),
        (1, 33),
        (2, 66),
        (3, 100),
        (3, 100),
    ]
    first, last = messages.reports[1], messages.reports[-1]
    assert first.total_steps == 3
    assert first.loss == pytest.approx(run.curve()[0]["loss"])
    assert first.eta_seconds is not None
    assert {"learning_rate", "grad_norm", "tokens_per_second"} <= first.metrics.keys()
    assert (last.checkpoint_step, last.eta_seconds) == (3, 0)
    assert [point["step"] for point in run.curve()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("columns", "rows", "reason"),
    [
        ({"prompt": ["a"], "answer": ["b"]}, None, "no column response; it has prompt, answer"),
        ({"prompt": [], "response": []}, None, "no training rows"),
        ({"prompt": [1], "response": ["b"]}, None, "column prompt holds int64, not text"),
    ],
)
def test_a_frame_that_does_not_suit_is_not_applicable(
    tmp_path: Path, base: BaseModel, train: Train, columns: dict[str, list[Any]], rows: None, reason: str
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA)
    types = {"prompt": pa.string(), "response": pa.string()}
    fields = {
        name: pa.array(values, type=None if values else types[name], from_pandas=True)
        for name, values in columns.items()
    }
    pq.write_table(pa.table(fields), run.directory / "data" / "train.parquet")
    messages = KeptMessages()
    assert train(run, messages=messages) == 69
    (report,) = messages.sent
    assert isinstance(report, DataReport)
    assert not report.applicable
    assert reason in str(report.reason)
    assert run.termination().outcome == "notApplicable"
    assert reason in run.termination().message


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (lambda path: path.write_bytes(b"PAR1 nonsense"), "BadData", "train.parquet cannot be read"),
        (lambda path: path.unlink(), "BadData", "train.parquet cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "BadData", "train.parquet cannot be read"),
    ],
)
def test_a_damaged_frame_is_bad_data(
    tmp_path: Path, base: BaseModel, train: Train, damage: Any, reason: str, words: str
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA)
    damage(run.directory / "data" / "train.parquet")
    messages = KeptMessages()
    assert train(run, messages=messages) == 65
    assert (run.termination().reason, run.termination().retryable) == (reason, False)
    assert words in run.termination().message
    assert "chorus.dev/prepare" in run.termination().hint
    (report,) = messages.of(ErrorReport)
    assert words in report.detail


def test_rows_without_prompt_or_response_are_left_out_and_all_of_them_are_bad_data(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    run = TrainerRun.make(tmp_path / "some", base=base("t5"), lora=LORA, train=[*pairs(9), (None, "x"), ("y", "  ")])
    assert train(run) == 0, run.log()
    assert run.record()["samples_used"] == 9
    assert "2 rows without a prompt or a response are left out" in run.log()
    none = TrainerRun.make(tmp_path / "none", base=base("t5"), lora=LORA, train=[(" ", "x"), ("y", None)])
    assert train(none) == 65
    assert none.termination().reason == "AllRowsRejected"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": None}, "no config.json"),
        ({"config.json": b"{"}, "config.json"),
        ({"model.safetensors": None}, "weights"),
        ({"model.safetensors": b"\0" * 64}, "weights"),
        ({"tokenizer.json": b"{"}, "tokenizer"),
    ],
)
def test_a_base_model_that_is_not_there_or_broken_is_bad_configuration(
    tmp_path: Path, base: BaseModel, train: Train, files: dict[str, bytes | None], words: str
) -> None:
    broken = tmp_path / "base"
    shutil.copytree(base("t5"), broken)
    for name, content in files.items():
        (broken / name).unlink() if content is None else (broken / name).write_bytes(content)
    run = TrainerRun.make(tmp_path / "run", base=broken, lora=LORA)
    messages = KeptMessages()
    assert train(run, messages=messages) == 64
    assert run.termination().reason == "BaseModelNotFound"
    assert words in run.termination().message
    assert "lora.baseModel.uri" in run.termination().hint
    assert not messages.of(TrainingStart)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, base: BaseModel, train: Train) -> None:
    mixed = tmp_path / "base"
    shutil.copytree(base("decoder"), mixed)
    tokenizer = json.loads((mixed / "tokenizer.json").read_bytes())
    tokenizer["model"]["vocab"] |= {f"extra{number}": 10_000 + number for number in range(40)}
    (mixed / "tokenizer.json").write_text(json.dumps(tokenizer))
    run = TrainerRun.make(tmp_path / "run", base=mixed, lora=LORA)
    assert train(run) == 64
    assert "the model's embedding has" in run.termination().message


def test_unknown_target_modules_are_named_beside_those_that_exist(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA | {"targetModules": ["q", "q_proj"]})
    assert train(run) == 64
    assert "has no q_proj; it has k, lm_head, o, q, v, wi, wo" in run.termination().message
    assert "all-linear" in run.termination().hint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("part", "step", "remedy"),
    [("loss", 2, "Lower learningRate"), ("gradient", 2, "Lower learningRate"), ("loss", 1, "base model's weights")],
)
def test_a_loss_or_gradient_that_is_no_number_stops_before_it_reaches_the_weights(
    tmp_path: Path,
    base: BaseModel,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    part: str,
    step: int,
    remedy: str,
) -> None:
    from chorus_trainer import engine

    whole = engine.token_nll
    calls = 0

    def poisoned(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = whole(logits, labels)
        if calls < 2 * step - 1:  # the step's first micro-batch
            return loss
        if part == "loss":
            return loss * float("nan")
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(engine, "token_nll", poisoned)
    run = TrainerRun.make(tmp_path, base=base(family), lora=LORA)
    messages = KeptMessages()
    assert train(run, messages=messages) == 64
    assert run.termination().reason == "NonFiniteLoss"
    assert f"the {part} became" in run.termination().message
    assert f"at step {step}" in run.termination().message
    assert remedy in run.termination().hint
    (report,) = messages.of(ErrorReport)
    assert (report.reason, report.retryable) == ("NonFiniteLoss", False)
    assert [point["step"] for point in run.curve()] == list(range(1, step))
    assert not (run.run_dir / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "reason", "words"),
    [
        (MemoryError(), 64, "OutOfMemory", "host's memory ran out"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            64,
            "OutOfMemory",
            "accelerator's memory",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 64, "OutOfMemory", "host's memory"),
        (RuntimeError("a bug, token=abcdefgh12345678"), 70, "InternalError", "RuntimeError: a bug"),
        (OSError(28, "No space left on device"), 70, "InternalError", "volume is full"),
    ],
)
def test_an_unforeseen_error_is_told_with_its_cause(
    tmp_path: Path,
    base: BaseModel,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    reason: str,
    words: str,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(training, "fit", fails)
    run = TrainerRun.make(tmp_path, base=base("decoder"), lora=LORA)
    messages = KeptMessages()
    assert train(run, messages=messages) == code
    assert run.termination().reason == reason
    assert words in run.termination().message
    (report,) = messages.of(ErrorReport)
    assert words in report.detail
    assert report.retryable is (type(error) is RuntimeError and code == 70)
    if code == 70 and type(error) is RuntimeError:
        assert "Traceback" in report.detail
    for text in (report.detail, run.termination().message, run.log()):
        assert "abcdefgh12345678" not in text


def test_training_goes_on_from_the_adapter_of_another_run(tmp_path: Path, base: BaseModel, train: Train) -> None:
    first = TrainerRun.make(tmp_path / "first", base=base("t5"), lora=LORA | {"epochs": 4})
    assert train(first) == 0, first.log()
    adapter = first.run_dir / "out"
    still = LORA | {"learningRate": "1e-9", "dropout": "0"}
    second = TrainerRun.make(tmp_path / "second", base=base("t5"), lora=still, resume_adapter_path=str(adapter))
    assert train(second) == 0, second.log()
    assert second.record()["eval_loss"] == pytest.approx(first.record()["eval_loss"], rel=1e-4)
    ours, theirs = (load_file(run.run_dir / "out" / "adapter_model.safetensors") for run in (second, first))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("lora", "change", "words"),
    [
        ({"r": 8}, None, "is (4, 32) there and (8, 32) here"),
        ({"targetModules": ["all-linear"]}, None, "absent there"),
        ({}, {"base_model_name_or_path": "owner/other"}, "trained on owner/other, this run's base model is owner/tiny"),
        ({}, "missing", "cannot be read"),
        ({}, "damaged", "cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, base: BaseModel, train: Train, lora: dict[str, Any], change: Any, words: str
) -> None:
    first = TrainerRun.make(tmp_path / "first", base=base("t5"), lora=LORA)
    assert train(first) == 0, first.log()
    adapter = first.run_dir / "out"
    if change == "missing":
        shutil.rmtree(adapter)
    elif change == "damaged":
        (adapter / "adapter_model.safetensors").write_bytes(b"\0\0")
    elif change:
        described = json.loads((adapter / "adapter_config.json").read_bytes())
        (adapter / "adapter_config.json").write_text(json.dumps(described | change))
    second = TrainerRun.make(tmp_path / "second", base=base("t5"), lora=LORA | lora, resume_adapter_path=str(adapter))
    assert train(second) == 64
    assert words in second.termination().message
    assert second.termination().message.startswith("resumeFrom: ")


def test_a_base_model_whose_files_changed_since_the_adapter_was_trained_is_refused(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    first = TrainerRun.make(tmp_path / "first", base=base("t5"), lora=LORA)
    assert train(first) == 0, first.log()
    published = tmp_path / "published"
    shutil.copytree(first.run_dir / "out", published)
    shutil.copy(first.run_dir / "training_run.json", published)
    other = tmp_path / "other"
    shutil.copytree(base("t5"), other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    second = TrainerRun.make(tmp_path / "second", base=other, lora=LORA, resume_adapter_path=str(published))
    assert train(second) == 64
    assert "have changed since the adapter was trained" in second.termination().message


def test_what_is_longer_than_the_limits_is_cut_and_counted(tmp_path: Path, base: BaseModel, train: Train) -> None:
    long = ("turn on the light in the kitchen " * 40, "Turned on. " * 40)
    limits = {"maxSourceTokens": 48, "maxTargetTokens": 24}
    for family in FAMILIES:
        run = TrainerRun.make(tmp_path / family, base=base(family), lora=LORA | limits, train=[*pairs(4), long, long])
        assert train(run) == 0, run.log()
        assert run.record()["truncated_prompts"] >= 2
        assert run.record()["truncated_responses"] >= 2
        assert "are longer than the limits and were cut" in run.log()


def test_without_evaluation_rows_there_is_no_evaluation_loss(tmp_path: Path, base: BaseModel, train: Train) -> None:
    run = TrainerRun.make(tmp_path, base=base("t5"), lora=LORA, evaluation=[])
    messages = KeptMessages()
    assert train(run, messages=messages) == 0, run.log()
    (model,) = messages.of(ModelName)
    assert "eval_loss" not in model.metrics
    assert run.record()["eval_loss"] is None


def test_hard_texts_are_trained_on(tmp_path: Path, base: BaseModel, train: Train) -> None:
    rows = [
        ("😀🏳️‍🌈 turn it off", "Done 👍"),
        ("أطفئ الضوء في المطبخ", "تم"),
        ("打开厨房的灯", "好的。"),
        ("a\0b", "c\0d"),
        ("</s><pad><|im_end|>", "<|im_start|>"),
        ("x" * 100_000, "y"),
    ]
    for family in FAMILIES:
        run = TrainerRun.make(tmp_path / family, base=base(family), lora=LORA, train=rows, evaluation=rows[:2])
        assert train(run) == 0, run.log()
        assert run.record()["samples_used"] == len(rows)


def test_at_most_max_samples_rows_are_used_and_bfloat16_trains_too(
    tmp_path: Path, base: BaseModel, train: Train
) -> None:
    for family in FAMILIES:
        lora = LORA | {"maxSamples": 8, "precision": "bfloat16"}
        run = TrainerRun.make(tmp_path / family, base=base(family), lora=lora)
        assert train(run) == 0, run.log()
        assert (run.record()["samples_used"], run.record()["precision"]) == (8, "bfloat16")
        weights = load_file(run.run_dir / "out" / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_pod_that_asked_for_a_gpu_and_sees_none_says_so(
    tmp_path: Path, base: BaseModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chorus_trainer import device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.choose("float32", threads=1, accelerator="nvidia.com/gpu")
    assert "the pod asked for nvidia.com/gpu, but torch sees no GPU" in caplog.text
    caplog.clear()
    device.choose("float32", threads=1, accelerator=None)
    assert "asked for" not in caplog.text
