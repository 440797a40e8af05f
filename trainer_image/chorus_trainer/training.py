"""One training from beginning to end: check, load, train, evaluate, publish. What goes wrong is raised."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from peft import PeftModel
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from chorus_api.lora import ResolvedLora
from chorus_api.run_config import RunConfig, RunRecord
from chorus_trainer import device as devices
from chorus_trainer import frame as frames
from chorus_trainer import model as models
from chorus_trainer.checkpoint import Checkpoint, CheckpointStore, digest_of
from chorus_trainer.collate import Collator
from chorus_trainer.encode import Encoded, encode_pairs
from chorus_trainer.engine import Job, LoraTrainer, StepTotals, progress_of
from chorus_trainer.errors import BadData, Preempted, TrainerError
from chorus_trainer.evaluate import Evaluation, evaluate
from chorus_trainer.export import write_artefact
from chorus_trainer.ports import Messages, Stop
from chorus_trainer.report import METRICS_FILE, Curve, Reporter
from chorus_trainer.resume import start_from
from chorus_trainer.settings import Settings

logger = logging.getLogger(__name__)
CHECKPOINTS_DIR = "checkpoints"
PROBES = 32
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    digest: str
    bytes: int
    record: RunRecord

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that MODEL_NAME carries."""
        record = self.record
        found = {
            "final_loss": record.final_loss,
            "eval_loss": record.eval_loss,
            "eval_loss_without_adapter": record.eval_loss_without_adapter,
            "steps": float(record.steps),
            "train_seconds": record.train_seconds,
        }
        return {name: value for name, value in found.items() if value is not None}


