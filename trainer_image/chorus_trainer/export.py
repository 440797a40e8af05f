"""The artefact: an adapter that others can load, with what it was made of, and sums that hold it together."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from chorus_api.run_config import RunConfig, RunRecord
from chorus_trainer.checkpoint import digest_of, flush_directory

OUT_DIR = "out"
SUMS_FILE = "SHA256SUMS"
RECORD_FILE = "training_run.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PUBLISHED = {".safetensors", ".json", ".jinja", ".md", ".txt"}
"""Suffixes of what may be published: weights without code, and text."""


def public_base_name(uri: str) -> str:
    """What others know the base model by: `owner/name` of a hub model, else its URI."""
    return uri.removeprefix("hf://")


def write_artefact(
    model: PeftModel, tokenizer: Any, *, config: RunConfig, record: RunRecord, run_dir: Path
) -> tuple[str, int]:
    """Write <run_dir>/out and <run_dir>/training_run.json. Returns the digest (`sha256:…` of SHA256SUMS) and the
    bytes of the artefact. What an earlier attempt left in `out` is replaced as a whole."""
    out, aside = run_dir / OUT_DIR, run_dir / f".{OUT_DIR}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    base = public_base_name(config.base_model_uri)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    # Not save_file: it makes a file that only its owner may read, and the publish Job may be another user.
    (aside / WEIGHTS_FILE).write_bytes(save(weights, metadata={"format": "pt"}))
    (aside / CONFIG_FILE).write_text(json.dumps(adapter_config(model, base=base), indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(aside)
    _forget_paths(aside / "tokenizer_config.json", base=base)
    (aside / "README.md").write_text(model_card(config, record, base=base))
    for path in aside.iterdir():
        if path.suffix not in _PUBLISHED:
            path.unlink()
    digest = write_sums(aside)
    flush_directory(aside)
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)
    (run_dir / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n")
    flush_directory(run_dir)
    return digest, sum(path.stat().st_size for path in out.iterdir())


def write_sums(directory: Path) -> str:
    """Write SHA256SUMS over every other file, as sha256sum writes it, sorted by name. Returns its own digest."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != SUMS_FILE)
    text = "".join(f"{digest_of(path)}  {path.relative_to(directory).as_posix()}\n" for path in files)
    (directory / SUMS_FILE).write_text(text)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def adapter_config(model: PeftModel, *, base: str) -> dict[str, Any]:
    """peft's description of the adapter, with the base model's public name in the place of a path in this pod."""
    config = copy.deepcopy(model.peft_config["default"])
    config.base_model_name_or_path = base
    config.inference_mode = True
    described: dict[str, Any] = config.to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in described.items()}


def _forget_paths(path: Path, *, base: str) -> None:
    if not path.exists():
        return
    settings = json.loads(path.read_bytes())
    for name in ("name_or_path", "_name_or_path"):
        if name in settings:
            settings[name] = base
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def model_card(config: RunConfig, record: RunRecord, *, base: str) -> str:
    """README.md of the artefact: what it is, what it learned from, how well, and what it is not."""
    header = ["---", f"base_model: {json.dumps(base)}", "library_name: peft", "tags: [chorus, lora]", "---"]
    metrics = [
        ("Training loss, mean of the last epoch", record.final_loss),
        ("Evaluation loss with the adapter", record.eval_loss),
        ("Evaluation loss without it", record.eval_loss_without_adapter),
    ]
    facts = [
        ("Base model", f"{base} ({record.base_model_digest})"),
        ("Training frame", f"{record.frame_name} ({record.frame_digest})"),
        ("Rows used", f"{record.samples_used} for training, {record.eval_samples} for evaluation"),
        ("Cut to the limits", f"{record.truncated_prompts} prompts, {record.truncated_responses} responses"),
        ("Trained", f"{record.steps} steps, {record.tokens} tokens, {record.train_seconds:.0f} s on {record.device}"),
        ("Run", f"{config.run_name} ({record.run_id}), {record.trained_at}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))),
    ]
    return "\n".join(
        [
            *header,
            "",
            f"# {config.model_name}",
            "",
            f"A LoRA adapter that the plugin `{config.plugin}` of the Chorus project `{config.project}` trained.",
            "",
            *_table(("", ""), facts),
            "",
            "## Results",
            "",
            *_table(("", "nats per token"), [(name, f"{value:.4f}") for name, value in metrics if value is not None]),
            "",
            "## Parameters",
            "",
            *_table(("", ""), [(name, json.dumps(value)) for name, value in sorted(record.parameters.items())]),
            "",
            "## Limits",
            "",
            "The adapter works with the base model named above and no other. It has learned from the rows of one "
            "training frame and answers in their manner; what it says about anything else is the base model's. It "
            "inherits the base model's licence and faults. Nobody has judged its answers: the losses above say how "
            "well it predicts held-out rows of the same table, not whether an answer is right or safe to act on.",
            "",
        ]
    )


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
