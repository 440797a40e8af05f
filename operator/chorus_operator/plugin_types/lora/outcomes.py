"""Rows of the table that only LoRA runs have: in the words of their parameters, not of the pod's mounts."""

from __future__ import annotations

from dataclasses import replace

from chorus_api.reasons import FailureClass, Reason
from chorus_api.run_config import RunConfig
from chorus_operator.decisions.outcome.model import Observation, Outcome
from chorus_operator.decisions.outcome.pod_rows import OUT_OF_MEMORY, by_exit, of_failed_job

OUT_OF_MEMORY_HINT = "Raise the Plugin's resources.limits.memory, or lower batchSize or the token limits."
BASE_MODEL_NOT_FOUND = Outcome(
    FailureClass.USER,
    Reason.BASE_MODEL_NOT_FOUND,
    hint="Check lora.baseModel.uri and revision; for a closed model set secretRef.",
)


def _out_of_memory(seen: Observation) -> Outcome | None:
    cause = by_exit(seen)
    return replace(cause, hint=OUT_OF_MEMORY_HINT) if cause and cause.reason is Reason.OUT_OF_MEMORY else None


def _base_model(seen: Observation) -> Outcome | None:
    cause = by_exit(seen)
    if cause is None or cause.reason is not Reason.BASE_MODEL_NOT_FOUND or not isinstance(seen.config, RunConfig):
        return None
    return about_base_model(cause, seen.config)


ROWS = (
    of_failed_job(
        "A LoRA run is over its memory limit, or the accelerator's memory ran out",
        _out_of_memory,
        replace(OUT_OF_MEMORY, hint=OUT_OF_MEMORY_HINT),
    ),
    of_failed_job("The base model of a LoRA run cannot be used", _base_model, BASE_MODEL_NOT_FOUND),
)


def about_base_model(cause: Outcome, config: RunConfig) -> Outcome:
    """Name the base model as the user did: the pod knows it by its mount alone."""
    hint = cause.hint or BASE_MODEL_NOT_FOUND.hint
    return replace(cause, message=f"lora.baseModel.uri {config.base_model_uri}: {cause.message}", hint=hint)


def of_fetch(cause: Outcome, config: RunConfig) -> Outcome:
    """Say why a fetch failed. What is wrong with its configuration is the base model's URI or revision."""
    reason = Reason.BASE_MODEL_NOT_FOUND if cause.reason is Reason.BAD_CONFIGURATION else cause.reason
    return about_base_model(replace(cause, reason=reason), config)
