"""transformers' Trainer, with what decides correctness taken over: batches, loss, finite numbers, checkpoints.

Trainer 5 hands the number of items to a model that accepts extra arguments and then does not divide by the
accumulation steps; T5 accepts and ignores them, which multiplies loss and gradient by the accumulation. Here the loss
is this package's own: the sum over the supervised tokens, divided by those of the whole optimizer step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from chorus_api.lora import ResolvedLora
from chorus_trainer.checkpoint import Checkpoint, CheckpointStore
from chorus_trainer.collate import Batch, Collator, PlannedLoader
from chorus_trainer.device import Device
from chorus_trainer.encode import Example
from chorus_trainer.errors import NonFinite
from chorus_trainer.loss import supervised_tokens, token_nll
from chorus_trainer.plan import Plan

PROGRESS_FILE = "progress.json"
LOWER_THE_RATE = "Lower learningRate (by a factor of 10), or set precision to float32."
NOT_THE_RATE = (
    "No step was made yet: look for NaN in the base model's weights, or set precision to float32 if it is not."
)


@dataclass
class StepTotals:
    """What a training has done so far, over all its attempts; a checkpoint carries it on."""

    tokens: int = 0
    """Real tokens that were trained on."""
    seconds: float = 0.0
    """Time spent training."""
    epoch: int = 0
    epoch_loss: float = 0.0
    """Sum of the losses of the current epoch's optimizer steps."""
    epoch_steps: int = 0

    @property
    def loss(self) -> float:
        """Mean loss of the current epoch's steps; after the training, of the last epoch: the run's final loss."""
        return self.epoch_loss / self.epoch_steps if self.epoch_steps else math.nan

    def add(self, *, epoch: int, loss: float) -> None:
        """Count one optimizer step."""
        if epoch != self.epoch:
            self.epoch, self.epoch_loss, self.epoch_steps = epoch, 0.0, 0
        self.epoch_loss += loss
        self.epoch_steps += 1


@dataclass(frozen=True)
class Job:
    """What one training works on."""

    lora: ResolvedLora
    examples: Sequence[Example]
    collator: Collator
    device: Device
    store: CheckpointStore
    scratch: Path
    """Directory that transformers may call its own; nothing is kept there."""

    @property
    def plan(self) -> Plan:
        """The batches of the run."""
        return Plan(
            lengths=[(len(example.source), len(example.target)) for example in self.examples],
            batch_size=self.lora.batch_size,
            accumulation=self.lora.gradient_accumulation,
            seed=self.lora.seed,
        )


class LoraTrainer(Trainer):
    """Trains the adapter of `model` on `job`. `progress` is what came before, in earlier attempts."""

    loss_is_scaled_for_ga = True

    def __init__(
        self, model: nn.Module, *, job: Job, progress: StepTotals, callbacks: Sequence[TrainerCallback] = ()
    ) -> None:
        self.job = job
        self.progress = progress
        self.step_loss = 0.0
        super().__init__(model=model, args=training_arguments(job), callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> PlannedLoader:
        """The batches of the plan."""
        return PlannedLoader(self.job.examples, self.job.plan, self.job.collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], int]:
        """The micro-batches of one optimizer step, and the supervised tokens of all of them together."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        items = sum(supervised_tokens(batch["labels"]) for batch in batches)
        self.progress.tokens += sum(int(batch["attention_mask"].sum()) for batch in batches)
        if self.job.collator.encoder_decoder:
            self.progress.tokens += items
        self.step_loss = 0.0
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The micro-batch's share in the mean loss of the optimizer step."""
        assert num_items_in_batch is not None
        assert not return_outputs
        labels = inputs.pop("labels")
        return token_nll(model(**inputs).logits, labels) / num_items_in_batch

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward of a micro-batch. Raises NonFinite for a loss that is not a number."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        value = loss.item()
        if not math.isfinite(value):
            raise self._non_finite("loss", value)
        self.step_loss += value
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Nothing: transformers' figure is wrong for adapters and costs a walk over all modules each micro-batch."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> float:
        norm = float(super()._clip_grad_norm(model))  # type: ignore[no-untyped-call]
        if not math.isfinite(norm):
            raise self._non_finite("gradient", norm)
        return norm

    def _non_finite(self, what: str, value: float) -> NonFinite:
        done = self.state.global_step
        hint = LOWER_THE_RATE if done else NOT_THE_RATE
        return NonFinite(f"the {what} became {value} at step {done + 1}", hint=hint)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        def write(directory: Path) -> None:
            assert isinstance(self.model, PeftModel)
            self.model.save_pretrained(str(directory), save_embedding_layers=False)
            (directory / "README.md").unlink(missing_ok=True)
            self._save_optimizer_and_scheduler(str(directory))
            self._save_rng_state(str(directory))
            self.state.save_to_json(str(directory / "trainer_state.json"))
            (directory / PROGRESS_FILE).write_text(json.dumps(asdict(self.progress)))

        self.job.store.save(self.state.global_step, write)


def training_arguments(job: Job) -> TrainingArguments:
    """transformers' view of the run's parameters. Logging and saving are decided by this package's callback."""
    lora = job.lora
    return TrainingArguments(
        output_dir=str(job.scratch),
        per_device_train_batch_size=lora.batch_size,
        gradient_accumulation_steps=lora.gradient_accumulation,
        num_train_epochs=lora.epochs,
        learning_rate=float(lora.learning_rate),
        lr_scheduler_type=lora.scheduler,
        warmup_steps=warmup_steps(lora, steps=lora.epochs * job.plan.steps_per_epoch),
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=lora.seed,
        bf16=job.device.precision == "bfloat16",
        use_cpu=not job.device.cuda,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
    )


def warmup_steps(lora: ResolvedLora, *, steps: int) -> int:
    """Optimizer steps in which the learning rate rises to its peak."""
    return math.ceil(float(lora.warmup_fraction) * steps)


def progress_of(checkpoint: Checkpoint | None) -> StepTotals:
    """What the training had done when `checkpoint` was made."""
    if checkpoint is None:
        return StepTotals()
    return StepTotals(**json.loads((checkpoint.path / PROGRESS_FILE).read_bytes()))
