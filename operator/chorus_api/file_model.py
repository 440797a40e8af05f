"""What every JSON file between the operator and its pods has in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class FileModel(BaseModel):
    """A JSON file: camelCase, frozen, unknown fields ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )
    version: Literal[1] = Field(1, description="Version of the file's form.")
