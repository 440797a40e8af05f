"""The building blocks of every kind: strict frozen models, bounded strings, conditions.

Specs refuse what they do not know; statuses ignore it, so that an older reader survives a newer writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, JsonValue, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

GROUP = "chorus.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(NamedTuple):
    """A CEL rule that the API server checks on an object of the schema, and what it says when the rule is broken."""

    rule: str
    message: str


PATTERN_MESSAGE = "x-pattern-message"
PATTERN_RULE = "x-pattern-rule"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_MAP_KEYS = "x-list-map-keys"
WRITERS = "x-writers"


@dataclass(frozen=True)
class PatternMessage:
    """What the API server says about a string that breaks its pattern, or the CEL rule `also` (on `self`).

    A refusal that quotes a regular expression helps nobody: in the CRD the pattern becomes a rule with this message.
    `also` may rely on the pattern. It binds the API server alone; pydantic checks the pattern.
    """

    message: str
    also: str = ""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), PATTERN_MESSAGE: self.message, PATTERN_RULE: self.also}


@dataclass(frozen=True)
class IntOrString:
    """Marks a value that is a whole number or a text of at most `max_length` characters: IntOrString of Kubernetes."""

    max_length: int

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {INT_OR_STRING: True, "maxLength": self.max_length}


class Model(BaseModel):
    """A part of a spec: frozen, camelCase in the API, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()


class StatusModel(Model):
    """A part of a status: as `Model`, but unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

DECIMAL = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$"

_LABEL_MESSAGE = PatternMessage("must be of lower-case letters, digits and '-', with a letter or digit at both ends")
_NAME_MESSAGE = PatternMessage(
    "must be of lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
)

Label20 = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=DNS_LABEL), _LABEL_MESSAGE]
Label50 = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=DNS_LABEL), _LABEL_MESSAGE]
Label63 = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL), _LABEL_MESSAGE]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN), _NAME_MESSAGE]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=4096)]
DecimalText = Annotated[str, StringConstraints(max_length=32, pattern=DECIMAL)]
"""A non-negative decimal number as a string, such as "5e-5": no floating point crosses the API."""
Fraction = Annotated[
    DecimalText,
    PatternMessage(
        'must be a decimal from 0 up to, but not including, 1, as a string such as "0.05"', also="double(self) < 1.0"
    ),
]
QUANTITY_MESSAGE = 'must be a quantity, such as "500m", "2" or "10Gi"'
Quantity = Annotated[
    str,
    StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"),
    PatternMessage(QUANTITY_MESSAGE),
]
Sha256 = Annotated[
    str,
    StringConstraints(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$"),
    PatternMessage("must be the SHA-256 as 64 lower-case hex digits, such as sha256sum prints it"),
]
Metrics = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=64)],
    ],
    Field(max_length=32),
]
"""Metrics by name, as decimal strings."""
Time = Annotated[datetime, Field(description="RFC 3339 time in UTC.")]


def shared(*writers: str, keys: Sequence[str] = ()) -> dict[str, JsonValue]:
    """Say of a field of a status, as its `json_schema_extra`, that several field managers write parts of it.

    Every other object and list in a status has one writer, which writes it whole, and is atomic in the CRD: the API
    server then keeps one entry for it in `metadata.managedFields`, where the upkeep of an entry for each field within
    was half of what a write of a status costs. `keys`: what tells the items of a list apart, each of which has one
    writer.
    """
    if len(writers) < 2:
        raise ValueError("a field that one writes is not shared: leave the mark out")
    return {WRITERS: list(writers), **({LIST_MAP_KEYS: list(keys)} if keys else {})}


CONDITIONS_ARE_SHARED = shared("chorus", "controllers of others", keys=["type"])


class Condition(StatusModel):
    """One observed fact about an object: `metav1.Condition`."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(description="Name of the condition in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(description="Why, as one CamelCase word.")
    message: Message = Field("", description="Why, for people.")
    last_transition_time: Time = Field(description="When `status` last changed.")
    observed_generation: int = Field(0, ge=0, description="The generation of the spec that this is about.")


class NameRef(Model):
    """A reference to an object of the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")
