"""Examples to tensors: padded to the longest of the batch and no further, labels where their logits will be."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from chorus_trainer.encode import Example
from chorus_trainer.loss import IGNORED
from chorus_trainer.plan import Plan

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Collator:
    """Makes a batch for one model family."""

    pad: int
    encoder_decoder: bool
    start: int = 0
    """First input of a decoder in an encoder-decoder (`decoder_start_token_id`)."""

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """The inputs of the model, and `labels`."""
        return self._seq2seq(examples) if self.encoder_decoder else self._decoder(examples)

    def _seq2seq(self, examples: Sequence[Example]) -> Batch:
        inputs, mask = self._rows(example.source for example in examples)
        labels, learned = self._rows(example.target for example in examples)
        shifted = torch.cat([torch.full_like(labels[:, :1], self.start), labels[:, :-1]], dim=1)
        return {
            "input_ids": inputs,
            "attention_mask": mask,
            "decoder_input_ids": shifted,
            "labels": labels.masked_fill(learned == 0, IGNORED),
        }

    def _decoder(self, examples: Sequence[Example]) -> Batch:
        # The last token is never an input: nothing comes after it.
        inputs, mask = self._rows(example.source + example.target[:-1] for example in examples)
        labels = torch.full_like(inputs, IGNORED)
        for row, example in enumerate(examples):
            first = len(example.source) - 1
            labels[row, first : first + len(example.target)] = torch.tensor(example.target, dtype=torch.long)
        return {"input_ids": inputs, "attention_mask": mask, "labels": labels}

    def _rows(self, sequences: Iterable[array[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return padded, mask


class Examples(Dataset[Example]):
    """The encoded examples of a run."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Example:
        return self.examples[number]


class PlannedBatches:
    """The batches of the plan's current epoch; transformers calls `set_epoch` before each."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return self.plan.epoch(self.epoch)

    def __len__(self) -> int:
        return -(-len(self.plan.lengths) // self.plan.batch_size)


class PlannedLoader(DataLoader[Example]):
    """A loader that follows a plan. It draws from no global generator, so that it cannot disturb dropout."""

    def __init__(self, examples: Sequence[Example], plan: Plan, collator: Collator) -> None:
        super().__init__(
            Examples(examples),
            batch_sampler=PlannedBatches(plan),
            collate_fn=collator,
            generator=torch.Generator().manual_seed(plan.seed),
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        assert isinstance(self.batch_sampler, PlannedBatches)
        self.batch_sampler.set_epoch(epoch)
