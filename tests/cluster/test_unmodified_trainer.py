"""A script with transformers' own Trainer and not a word about Chorus: percent, ETA and loss in `kubectl get crun`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest_asyncio

from builders import make_plugin, make_project
from harness.client import Manifest
from harness.cluster import Cluster, Env

RUN = "birds-tiny-1"
SECONDS = 420
ROWS = "text,label\n" + "".join(f"a {size} bird,{number % 2}\n" for number, size in enumerate(["small", "large"] * 40))
# Rows that come slowly make it last 40 seconds on the fastest machine: progress is written every ten.
SCRIPT = """
import os
import time
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

rows = pq.read_table(os.environ["CHORUS_DATA_DIR"] + "/train.parquet").to_pylist()
def example(row):
    return {"input_ids": torch.tensor([ord(letter) % 128 for letter in row["text"]]), "labels": int(row["label"])}

class Slow(list):
    def __getitem__(self, index):
        time.sleep(0.005)
        return super().__getitem__(index)

config = BertConfig(vocab_size=128, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
model = BertForSequenceClassification(config)
arguments = TrainingArguments(
    output_dir="/tmp/trainer", max_steps=1000, per_device_train_batch_size=8, logging_steps=50, save_strategy="no",
    use_cpu=True,
)
Trainer(model=model, args=arguments, train_dataset=Slow(map(example, rows))).train()
model.save_pretrained(os.environ["CHORUS_OUT_DIR"])
"""
SAY = """printf '{"type": "MODEL_NAME", "data": {"model_name": "tiny-bert"}}\\n' >> "$CHORUS_MESSAGES_FILE\""""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(cluster: Cluster) -> AsyncIterator[Env]:
    """A namespace with the script, a Plugin that runs it in the trainer's image, and a Project."""
    async with Env.make(cluster.api, "unmodified") as made:
        await made.kubectl("create", "configmap", "code", f"--from-literal=train.py={SCRIPT}")
        digest = hashlib.sha256(SCRIPT.encode()).hexdigest()
        container = {
            "image": cluster.trainer_image,
            "command": ["sh", "-c", f"python /chorus/script/train.py && {SAY}"],
            "messages": "File",
            "describe": False,
            "script": {"configMap": {"name": "code", "key": "train.py"}, "sha256": digest},
        }
        resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
        spec = {"type": "container", "lora": None, "container": container, "resources": resources}
        dataset = {"source": {"inline": {"data": ROWS}}, "format": "csv", "fields": None}
        await made.apply(
            make_plugin("tiny", spec=spec), make_project("birds", plugins=["tiny"], spec={"dataset": dataset})
        )
        yield made


def shows_everything(run: Manifest) -> bool:
    progress = run.get("status", {}).get("progress", {})
    return 0 < progress.get("percent", 0) < 100 and "etaSeconds" in progress and "loss" in progress


async def test_percent_eta_and_loss_are_shown_while_it_trains(place: Env) -> None:
    await place.wait("TrainingRun", RUN, where=shows_everything, seconds=SECONDS)
    row = await place.row("TrainingRun", RUN)
    assert (row["PHASE"], row["PLUGIN"]) == ("TRAINING", "tiny")
    assert 0 < int(row["PROGRESS"]) <= 100
    assert float(row["LOSS"]) > 0


async def test_what_it_saved_is_published(place: Env) -> None:
    run = await place.wait("TrainingRun", RUN, phase="TRAINED", seconds=SECONDS)
    assert run["status"]["report"]["modelName"]["modelName"] == "tiny-bert"
    assert run["status"]["model"]["bytes"] > 1000
