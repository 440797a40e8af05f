"""Evaluation: the mean loss of a token over the evaluation rows, with the adapter and without it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel

from chorus_trainer.collate import Collator
from chorus_trainer.device import Device
from chorus_trainer.encode import Example
from chorus_trainer.loss import supervised_tokens, token_nll

LARGEST_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """Losses in nats per supervised token: each token counts the same, however long its row is."""

    with_adapter: float
    without_adapter: float
    samples: int


def evaluate(
    model: PeftModel, examples: Sequence[Example], *, collator: Collator, device: Device, batch_size: int
) -> Evaluation | None:
    """Evaluate on `examples`; None when there are none. The model is left in evaluation mode."""
    if not examples:
        return None
    model.eval()
    size = min(batch_size, LARGEST_BATCH)
    loss = mean_loss(model, examples, collator=collator, device=device, batch_size=size)
    with model.disable_adapter():
        without = mean_loss(model, examples, collator=collator, device=device, batch_size=size)
    return Evaluation(with_adapter=loss, without_adapter=without, samples=len(examples))


def mean_loss(
    model: torch.nn.Module, examples: Sequence[Example], *, collator: Collator, device: Device, batch_size: int
) -> float:
    """Mean loss of a supervised token over `examples`."""
    by_length = sorted(examples, key=lambda example: (len(example.target), len(example.source)))
    place = next(model.parameters()).device
    mixed = torch.autocast(place.type, dtype=torch.bfloat16) if device.precision == "bfloat16" else None
    total, tokens = 0.0, 0
    with torch.inference_mode(), mixed or contextlib.nullcontext():
        for start in range(0, len(by_length), batch_size):
            batch = {name: value.to(place) for name, value in collator(by_length[start : start + batch_size]).items()}
            labels = batch.pop("labels")
            total += float(token_nll(model(**batch).logits, labels))
            tokens += supervised_tokens(labels)
    return total / tokens
