"""The building blocks of every kind: strict frozen models, bounded strings, conditions.

Specs refuse what they do not know; statuses ignore it, so that an older reader survives a newer writer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP = "chorus.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(NamedTuple):
    """A CEL rule that the API server checks on an object of the schema, and what it says when the rule is broken."""

    rule: str
    message: str


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

Label20 = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=DNS_LABEL)]
Label50 = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=DNS_LABEL)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=4096)]
Decimal = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$")]
"""A non-negative decimal number as a string, such as "5e-5": no floating point crosses the API."""
Quantity = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
Time = Annotated[datetime, Field(description="RFC 3339 time in UTC.")]


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
