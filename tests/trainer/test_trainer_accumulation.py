"""How an optimizer step is cut into micro-batches changes nothing, and the loss is what a plain loop computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, get_linear_schedule_with_warmup

from chorus_trainer.encode import Limits, encode_pairs
from chorus_trainer.frame import Pair, read
from chorus_trainer.model import Base, add_adapter
from chorus_trainer.plan import Plan
from trainer_world import FAMILIES, BaseModel, Train, TrainerRun, pairs

LORA = {
    "epochs": 2,
    "learningRate": "2e-3",
    "r": 4,
    "dropout": "0",
    "targetModules": ["all-linear"],
    "precision": "float32",
}


def _trained(directory: Path, *, base: Path, train: Train, batch: int, accumulation: int) -> TrainerRun:
    lora = LORA | {"batchSize": batch, "gradientAccumulation": accumulation}
    # 22 rows: the last step of an epoch is smaller than the others
    run = TrainerRun.make(directory, base=base, lora=lora, train=pairs(22))
    assert train(run) == 0, run.log()
    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_one_by_four_two_by_two_and_four_by_one_train_the_same_adapter(
    tmp_path: Path, without_dropout: BaseModel, train: Train, family: str
) -> None:
    base = without_dropout(family)
    whole = _trained(tmp_path / "4x1", base=base, train=train, batch=4, accumulation=1)
    for batch, accumulation in ((2, 2), (1, 4)):
        cut = _trained(
            tmp_path / f"{batch}x{accumulation}", base=base, train=train, batch=batch, accumulation=accumulation
        )
        assert len(cut.curve()) == len(whole.curve()) == 12
        for ours, theirs in zip(cut.curve(), whole.curve(), strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
        assert cut.record()["final_loss"] == pytest.approx(whole.record()["final_loss"], rel=1e-4)
        adapter, other = (load_file(run.run_dir / "out" / "adapter_model.safetensors") for run in (cut, whole))
        assert adapter.keys() == other.keys()
        for name, tensor in adapter.items():
            torch.testing.assert_close(tensor, other[name], rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_a_plain_loop_with_the_models_own_loss(
    tmp_path: Path, without_dropout: BaseModel, train: Train, family: str
) -> None:
    base = without_dropout(family)
    run = _trained(tmp_path / "run", base=base, train=train, batch=2, accumulation=2)
    expected = _reference(base, run, encoder_decoder=family == "t5")
    told = [point["loss"] for point in run.curve()]
    assert len(told) == len(expected)
    for ours, theirs in zip(told, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=0.01)
    assert all(math.isfinite(loss) for loss in told)


def _reference(directory: Path, run: TrainerRun, *, encoder_decoder: bool) -> list[float]:
    """Four rows a step in one padded batch, transformers' own loss, AdamW: no code of the trainer's engine."""
    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    auto: Any = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    model = auto.from_pretrained(directory, dtype=torch.float32)
    lora = run.config.encoder_decoder if encoder_decoder else run.config.decoder
    adapted = add_adapter(Base(model, tokenizer, encoder_decoder), lora).train()
    examples = encode_pairs(
        tokenizer,
        read(run.directory / "data", max_samples=100).train,
        encoder_decoder=encoder_decoder,
        limits=Limits(source=384, target=384),
    ).examples
    plan = Plan([(len(e.source), len(e.target)) for e in examples], batch_size=4, accumulation=1, seed=lora.seed)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=float(lora.learning_rate), weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, lora.epochs * plan.steps_per_epoch)
    losses = []
    for epoch in range(lora.epochs):
        for numbers in plan.epoch(epoch):
            batch = [examples[number] for number in numbers]
            if encoder_decoder:
                inputs, labels = [list(e.source) for e in batch], [list(e.target) for e in batch]
            else:
                inputs = [[*e.source, *e.target] for e in batch]
                labels = [[*([-100] * len(e.source)), *e.target] for e in batch]
            loss = adapted(
                input_ids=_padded(inputs, tokenizer.pad_token_id),
                attention_mask=_padded([[1] * len(row) for row in inputs], 0),
                labels=_padded(labels, -100),
            ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *([value] * (longest - len(row)))] for row in rows])


def test_a_pair_keeps_its_loss_whatever_it_is_padded_with(base: BaseModel) -> None:
    from chorus_trainer.collate import Collator
    from chorus_trainer.loss import token_nll

    for family in FAMILIES:
        tokenizer: Any = AutoTokenizer.from_pretrained(base(family))
        auto: Any = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
        model = auto.from_pretrained(base(family), dtype=torch.float32).eval()
        short, long = Pair("turn on the fan", "Done."), Pair("turn off the light in the hall " * 4, "Turned off. " * 6)
        examples = encode_pairs(
            tokenizer, [short, long], encoder_decoder=family == "t5", limits=Limits(source=99, target=99)
        ).examples
        collator = Collator(pad=tokenizer.pad_token_id, encoder_decoder=family == "t5")

        def loss_of(chosen: list[Any], collator: Any = collator, model: Any = model) -> float:
            batch = collator(chosen)
            labels = batch.pop("labels")
            with torch.inference_mode():
                return float(token_nll(model(**batch).logits, labels))

        assert loss_of(examples) == pytest.approx(sum(loss_of([example]) for example in examples), rel=1e-4)
