"""`python -m chorus_trainer.ask`: put a question to a model with its adapter and without; prints JSON lines."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chorus_trainer.errors import BadConfiguration, TrainerError

if TYPE_CHECKING:
    from chorus_trainer.model import Base

MOST_PROMPT_TOKENS = 384


def main(arguments: list[str]) -> int:
    """Answer each prompt; returns the exit code. Each line has adapter (bool), prompt and answer."""
    parser = argparse.ArgumentParser(prog="chorus_trainer.ask", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="directory of the published adapter")
    parser.add_argument("--base", type=Path, required=True, help="directory of its base model")
    parser.add_argument("--prompt", action="append", required=True, help="question; may be given more than once")
    parser.add_argument("--no-adapter", action="store_true", help="ask the base model alone")
    parser.add_argument("--max-tokens", type=int, default=96, help="longest answer in tokens (default 96)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        for prompt, adapter, text in ask(
            options.model,
            base_dir=options.base,
            prompts=options.prompt,
            only_base=options.no_adapter,
            max_tokens=options.max_tokens,
        ):
            print(json.dumps({"adapter": adapter, "prompt": prompt, "answer": text}, ensure_ascii=False), flush=True)
    except TrainerError as error:
        print(f"{error}. {error.hint}" if error.hint else str(error), file=sys.stderr)
        return error.exit_code
    return 0


def ask(
    model_dir: Path, *, base_dir: Path, prompts: list[str], only_base: bool, max_tokens: int
) -> list[tuple[str, bool, str]]:
    """Prompt, whether the adapter answered, and the answer: the likeliest word each time, so always the same.

    Raises BadConfiguration when the base model or the adapter cannot be loaded, or do not belong together.
    """
    import torch
    from peft import PeftModel
    from transformers.utils import logging as transformers_logging

    from chorus_trainer.export import CONFIG_FILE, WEIGHTS_FILE
    from chorus_trainer.model import load_base

    transformers_logging.disable_progress_bar()
    base = load_base(base_dir, dtype=torch.float32, probes=[])
    base.model.eval()
    if only_base:
        return [(prompt, False, answer(base.model, base, prompt, max_tokens=max_tokens)) for prompt in prompts]
    if (model_dir / CONFIG_FILE).is_file() and not (model_dir / WEIGHTS_FILE).is_file():
        raise BadConfiguration(f"the adapter at {model_dir} has no {WEIGHTS_FILE}: weights are read from nothing else")
    try:
        model = PeftModel.from_pretrained(base.model, str(model_dir), local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BadConfiguration(f"the adapter at {model_dir} cannot be put on this base model: {error}"[:600]) from error
    answers = []
    for prompt in prompts:
        answers.append((prompt, True, answer(model, base, prompt, max_tokens=max_tokens)))
        with model.disable_adapter():
            answers.append((prompt, False, answer(model, base, prompt, max_tokens=max_tokens)))
    return answers


def answer(model: Any, base: Base, prompt: str, *, max_tokens: int) -> str:
    """What `model` answers, by the same tokens around the prompt as in training."""
    import torch

    from chorus_trainer.encode import prompt_tokens

    tokens, _ = prompt_tokens(base.tokenizer, prompt, encoder_decoder=base.encoder_decoder, limit=MOST_PROMPT_TOKENS)
    inputs = torch.tensor([tokens])
    with torch.inference_mode():
        output = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=base.tokenizer.pad_token_id or 0,
        )[0]
    new = output if base.encoder_decoder else output[len(tokens) :]
    return str(base.tokenizer.decode(new, skip_special_tokens=True)).strip()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main(sys.argv[1:]))
