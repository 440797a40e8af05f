"""Teach a small model its exercises, for a fixed number of steps: the same seed gives the same model."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, get_linear_schedule_with_warmup, set_seed

from chorus_trainer.collate import Collator
from chorus_trainer.encode import Example, Limits, encode_pairs
from chorus_trainer.frame import Pair
from chorus_trainer.loss import supervised_tokens, token_nll
from chorus_trainer.plan import Plan
from chorus_trainer.tiny.build import Shape, decoder, decoder_tokenizer, t5, t5_tokenizer
from chorus_trainer.tiny.texts import exercises

logger = logging.getLogger(__name__)
Kind = Literal["t5", "decoder"]
BATCH = 16
LIMITS = Limits(source=192, target=192)
PEAK_RATE = 3e-3


def make(kind: Kind, pairs: Sequence[Pair], *, out: Path, steps: int, shape: Shape, seed: int) -> float:
    """Make one model and its tokenizer from the texts of `pairs`, write them to `out`; returns the last mean loss."""
    set_seed(seed)
    texts = [text for pair in pairs for text in (pair.prompt, pair.response)]
    if kind == "t5":
        tokenizer = t5_tokenizer(texts, vocabulary=shape.vocabulary)
        model = t5(tokenizer, shape)
    else:
        tokenizer = decoder_tokenizer(texts, vocabulary=shape.vocabulary)
        model = decoder(tokenizer, shape)
    loss = teach(model, tokenizer, pairs, kind=kind, steps=steps, seed=seed)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return loss


def teach(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    *,
    kind: Kind,
    steps: int,
    seed: int,
) -> float:
    """Train every weight of `model` on exercises for `steps` steps; returns the mean loss of the last tenth."""
    encoder_decoder = kind == "t5"
    tasks = exercises(pairs, count=min(steps * BATCH, 20_000), seed=seed, denoise=encoder_decoder)
    examples = encode_pairs(tokenizer, tasks, encoder_decoder=encoder_decoder, limits=LIMITS).examples
    if not encoder_decoder:
        examples = [_whole(example) if number % 2 else example for number, example in enumerate(examples)]
    collator = Collator(pad=tokenizer.pad_token_id, encoder_decoder=encoder_decoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, max(1, steps // 20), steps)
    model.train()
    losses: list[float] = []
    for step, numbers in zip(range(steps), _batches(examples, seed=seed), strict=False):
        batch = collator([examples[number] for number in numbers])
        labels = batch.pop("labels")
        loss = token_nll(model(**batch).logits, labels) / supervised_tokens(labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 99:
            logger.info("%s: step %d of %d, loss %.3f", kind, step + 1, steps, sum(losses[-100:]) / 100)
    last = losses[-max(1, steps // 10) :]
    model.eval()
    return sum(last) / len(last)


def _whole(example: Example) -> Example:
    """The same tokens, with all but the first learned: plain language modelling."""
    tokens = example.source + example.target
    return Example(array("i", tokens[:1]), array("i", tokens[1:]))


def _batches(examples: Sequence[Example], *, seed: int) -> Iterator[list[int]]:
    lengths = [(len(example.source), len(example.target)) for example in examples]
    plan = Plan(lengths=lengths, batch_size=BATCH, accumulation=1, seed=seed)
    epoch = 0
    while True:
        yield from plan.epoch(epoch)
        epoch += 1
