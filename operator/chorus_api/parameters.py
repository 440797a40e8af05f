"""Parameters of container and service plugins: whole numbers or texts by name, and the schema that bounds them.

The schema is a closed part of JSON Schema (draft 2020-12), written as models, so that the API server itself refuses a
schema that says anything else. It has no patterns: a regular expression of a stranger can hold up who checks it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StringConstraints

from chorus_api.base import IntOrString, Message, Model, PatternMessage, Rule

MAX_PARAMETERS = 64
MAX_TEXT = 1024

ParameterName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$"),
    PatternMessage("must be of letters, digits, '_', '.' and '-', and start with a letter or '_'"),
]
ParameterKey = Annotated[str, StringConstraints(min_length=1, max_length=63)]
ParameterValue = Annotated[
    StrictInt | Annotated[str, StringConstraints(max_length=MAX_TEXT)], IntOrString(max_length=MAX_TEXT)
]
Parameters = Annotated[dict[ParameterKey, ParameterValue], Field(max_length=MAX_PARAMETERS)]
"""Values by name. A decimal is a text, such as "5e-5"."""


class ParameterSchema(Model):
    """What one parameter may be."""

    rules = (
        Rule(
            "self.type == 'integer' || !has(self.minimum) && !has(self.maximum)",
            "minimum and maximum are for type integer: remove them or set type: integer",
        ),
        Rule(
            "self.type == 'string' || !has(self.minLength) && !has(self.maxLength)",
            "minLength and maxLength are for type string: remove them or set type: string",
        ),
        Rule(
            "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
            "minimum is above maximum: no value could be right",
        ),
    )

    type: Literal["integer", "string"] = Field(description="Type of the value.")
    description: Message | None = Field(None, description="Meaning, unit and effect, for people.")
    default: ParameterValue | None = Field(None, description="Value when nobody sets one.")
    enum: Annotated[list[ParameterValue], Field(min_length=1, max_length=64)] | None = Field(
        None, description="The only values that are allowed."
    )
    minimum: int | None = Field(None, description="Least value of an integer.")
    maximum: int | None = Field(None, description="Greatest value of an integer.")
    min_length: int | None = Field(None, ge=0, le=MAX_TEXT, description="Fewest characters of a string.")
    max_length: int | None = Field(None, ge=0, le=MAX_TEXT, description="Most characters of a string.")


class ParametersSchema(Model):
    """Which parameters a plugin takes: a closed part of JSON Schema. What it does not name is refused."""

    properties: dict[ParameterKey, ParameterSchema] = Field(
        default_factory=dict, max_length=MAX_PARAMETERS, description="The parameters by name."
    )
    required: Annotated[list[ParameterKey], Field(max_length=MAX_PARAMETERS)] = Field(
        default_factory=list, description="Parameters that must have a value."
    )

    def as_json_schema(self) -> dict[str, object]:
        """Write it as the JSON Schema document that it stands for."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": list(self.required),
            "properties": {
                name: parameter.model_dump(mode="json", by_alias=True, exclude_none=True)
                for name, parameter in self.properties.items()
            },
        }
