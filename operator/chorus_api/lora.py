"""LoRA parameters: what users may set, and the published table that fills in the rest.

One schema serves Plugin, Project and TrainingRun; the run's values win over the project's, those over the plugin's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from chorus_api.base import DecimalText, Fraction, Model, ObjectName, PatternMessage, ShortText

LearningRate = Annotated[
    DecimalText,
    PatternMessage(
        'must be a decimal above 0 and at most 1, as a string such as "5e-5"',
        also="double(self) > 0.0 && double(self) <= 1.0",
    ),
]
Alpha = Annotated[
    DecimalText,
    PatternMessage(
        'must be a decimal above 0 and at most 4096, as a string such as "16"',
        also="double(self) > 0.0 && double(self) <= 4096.0",
    ),
]

Profile = Literal["compat", "fast", "best"]
Family = Literal["encoderDecoder", "decoder"]


class SecretRef(Model):
    """A Secret of the same namespace, mounted only into the Job that needs it."""

    name: ObjectName = Field(description="Name of the Secret, in the same namespace.")


class BaseModelSource(Model):
    """Where the frozen base model comes from."""

    uri: Annotated[
        str,
        StringConstraints(
            max_length=512, pattern=r"^(hf://[^/\s]+/[^/\s]+|pvc://[a-z0-9][-a-z0-9.]*/[^\s]+|file:///[^\s]+)$"
        ),
        PatternMessage(
            "must be hf://owner/name, pvc://claim/path or file:///path, without '..' parts",
            also="!self.split('/').exists(part, part == '..')",
        ),
    ] = Field(
        description="hf://owner/name (fetched once per revision by a CPU Job), pvc://claim/path (mounted read-only) "
        "or file:///path/in/image."
    )
    revision: ShortText | None = Field(
        None, description="Commit, tag or branch of an hf:// model; the hub's default branch when unset."
    )
    secret_ref: SecretRef | None = Field(
        None, description="Secret with the key `token`, for an hf:// model that needs one."
    )


class LoraParameters(Model):
    """How to fine-tune. Every field is optional; what is unset comes from the table of the profile and model family."""

    base_model: BaseModelSource | None = Field(None, description="The base model that the adapter is trained for.")
    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training rows.")
    batch_size: int | None = Field(None, ge=1, le=1024, description="Examples in one micro-batch.")
    gradient_accumulation: int | None = Field(
        None, ge=1, le=1024, description="Micro-batches in one optimizer step; the loss is that of the whole step."
    )
    learning_rate: LearningRate | None = Field(
        None, description='Peak learning rate as a decimal string, such as "5e-5".'
    )
    r: int | None = Field(None, ge=1, le=1024, description="Rank of the adapter.")
    alpha: Alpha | None = Field(None, description="LoRA alpha as a decimal string; the update is scaled by alpha/r.")
    dropout: Fraction | None = Field(None, description="Dropout on the adapter's input as a decimal string.")
    target_modules: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=128)]], Field(min_length=1, max_length=64)
        ]
        | None
    ) = Field(None, description='Names of the modules to adapt, or ["all-linear"].')
    max_source_tokens: int | None = Field(
        None, ge=1, le=131072, description="Longest prompt in tokens; longer ones are cut and counted."
    )
    max_target_tokens: int | None = Field(
        None, ge=1, le=131072, description="Longest response in tokens; longer ones are cut and counted."
    )
    max_samples: int | None = Field(None, ge=1, le=100_000_000, description="At most so many training rows are used.")
    seed: int | None = Field(None, ge=0, le=2_147_483_647, description="Seed of shuffling, initialisation and dropout.")
    precision: Literal["auto", "float32", "bfloat16"] | None = Field(
        None, description="Arithmetic of the frozen model; auto is bfloat16 where the device computes it natively."
    )
    profile: Profile | None = Field(
        None, description="Row of the default table: compat (the workflow's recipe; the default), fast or best."
    )


class ResolvedLora(Model):
    """Every parameter of a run, with nothing left open."""

    epochs: int
    batch_size: int
    gradient_accumulation: int
    learning_rate: str
    r: int
    alpha: str
    dropout: str
    target_modules: list[str]
    max_source_tokens: int
    max_target_tokens: int
    max_samples: int
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    profile: Profile
    scheduler: Literal["linear", "cosine"] = "linear"
    warmup_fraction: str = "0"
    rank_stabilized: bool = False


_COMPAT_T5 = ResolvedLora(
    epochs=3,
    batch_size=2,
    gradient_accumulation=4,
    learning_rate="5e-5",
    r=16,
    alpha="16",
    dropout="0.05",
    target_modules=["q", "v"],
    max_source_tokens=384,
    max_target_tokens=384,
    max_samples=2000,
    seed=42,
    precision="auto",
    profile="compat",
)
_COMPAT_DECODER = _COMPAT_T5.model_copy(update={"target_modules": ["all-linear"], "alpha": "32", "dropout": "0"})
_FAST_T5 = _COMPAT_T5.model_copy(
    update={
        "profile": "fast",
        "batch_size": 32,
        "gradient_accumulation": 1,
        "learning_rate": "3e-4",
        "dropout": "0",
        "scheduler": "cosine",
        "warmup_fraction": "0.03",
    }
)
_FAST_DECODER = _COMPAT_DECODER.model_copy(
    update={
        "profile": "fast",
        "batch_size": 16,
        "gradient_accumulation": 1,
        "learning_rate": "2e-4",
        "scheduler": "cosine",
        "warmup_fraction": "0.03",
    }
)
_BEST = {"profile": "best", "r": 32, "alpha": "32", "rank_stabilized": True, "target_modules": ["all-linear"]}

DEFAULTS: dict[tuple[Profile, Family], ResolvedLora] = {
    ("compat", "encoderDecoder"): _COMPAT_T5,
    ("compat", "decoder"): _COMPAT_DECODER,
    ("fast", "encoderDecoder"): _FAST_T5,
    ("fast", "decoder"): _FAST_DECODER,
    ("best", "encoderDecoder"): _FAST_T5.model_copy(update=_BEST),
    ("best", "decoder"): _FAST_DECODER.model_copy(update=_BEST),
}
"""The published table: profile x model family. Sources: the workflow's recipe (compat), peft's method comparison
and the "LoRA without regret" study (fast, best)."""


def merge(*layers: LoraParameters | None) -> LoraParameters:
    """Overlay parameters; a later layer wins field by field."""
    merged: dict[str, object] = {}
    for layer in layers:
        if layer is not None:
            merged |= {
                name: getattr(layer, name) for name in layer.model_fields_set if getattr(layer, name) is not None
            }
    return LoraParameters.model_validate(merged)


def resolve(parameters: LoraParameters, *, family: Family) -> ResolvedLora:
    """Fill what `parameters` leaves unset from the table of its profile (compat when unset) and `family`."""
    chosen = {
        name: getattr(parameters, name)
        for name in ResolvedLora.model_fields
        if getattr(parameters, name, None) is not None
    }
    return DEFAULTS[parameters.profile or "compat", family].model_copy(update=chosen)
