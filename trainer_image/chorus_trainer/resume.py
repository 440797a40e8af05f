"""Starting from the adapter of an earlier run (`resumeFrom`): the same base model and the same shape, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from chorus_api.run_config import RunConfig
from chorus_trainer.errors import BadConfiguration
from chorus_trainer.export import CONFIG_FILE, RECORD_FILE, WEIGHTS_FILE, public_base_name


def start_from(model: PeftModel, directory: Path, *, config: RunConfig, base_digest: str) -> None:
    """Give the adapter of `model` the weights of the one in `directory`.

    Raises BadConfiguration when there is none, when it belongs to another base model, or has another rank or other
    target modules than this run.
    """
    try:
        described = json.loads((directory / CONFIG_FILE).read_bytes())
        weights = load_file(directory / WEIGHTS_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadConfiguration(
            f"resumeFrom: the adapter at {directory} cannot be read: {error}"[:600],
            hint="Name a run whose model is still published.",
        ) from error
    _check_base(directory, described, config=config, base_digest=base_digest)
    wanted = get_peft_model_state_dict(model)
    _check_shape(described, weights, wanted)
    set_peft_model_state_dict(model, weights)


def _check_base(directory: Path, described: dict[str, Any], *, config: RunConfig, base_digest: str) -> None:
    theirs, ours = described.get("base_model_name_or_path"), public_base_name(config.base_model_uri)
    if theirs != ours:
        raise BadConfiguration(
            f"resumeFrom: the adapter was trained on {theirs}, this run's base model is {ours}",
            hint="Set lora.baseModel to the adapter's.",
        )
    record = directory / RECORD_FILE
    digest = json.loads(record.read_bytes()).get("base_model_digest") if record.exists() else None
    if digest and digest != base_digest:
        raise BadConfiguration(
            f"resumeFrom: the files of {ours} have changed since the adapter was trained ({digest} then, "
            f"{base_digest} now)",
            hint="Set lora.baseModel.revision to the revision that the adapter was trained on.",
        )


def _check_shape(described: dict[str, Any], weights: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if theirs == ours:
        return
    differing = sorted(theirs.items() ^ ours.items())[0][0]
    raise BadConfiguration(
        f"resumeFrom: the adapter does not fit this run's parameters: {differing} is {theirs.get(differing, 'absent')} "
        f"there and {ours.get(differing, 'absent')} here",
        hint=f"Use the adapter's own parameters: r {described.get('r')}, targetModules "
        f"{described.get('target_modules')}.",
    )
