"""The converter from models to structural schemas: right where it has a rule, loud where it has none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from chorus_api.base import Model, PatternMessage, Rule, StatusModel, shared
from chorus_api.crd_schema import Schema, UnsupportedSchemaError, status_schema, structural_schema

Name = Annotated[str, StringConstraints(max_length=10)]


def field_schema(annotation: Any, default: Any = ..., *, defaults: bool = True, **field: Any) -> Schema:
    """Convert a model of one field `it` and return the schema of that field."""
    made: type[BaseModel] = create_model(
        "Made", __base__=Model, it=(annotation, Field(default, **{"description": "It.", **field}))
    )
    converted: Schema = structural_schema(made, defaults=defaults)["properties"]["it"]
    return converted


class Inner(Model):
    """Inner parts."""

    size: int = Field(3, ge=1, le=9, description="Size.")


class Bare(Model):
    """Parts without defaults."""

    size: int | None = Field(None, ge=1, le=9, description="Size.")


class Item(Model):
    """An item."""

    name: Name = Field(description="Name.")


def test_a_literal_becomes_an_enum() -> None:
    assert field_schema(Literal["a", "b"]) == {"type": "string", "description": "It.", "enum": ["a", "b"]}
    assert field_schema(Literal["a"]) == {"type": "string", "description": "It.", "enum": ["a"]}


def test_an_optional_field_is_absent_and_never_null() -> None:
    made = create_model("Made", __base__=Model, it=(Name | None, Field(None, description="It.")))
    assert structural_schema(made, defaults=True) == {
        "type": "object",
        "properties": {"it": {"type": "string", "description": "It.", "maxLength": 10}},
    }


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"ge": 1, "le": 9}, {"minimum": 1, "maximum": 9, "format": "int32"}),
        ({"ge": 0}, {"minimum": 0, "format": "int64"}),
        ({"ge": 0, "le": 2**31}, {"minimum": 0, "maximum": 2**31, "format": "int64"}),
        ({}, {"format": "int64"}),
    ],
)
def test_an_integer_has_the_smallest_format_that_holds_its_bounds(
    bounds: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert field_schema(int, **bounds) == {"type": "integer", "description": "It.", **expected}


def test_a_time_is_bounded_text() -> None:
    assert field_schema(datetime) == {"type": "string", "description": "It.", "format": "date-time", "maxLength": 64}


def test_a_pattern_becomes_a_rule_that_says_what_is_wanted() -> None:
    wanted = PatternMessage("must be a word", also="self != 'no'")
    schema = field_schema(Annotated[str, StringConstraints(max_length=9, pattern=r"^\w+$"), wanted])
    assert "pattern" not in schema
    assert schema["x-kubernetes-validations"] == [
        {"rule": r"self.matches(r'^\w+$') && self != 'no'", "message": "must be a word"}
    ]


def test_a_list_is_atomic_unless_it_has_keys() -> None:
    assert field_schema(Annotated[list[Name], Field(max_length=3, min_length=1)]) == {
        "type": "array",
        "description": "It.",
        "maxItems": 3,
        "minItems": 1,
        "items": {"type": "string", "maxLength": 10},
        "x-kubernetes-list-type": "atomic",
    }
    keyed = field_schema(Annotated[list[Item], Field(max_length=3)], json_schema_extra={"x-list-map-keys": ["name"]})
    assert keyed["x-kubernetes-list-type"] == "map"
    assert keyed["x-kubernetes-list-map-keys"] == ["name"]


def test_what_keys_of_a_map_may_be_becomes_a_rule() -> None:
    schema = field_schema(dict[Literal["cpu", "memory"], Name], max_length=2)
    assert schema == {
        "type": "object",
        "description": "It.",
        "maxProperties": 2,
        "additionalProperties": {"type": "string", "maxLength": 10},
        "x-kubernetes-validations": [
            {"rule": "self.all(key, key in ['cpu', 'memory'])", "message": "keys must be among cpu, memory"}
        ],
    }
    bounded = field_schema(dict[Annotated[str, StringConstraints(min_length=1, max_length=5)], Name], max_length=2)
    assert [rule["message"] for rule in bounded["x-kubernetes-validations"]] == [
        "a key must not be empty",
        "a key has at most 5 characters",
    ]


def test_rules_of_a_model_stand_at_its_object() -> None:
    class Ruled(Model):
        """Ruled."""

        rules = (Rule("self.a == oldSelf.a", "a is immutable"),)
        a: Name = Field(description="A.")

    assert field_schema(Ruled)["x-kubernetes-validations"] == [
        {"rule": "self.a == oldSelf.a", "message": "a is immutable"}
    ]


def test_the_description_of_a_field_wins_over_that_of_its_type() -> None:
    assert field_schema(Inner)["description"] == "It."


def test_a_default_stands_where_it_belongs() -> None:
    assert field_schema(Name, "x")["default"] == "x"
    assert field_schema(bool, False)["default"] is False
    assert field_schema(int, 0, ge=0, le=1)["default"] == 0
    whole = field_schema(Inner, default_factory=Inner)
    assert whole["default"] == {}
    assert whole["properties"]["size"]["default"] == 3
    assert field_schema(Inner, default_factory=lambda: Inner(size=4))["default"] == {"size": 4}
    assert field_schema(Annotated[list[Name], Field(max_length=2)], default_factory=lambda: ["a"])["default"] == ["a"]


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (Annotated[list[Name], Field(max_length=2)], list),
        (Annotated[dict[str, Name], Field(max_length=2)], dict),
        (Name, str),
        (Bare, Bare),
    ],
)
def test_an_empty_default_is_left_out(annotation: Any, default: Any) -> None:
    assert "default" not in field_schema(annotation, default_factory=default)


def test_a_status_has_no_defaults_at_any_depth() -> None:
    schema = field_schema(Inner, default_factory=Inner, defaults=False)
    assert "default" not in schema
    assert "default" not in schema["properties"]["size"]


def test_fields_are_camel_case_and_required_where_they_have_no_default() -> None:
    class Camel(StatusModel):
        """Camel."""

        max_rows: int = Field(description="Rows.")
        min_rows: int = Field(0, description="Rows.")

    schema = structural_schema(Camel, defaults=True)
    assert list(schema["properties"]) == ["maxRows", "minRows"]
    assert schema["required"] == ["maxRows"]


class Recursive(Model):
    """Recursive."""

    inner: Recursive | None = Field(None, description="Inner.")


class Open(Model):
    """Keeps what it does not know."""

    model_config = ConfigDict(extra="allow")
    a: Name = Field(description="A.")


UNSUPPORTED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "float": (float, {}, "no rule for type 'number'"),
    "anything": (Any, {}, "no rule for type None"),
    "unbounded text": (str, {}, "no maxLength: give the string a max_length"),
    "unbounded list": (list[Name], {}, "no maxItems: give the list a max_length"),
    "unbounded map": (dict[str, Name], {}, "no maxProperties: give the dict a max_length"),
    "unbounded text in a list": (Annotated[list[str], Field(max_length=2)], {}, r"it\[\]: no maxLength"),
    "unbounded text in a map": (Annotated[dict[str, str], Field(max_length=2)], {}, r"it\{\}: no maxLength"),
    "map of anything": (dict[str, Any], {"max_length": 2}, "a map of anything"),
    "union": (Name | int, {}, "a union of types"),
    "optional union": (Name | int | None, {"default": None}, "a union of types"),
    "exclusive bound": (int, {"gt": 0}, "no rule for exclusiveMinimum"),
    "multiple": (int, {"multiple_of": 2}, "no rule for multipleOf"),
    "set": (set[Name], {"max_length": 3}, "no rule for uniqueItems"),
    "tuple": (tuple[Name, Name], {}, "a list without one type of items"),
    "bytes": (bytes, {"max_length": 3}, "no rule for format 'binary'"),
    "pattern alone": (str, {"max_length": 3, "pattern": "^a$"}, "a pattern and a PatternMessage belong together"),
    "message alone": (Annotated[Name, PatternMessage("no")], {}, "a pattern and a PatternMessage belong together"),
    "quote in a pattern": (
        Annotated[str, StringConstraints(max_length=9, pattern="^'$"), PatternMessage("a quote")],
        {},
        "holds a quote",
    ),
    "pattern of keys": (
        dict[Annotated[str, StringConstraints(pattern="^a$")], Name],
        {"max_length": 3},
        "a pattern for its keys",
    ),
    "no description": (Name, {"description": None}, "no description"),
    "recursion": (Recursive, {}, "holds itself"),
    "open model": (Open, {}, "keeps unknown fields"),
    "unknown keyword": (
        Name,
        {"json_schema_extra": {"x-kubernetes-preserve-unknown-fields": True}},
        "no rule for x-ku",
    ),
    "keys that may be missing": (
        Annotated[list[Inner], Field(max_length=2)],
        {"json_schema_extra": {"x-list-map-keys": ["size"]}},
        "size must be a required field",
    ),
    "default that depends": (Name, {"default_factory": lambda data: "x"}, "default factory that takes data"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_has_no_rule_is_an_error_that_names_the_field(case: str) -> None:
    annotation, field, message = UNSUPPORTED[case]
    given_default = {} if "default_factory" in field else {"default": field.pop("default", ...)}
    with pytest.raises(UnsupportedSchemaError, match=message):
        field_schema(annotation, **given_default, **field)


def status_field(annotation: Any, **field: Any) -> Schema:
    """Convert the status of one field."""
    made = create_model("Made", __base__=Model, it=(annotation, Field(None, description="It.", **field)))
    converted: Schema = status_schema(made)["properties"]["it"]
    return converted


ROWS = Annotated[list[Item], Field(max_length=3)]


def test_a_block_or_list_of_a_status_is_atomic_unless_it_is_shared() -> None:
    for block in (Inner | None, Annotated[dict[str, Name], Field(max_length=3)]):
        assert status_field(block)["x-kubernetes-map-type"] == "atomic"
        assert "x-kubernetes-map-type" not in status_field(block, json_schema_extra=shared("one", "two"))
    assert status_field(ROWS)["x-kubernetes-list-type"] == "atomic"
    keyed = status_field(ROWS, json_schema_extra=shared("one", "two", keys=["name"]))
    assert (keyed["x-kubernetes-list-type"], keyed["x-kubernetes-list-map-keys"]) == ("map", ["name"])
    assert keyed["items"]["x-kubernetes-map-type"] == "atomic", "each item has one writer"


@pytest.mark.parametrize("extra", [{"x-list-map-keys": ["name"]}, shared("one", "two")])
def test_a_list_of_a_status_has_keys_if_and_only_if_it_is_shared(extra: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"Made\.it: a list in a status has keys if several write it"):
        status_field(ROWS, json_schema_extra=extra)


def test_only_a_field_of_the_status_itself_can_be_shared() -> None:
    within = create_model(
        "Within",
        __base__=Model,
        rows=(Inner | None, Field(None, description="Rows.", json_schema_extra=shared("a", "b"))),
    )
    with pytest.raises(UnsupportedSchemaError, match=r"Made\.it\.rows: only a field of the status itself"):
        status_field(within | None)


def test_what_one_writes_is_not_shared() -> None:
    with pytest.raises(ValueError, match="a field that one writes is not shared"):
        shared("chorus")


KNOWN = {
    "type",
    "description",
    "default",
    "enum",
    "format",
    "maxLength",
    "minLength",
    "minimum",
    "maximum",
    "items",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "additionalProperties",
    "maxProperties",
    "minProperties",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}

SIMPLE: list[Any] = [
    Name,
    bool,
    int,
    datetime,
    Literal["a", "b"],
    Inner,
    Bare,
    Item,
    Name | None,
    float,
    str,
    bytes,
    Any,
    Annotated[int, Field(gt=0)],
]


def _list_of(kind: Any) -> Any:
    return Annotated[list[kind], Field(max_length=4)]


def _map_of(kind: Any) -> Any:
    return Annotated[dict[str, kind], Field(max_length=4)]


types = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(_list_of),
        inner.map(_map_of),
        inner.map(lambda kind: Optional[kind]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda pair: Union[pair]),  # noqa: UP007
    ),
    max_leaves=5,
)


def keywords(schema: Any) -> Iterator[str]:
    yield from schema
    for part in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if part is not None:
            yield from keywords(part)


@settings(max_examples=60, deadline=None)
@given(types)
def test_every_type_is_either_converted_to_known_keywords_or_refused(annotation: Any) -> None:
    try:
        schema = field_schema(annotation)
    except UnsupportedSchemaError:
        return
    assert set(keywords(schema)) <= KNOWN
