"""The loss: one definition for both model families, and for training and evaluation alike."""

from __future__ import annotations

import torch
from torch.nn import functional

IGNORED = -100
"""Label of a position that is not learned: the prompt, and padding."""


def token_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of the negative log likelihoods (nats, float32) of `labels`, which stand under the logits that predict them.

    A sum, not a mean: who calls divides by the supervised tokens of the whole optimizer step (or of the whole
    evaluation set), so that neither the size of a micro-batch nor their number changes the result.
    """
    supervised = labels != IGNORED
    return functional.cross_entropy(logits[supervised].float(), labels[supervised], reduction="sum")


def supervised_tokens(labels: torch.Tensor) -> int:
    """How many labels are learned."""
    return int((labels != IGNORED).sum())
