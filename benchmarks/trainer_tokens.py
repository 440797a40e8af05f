"""Measure real tokens per CPU-second of the trainer beside the training workflow's literal recipe, on one thread.

    PYTHONPATH=operator:trainer_image:tests/support "$(scripts/venv)/bin/python" benchmarks/trainer_tokens.py

The recipe: transformers' Trainer in fp32, source and target padded to 384 tokens, batch 2, accumulation 4, rate 5e-5,
LoRA on q and v with r 16, alpha 16. Both train a model of the shape of T5-small that is made here without learning
anything, on the same rows of the demo's table, without dropout and with the same seed. The cost of an epoch is the CPU
time of a process that trains several epochs less that of one that trains a single one, so loading is not in it. Real
tokens: prompt and answer without padding. Loss: eval loss with the adapter after the longer training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chorus_client.stop import StopFlag
from chorus_trainer import runner
from chorus_trainer.frame import Pair
from chorus_trainer.tiny.build import Shape
from chorus_trainer.tiny.pretrain import make
from chorus_trainer.tiny.texts import read_pairs
from trainer_world import REPOSITORY, KeptMessages, TrainerRun

TABLE = REPOSITORY / "examples" / "demo" / "data" / "home_requests.sqlite"
T5_SMALL = Shape(vocabulary=3000, width=512, layers=6, heads=8)
LENGTH = 384
LORA = {"dropout": "0", "precision": "float32", "seed": 7}
SECONDS = 1800


def cpu_of(command: Sequence[str]) -> tuple[float, str]:
    """Run a program on one thread; its CPU seconds, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CHORUS_ATTEMPT": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def ours(
    base: Path, rows: Sequence[Pair], held_out: Sequence[Pair], *, epochs: int, directory: Path
) -> dict[str, float]:
    """Train with Chorus."""
    run = TrainerRun.make(
        directory,
        base=base,
        lora={"baseModel": {"uri": "hf://owner/shape"}, "epochs": epochs, **LORA},
        train=[(row.prompt, row.response) for row in rows],
        evaluation=[(row.prompt, row.response) for row in held_out],
    )
    cpu, _ = cpu_of([sys.executable, __file__, "--trainer", *run.arguments])
    return {"cpu": cpu, "eval_loss": float(run.record()["eval_loss"])}


def recipe(
    base: Path, rows: Sequence[Pair], held_out: Sequence[Pair], *, epochs: int, directory: Path
) -> dict[str, float]:
    """Train by the recipe."""
    directory.mkdir(parents=True)
    data = directory / "rows.json"
    data.write_text(json.dumps({"train": [vars_of(row) for row in rows], "eval": [vars_of(row) for row in held_out]}))
    cpu, printed = cpu_of([sys.executable, __file__, "--recipe", str(base), str(data), str(epochs)])
    told = json.loads(printed.splitlines()[-1])
    return {"cpu": cpu, **told}


def vars_of(row: Pair) -> dict[str, str]:
    """A row as JSON."""
    return {"prompt": row.prompt, "response": row.response}


def run_recipe(base: str, data: str, epochs: int) -> None:
    """Be the recipe's process; prints its eval loss and the real tokens of an epoch."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    sets = json.loads(Path(data).read_text())

    def encode(row: dict[str, str]) -> dict[str, list[int]]:
        padded = {"max_length": LENGTH, "truncation": True, "padding": "max_length"}
        source, target = tokenizer(row["prompt"], **padded), tokenizer(row["response"], **padded)
        labels = [
            token if seen else -100 for token, seen in zip(target["input_ids"], target["attention_mask"], strict=True)
        ]
        return {"input_ids": source["input_ids"], "attention_mask": source["attention_mask"], "labels": labels}

    train, evaluation = ([encode(row) for row in sets[name]] for name in ("train", "eval"))
    model = AutoModelForSeq2SeqLM.from_pretrained(base, trust_remote_code=False)
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=16, lora_dropout=0.0, target_modules=["q", "v"])
    adapted = get_peft_model(model, config)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            learning_rate=5e-5,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            seed=7,
        )
        Trainer(model=adapted, args=arguments, train_dataset=train).train()
    adapted.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in evaluation:
            batch = {name: torch.tensor([values]) for name, values in row.items()}
            tokens = int((batch["labels"] != -100).sum())
            total += float(adapted(**batch).loss) * tokens
            count += tokens
    tokens = sum(sum(row["attention_mask"]) + sum(label != -100 for label in row["labels"]) for row in train)
    print(json.dumps({"eval_loss": total / count, "tokens": tokens}))


def run_trainer(arguments: Sequence[str]) -> int:
    """Be the trainer's process, which tells nobody."""
    return runner.main(
        arguments,
        environ=os.environ,
        stop=StopFlag().install(),
        make_messages=lambda _messaging, _attempt: KeptMessages(),
    )


def main() -> None:
    """Train both, a single epoch and several, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="rows to train on")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the longer training")
    asked = parser.parse_args()
    pairs = read_pairs(TABLE)
    rows, held_out = pairs[: asked.rows], pairs[asked.rows : asked.rows + 16]
    with tempfile.TemporaryDirectory(prefix="chorus-tokens-") as scratch:
        root = Path(scratch)
        make("t5", pairs, out=root / "base", steps=1, shape=T5_SMALL, seed=1)
        found = {}
        for name, train in (("recipe", recipe), ("Chorus", ours)):
            one = train(root / "base", rows, held_out, epochs=1, directory=root / f"{name}-1")
            more = train(root / "base", rows, held_out, epochs=asked.epochs, directory=root / f"{name}-more")
            found[name] = {**one, **more, "epoch": (more["cpu"] - one["cpu"]) / (asked.epochs - 1)}
    tokens = found["recipe"]["tokens"]
    print(f"\n| {asked.rows} rows, {tokens:.0f} real tokens an epoch | recipe | Chorus | ratio |")
    print("| --- | ---: | ---: | ---: |")
    _row("real tokens per CPU-second", {name: tokens / told["epoch"] for name, told in found.items()}, digits=1)
    _row("eval loss", {name: told["eval_loss"] for name, told in found.items()}, digits=4)


def _row(what: str, values: dict[str, float], *, digits: int) -> None:
    literal, own = values["recipe"], values["Chorus"]
    print(f"| {what} | {literal:.{digits}f} | {own:.{digits}f} | {own / literal:.{digits}f} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--recipe", base, data, epochs]:
            run_recipe(base, data, int(epochs))
        case ["--trainer", *arguments]:
            sys.exit(run_trainer(arguments))
        case _:
            main()