def train(
    settings: Settings,
    config: RunConfig,
    *,
    messages: Messages,
    stop: Stop,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Trained:
    """Do what run.json says. Raises a TrainerError for every end that is not a trained model."""
    transformers_logging.disable_progress_bar()
    base_dir = Path(config.base_model_path)
    encoder_decoder = bool(models.read_base_config(base_dir).is_encoder_decoder)
    lora = config.encoder_decoder if encoder_decoder else config.decoder
    device = devices.choose(lora.precision, threads=settings.threads, accelerator=settings.accelerator)
    frame = frames.read(settings.data_dir, max_samples=lora.max_samples)
    if frame.skipped:
        logger.warning("%d rows without a prompt or a response are left out", frame.skipped)
    set_seed(lora.seed)
    base = models.load_base(base_dir, dtype=device.dtype, probes=[pair.prompt for pair in frame.train[:PROBES]])
    base_digest = digest_of_base(base_dir)
    _stop_here(stop, step=None)
    limits = models.limits_for(base.model.config, lora, encoder_decoder=encoder_decoder)
    training = encode_pairs(base.tokenizer, frame.train, encoder_decoder=encoder_decoder, limits=limits)
    held_out = encode_pairs(base.tokenizer, frame.evaluation, encoder_decoder=encoder_decoder, limits=limits)
    _say_what_was_cut(training)
    model = models.add_adapter(base, lora)
    if config.resume_adapter_path is not None:
        start_from(model, Path(config.resume_adapter_path), config=config, base_digest=base_digest)
    collator = Collator(
        pad=base.tokenizer.pad_token_id or 0,
        encoder_decoder=encoder_decoder,
        start=getattr(base.model.config, "decoder_start_token_id", None) or 0,
    )
    store = CheckpointStore(
        root=settings.run_dir / CHECKPOINTS_DIR,
        attempt=settings.attempt,
        keep=config.checkpoint_keep,
        fingerprint=fingerprint(config, lora, base_digest=base_digest),
    )
    with tempfile.TemporaryDirectory(prefix="chorus-trainer-") as scratch:
        job = Job(
            lora=lora,
            examples=training.examples,
            collator=collator,
            device=device,
            store=store,
            scratch=Path(scratch),
        )
        progress, steps = fit(model, job, config, run_dir=settings.run_dir, messages=messages, stop=stop, clock=clock)
    _stop_here(stop, step=steps)
    size = lora.batch_size * lora.gradient_accumulation
    result = evaluate(model, held_out.examples, collator=collator, device=device, batch_size=size)
    _stop_here(stop, step=steps)
    record = run_record(
        config,
        lora,
        family="encoderDecoder" if encoder_decoder else "decoder",
        training=training,
        evaluation=result,
        progress=progress,
        device=device,
        run_dir=settings.run_dir,
        base_digest=base_digest,
        steps=steps,
        trained_at=now(),
    )
    digest, size_bytes = write_artefact(model, base.tokenizer, config=config, record=record, run_dir=settings.run_dir)
    logger.info("trained: %s", json.dumps({"loss": record.final_loss, "eval_loss": record.eval_loss, "digest": digest}))
    return Trained(digest=digest, bytes=size_bytes, record=record)


def fit(
    model: PeftModel,
    job: Job,
    config: RunConfig,
    *,
    run_dir: Path,
    messages: Messages,
    stop: Stop,
    clock: Callable[[], float],
) -> tuple[StepTotals, int]:
    """Train from the newest complete checkpoint, or from the start; returns what was done, and the steps.

    Raises Preempted when told to stop (what was learned is saved by then), NonFinite when loss or gradient are.
    """
    checkpoint = job.store.newest()
    resumed = checkpoint.step if checkpoint else 0
    progress = progress_of(checkpoint)
    if checkpoint:
        logger.info("going on from checkpoint %s", checkpoint.path.name)
    reporter = Reporter(
        config=config,
        messages=messages,
        curve=Curve(run_dir / METRICS_FILE, resumed_step=resumed),
        progress=progress,
        stop=stop,
        clock=clock,
        resumed_step=resumed,
    )
    trainer = LoraTrainer(model, job=job, progress=progress, callbacks=[reporter])
    reporter.watch(lambda: trainer.step_loss)
    trainer.train(resume_from_checkpoint=_usable(checkpoint))
    if reporter.preempted:
        step = trainer.state.global_step
        raise Preempted(f"told to stop; step {step} of {trainer.state.max_steps} is saved", step=step)
    if not math.isfinite(progress.loss):
        raise TrainerError(f"the training ended after {trainer.state.global_step} steps without a loss")
    return progress, trainer.state.global_step


def _usable(checkpoint: Checkpoint | None) -> str | None:
    return str(checkpoint.path) if checkpoint else None


def _stop_here(stop: Stop, *, step: int | None) -> None:
    if stop.requested:
        raise Preempted(
            "told to stop while not training" + ("" if step is None else f"; step {step} is saved"), step=step
        )


def _say_what_was_cut(training: Encoded) -> None:
    total = len(training.examples)
    if training.truncated_prompts or training.truncated_responses:
        logger.warning(
            "%d of %d prompts and %d responses are longer than the limits and were cut: raise maxSourceTokens or "
            "maxTargetTokens to learn from all of them",
            training.truncated_prompts,
            total,
            training.truncated_responses,
        )
    if not total:
        raise BadData("there is nothing to train on")


def digest_of_base(directory: Path) -> str:
    """`sha256:…` over the names and contents of the base model's weights and descriptions."""
    files = sorted(path for path in directory.iterdir() if path.suffix in {".safetensors", ".bin", ".json", ".model"})
    lines = "".join(f"{digest_of(path)}  {path.name}\n" for path in files)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(config: RunConfig, lora: ResolvedLora, *, base_digest: str) -> str:
    """What a checkpoint must have been trained on to be resumed from."""
    facts = [config.run_uid, config.frame_digest, base_digest, config.resume_adapter_path, lora.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def run_record(
    config: RunConfig,
    lora: ResolvedLora,
    *,
    family: Literal["encoderDecoder", "decoder"],
    training: Encoded,
    evaluation: Evaluation | None,
    progress: StepTotals,
    device: devices.Device,
    run_dir: Path,
    base_digest: str,
    steps: int,
    trained_at: datetime,
) -> RunRecord:
    """training_run.json. `final_loss` is the mean loss of the last epoch's steps."""
    return RunRecord(
        base_model=config.base_model_uri,
        samples_used=len(training.examples),
        epochs=lora.epochs,
        learning_rate=float(lora.learning_rate),
        run_directory=str(run_dir),
        trained_at=trained_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        final_loss=progress.loss,
        run_id=config.run_id,
        eval_loss=evaluation.with_adapter if evaluation else None,
        eval_loss_without_adapter=evaluation.without_adapter if evaluation else None,
        base_model_digest=base_digest,
        family=family,
        parameters=lora.model_dump(mode="json"),
        eval_samples=evaluation.samples if evaluation else 0,
        truncated_prompts=training.truncated_prompts,
        truncated_responses=training.truncated_responses,
        steps=steps,
        tokens=progress.tokens,
        train_seconds=round(progress.seconds, 3),
        device=device.name,
        precision=device.precision,
        frame_name=config.frame_name,
        frame_digest=config.frame_digest,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
