"""The models of the type: its block of a Plugin, and run.json of its runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chorus_api.base import Model
from chorus_api.plugin import Plugin, PluginSpec
from chorus_api.run_config import FrozenRun


class PairPlugin(Model):
    """Two images that work together."""

    teacher: str = Field(max_length=1024, description="Image of the teacher, which trains.")
    pupil: str = Field(max_length=1024, description="Image of the pupil, which is taught.")


class PairSpec(PluginSpec):
    """A Plugin's spec with one more type."""

    type: Literal["lora", "container", "service", "pair"] = Field(description="Kind of training.")
    pair: PairPlugin | None = Field(None, description="The images, for type pair.")


class WithPairs(Plugin):
    """A Plugin as this operator reads it."""

    spec: PairSpec


class PairConfig(FrozenRun):
    """run.json of a pair's run."""

    type: Literal["pair"] = "pair"
    teacher: str
    pupil: str
