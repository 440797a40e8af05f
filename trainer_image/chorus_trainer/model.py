"""The frozen base model and the adapter on it: loaded from a local directory, looked at before it is trusted."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from chorus_api.lora import ResolvedLora
from chorus_api.reasons import Reason
from chorus_trainer.checks import find_base
from chorus_trainer.encode import Limits
from chorus_trainer.errors import BadConfiguration, as_memory_error

logger = logging.getLogger(__name__)
ALL_LINEAR = "all-linear"
PROBE = "Turn on the light in room 7."


@dataclass(frozen=True)
class Base:
    """A base model and its tokenizer, as loaded."""

    model: PreTrainedModel
    tokenizer: Any
    encoder_decoder: bool


def read_base_config(directory: Path) -> PretrainedConfig:
    """The base model's config.json. Raises BadConfiguration (BaseModelNotFound) when there is none that can be used."""
    find_base(directory)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(directory, "config.json", error) from error
    return config


def load_base(directory: Path, *, dtype: torch.dtype, probes: Sequence[str]) -> Base:
    """Load model and tokenizer, both offline, and try the tokenizer on `probes`. No code of the model's is executed.

    Raises BadConfiguration when the directory is not a model of a family that is known, when its weights are not in
    safetensors files or do not fit its config.json, or when the tokenizer is not this model's.
    """
    config = read_base_config(directory)
    encoder_decoder = bool(config.is_encoder_decoder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a broken tokenizer file makes a library raise
        raise _unreadable(directory, "tokenizer", error) from error
    check_tokenizer(tokenizer, probes)
    auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    try:
        # Unset, trust_remote_code asks at a terminal, and pickles are read where there are no safetensors.
        loaded: Any = auto.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
        model, report = loaded
    except Exception as error:
        raise as_memory_error(error) or _unreadable(directory, "weights", error) from error
    if absent := sorted([*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])]):
        raise BadConfiguration(
            f"the base model's weights lack {len(absent)} tensors that its config.json asks for, such as {absent[0]}",
            reason=Reason.BASE_MODEL_NOT_FOUND,
            hint="The files at lora.baseModel.uri are incomplete or of another model.",
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise BadConfiguration(
            f"the tokenizer knows {len(tokenizer)} tokens, the model's embedding has {rows} rows: they do not belong "
            "together"
        )
    return Base(model=model, tokenizer=tokenizer, encoder_decoder=encoder_decoder)


def _unreadable(directory: Path, part: str, error: Exception) -> BadConfiguration:
    told = " ".join(str(error).split())[:400]
    return BadConfiguration(
        f"the base model's {part} at {directory} cannot be loaded: {type(error).__name__}: {told}",
        reason=Reason.BASE_MODEL_NOT_FOUND,
        hint="Check that lora.baseModel.uri names a complete model in the format of transformers.",
    )


def check_tokenizer(tokenizer: Any, probes: Sequence[str]) -> None:
    """Encode and decode a plain sentence and `probes`. A tokenizer class that does not fit its file encodes text to
    nothing, or to other text, without an error: the training would run and learn nothing.

    Raises BadConfiguration. Text that the vocabulary lacks (unknown tokens) is not an error, but logged.
    """
    unknown = total = same = tried = 0
    for text in (PROBE, *probes):
        tokens = tokenizer.encode(text, add_special_tokens=False)
        if text.strip() and not tokens:
            raise BadConfiguration(f"the base model's tokenizer encodes {text[:60]!r} to nothing")
        missing = tokens.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
        total, unknown = total + len(tokens), unknown + missing
        if not missing:
            tried += 1
            same += _core(text) in _core(str(tokenizer.decode(tokens, skip_special_tokens=True)))
    if same * 2 < tried:
        raise BadConfiguration(
            f"the base model's tokenizer does not give back what it encodes ({tried - same} of {tried} texts changed): "
            "its files do not fit its class"
        )
    if unknown * 5 > total:
        logger.warning(
            "%d %% of the sampled tokens are unknown to the base model's vocabulary", 100 * unknown // max(total, 1)
        )


def _core(text: str) -> str:
    """A text without what tokenizers may change: case, accents, white space, punctuation, width."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum())


def limits_for(config: PretrainedConfig, lora: ResolvedLora, *, encoder_decoder: bool) -> Limits:
    """The run's limits, lowered to the positions that the model has. Raises BadConfiguration when none are left."""
    limits = Limits(source=lora.max_source_tokens, target=lora.max_target_tokens)
    text = config.get_text_config() if not encoder_decoder else config
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return limits
    if encoder_decoder:
        return Limits(source=min(limits.source, positions), target=min(limits.target, positions))
    if limits.source + limits.target <= positions:
        return limits
    if limits.target >= positions:
        raise BadConfiguration(
            f"maxTargetTokens {limits.target} leaves no room for a prompt: the model has {positions} positions"
        )
    logger.warning(
        "the model has %d positions: prompts are cut at %d tokens instead of %d",
        positions,
        positions - limits.target,
        limits.source,
    )
    return Limits(source=positions - limits.target, target=limits.target)


def add_adapter(base: Base, lora: ResolvedLora) -> PeftModel:
    """Put a fresh LoRA adapter on the base model; its weights are float32 whatever the base's are.

    Raises BadConfiguration for target modules that the model does not have, naming those that it has.
    """
    targets = resolve_targets(base.model, lora.target_modules)
    alpha = float(lora.alpha)
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if base.encoder_decoder else TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,  # type: ignore[arg-type]  # peft divides it by r
        lora_dropout=float(lora.dropout),
        target_modules=targets,
        use_rslora=lora.rank_stabilized,
        bias="none",
    )
    base.model.config.use_cache = False
    try:
        model = get_peft_model(base.model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise BadConfiguration(f"targetModules {lora.target_modules}: {error}"[:600]) from error
    assert isinstance(model, PeftModel)
    return model


def resolve_targets(model: nn.Module, wanted: Sequence[str]) -> str | list[str]:
    """`wanted` as peft takes it: `all-linear`, or names of which each fits at least one linear layer."""
    if ALL_LINEAR in wanted:
        if len(wanted) > 1:
            raise BadConfiguration(f"targetModules: {ALL_LINEAR} stands alone, not with {list(wanted)}")
        return ALL_LINEAR
    names = [name for name, module in model.named_modules() if _adaptable(module)]
    unknown = [target for target in wanted if not any(_fits(name, target) for name in names)]
    if unknown:
        leaves = sorted({name.rpartition(".")[2] for name in names})
        raise BadConfiguration(
            f"targetModules: the base model has no {', '.join(unknown)}; it has {', '.join(leaves[:40])}",
            hint=f'Choose among those, or ["{ALL_LINEAR}"].',
        )
    return list(wanted)


def _adaptable(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def trainable(model: nn.Module) -> Iterable[nn.Parameter]:
    """The parameters that training changes: the adapter's."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)
