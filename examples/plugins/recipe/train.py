"""A LoRA recipe of one's own: transformers' Trainer over peft, executed in place of Chorus's trainer.

It keeps what Chorus asks of a LoRA training: it says what it does, leaves an adapter with the digests of its files, and
a run record. Progress, ETA and loss are transformers' own report: Chorus speaks Kubeflow Trainer's wire form.
"""

import hashlib
import json
import logging
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

LOG = logging.getLogger("recipe")
DATA, RUN, OUT = (Path(os.environ[f"CHORUS_{name}_DIR"]) for name in ("DATA", "RUN", "OUT"))
SAY_SECONDS = 300
SEQUENCE = count(1)
INFRASTRUCTURE = 70


def say(kind: str, **data: Any) -> None:
    """Send a message and wait until it is taken: again while nobody answers, for at most SAY_SECONDS."""
    ids = {name: int(os.environ[f"CHORUS_{name.upper()}"]) for name in ("project_id", "plugin_id")}
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "urn:chorus:example:recipe",
        "type": f"dev.chorus.{kind}",
        "subjectuid": os.environ["CHORUS_SUBJECT_UID"],
        "attempt": os.environ["CHORUS_ATTEMPT"],
        "sequence": str(next(SEQUENCE)),
        "data": ids | data,
    }
    end, pause = time.monotonic() + SAY_SECONDS, 0.5
    while True:
        asked = 0.0
        try:
            return post(json.dumps(event).encode())
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                sys.exit(f"{kind} was refused: {error.read(2000).decode(errors='replace')}")
            why: Exception = error
            seconds = error.headers.get("Retry-After", "")
            asked = min(float(seconds), 30.0) if seconds.isdecimal() else 0.0
        except OSError as error:
            why = error
        if time.monotonic() > end:
            LOG.error("%s was not taken: %s", kind, why)
            sys.exit(INFRASTRUCTURE)
        time.sleep(max(pause, asked))
        pause = min(2 * pause, 15.0)


def post(body: bytes) -> None:
    """Post one event; token and authorities are read each time, for both are renewed while a pod runs."""
    token = Path(os.environ["CHORUS_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    headers = {"content-type": "application/cloudevents+json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(os.environ["CHORUS_MESSAGES_URL"], body, headers)
    context = ssl.create_default_context(cafile=os.environ["CHORUS_CA_FILE"])
    urllib.request.urlopen(request, timeout=10, context=context).close()


def main() -> None:
    """Train an adapter on the frame as the run's parameters say."""
    run = json.loads(Path("/chorus/run.json").read_text(encoding="utf-8"))
    chosen = run["encoderDecoder"]
    tokenizer = AutoTokenizer.from_pretrained(run["baseModelPath"], trust_remote_code=False)
    rows = pq.read_table(DATA / "train.parquet").to_pylist()[: chosen["maxSamples"]]
    say("DATA_REPORT", applicable=True)

    def encode(row: dict[str, str]) -> dict[str, Any]:
        prompt = tokenizer(row["prompt"], truncation=True, max_length=chosen["maxSourceTokens"])
        response = tokenizer(row["response"], truncation=True, max_length=chosen["maxTargetTokens"])
        return {**prompt, "labels": response["input_ids"]}

    base = AutoModelForSeq2SeqLM.from_pretrained(run["baseModelPath"], trust_remote_code=False, use_safetensors=True)
    lora = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=chosen["r"],
        lora_alpha=float(chosen["alpha"]),  # type: ignore[arg-type] # any number will do
        lora_dropout=float(chosen["dropout"]),
        target_modules=chosen["targetModules"],
    )
    model = get_peft_model(base, lora)
    arguments = Seq2SeqTrainingArguments(
        output_dir="/tmp/trainer",
        num_train_epochs=chosen["epochs"],
        per_device_train_batch_size=chosen["batchSize"],
        gradient_accumulation_steps=chosen["gradientAccumulation"],
        learning_rate=float(chosen["learningRate"]),
        seed=chosen["seed"],
        logging_steps=5,
        save_strategy="no",
        report_to=[],
    )
    say("TRAINING_START")
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=[encode(row) for row in rows],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=base),
    )
    loss = trainer.train().training_loss
    model.save_pretrained(str(OUT))
    tokenizer.save_pretrained(OUT)
    digest = seal(OUT)
    record = {
        "base_model": run["baseModelUri"],
        "samples_used": len(rows),
        "epochs": chosen["epochs"],
        "learning_rate": float(chosen["learningRate"]),
        "run_directory": str(RUN),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "final_loss": loss,
        "run_id": run["runId"],
    }
    (RUN / "training_run.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    say("MODEL_NAME", model_name="own-recipe", digest=digest, metrics={"final_loss": loss})


def seal(folder: Path) -> str:
    """Write SHA256SUMS over the files of a directory; the digest of it is the adapter's."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    sums = "".join(lines).encode()
    (folder / "SHA256SUMS").write_bytes(sums)
    return f"sha256:{hashlib.sha256(sums).hexdigest()}"


if __name__ == "__main__":
    main()
