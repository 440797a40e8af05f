"""Turn pydantic models into the structural schemas that a CustomResourceDefinition holds.

The converter is total: a keyword or type that it has no rule for is an error, so nothing that a model says is lost on
the way to the API server. It also refuses what the server would accept but users would suffer from: fields without a
description, and strings, lists and maps without a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, JsonSchemaWarningKind, NoDefault
from pydantic_core import core_schema

from chorus_api.base import (
    INT_OR_STRING,
    LIST_MAP_KEYS,
    PATTERN_MESSAGE,
    PATTERN_RULE,
    WRITERS,
    Model,
    Rule,
)

Schema = dict[str, Any]

INT32_MAX = 2**31 - 1
TIME_LENGTH = 64
_REF = "#/$defs/"
_VALIDATIONS = "x-kubernetes-validations"


class UnsupportedSchemaError(ValueError):
    """A model says something that has no rule here; the message names the field and what to do."""


def structural_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """Convert `model` to a structural schema.

    `defaults` says whether the API server fills in the model's defaults: so for a spec, not for a status, of which
    every part belongs to its writer. Raises `UnsupportedSchemaError` for anything that there is no rule for.
    """
    document = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = document.pop("$defs", {})
    return _Converter(definitions, defaults=defaults).convert(document, path=model.__name__)


def status_schema(model: type[BaseModel]) -> Schema:
    """Convert the model of a status: without defaults, and each object and list in it atomic unless it is `shared`.

    Of a list that is shared, each item has one writer and is atomic.
    Raises `UnsupportedSchemaError` as `structural_schema` does, and for a list with keys that is not `shared`.
    """
    schema = structural_schema(model, defaults=False)
    fields = {field.alias or name: field.json_schema_extra for name, field in model.model_fields.items()}
    for name, part in schema["properties"].items():
        extra = fields[name]
        is_shared = isinstance(extra, dict) and WRITERS in extra
        if part.get("type") == "object" and not is_shared:
            part["x-kubernetes-map-type"] = "atomic"
        if part.get("type") == "array" and (part["x-kubernetes-list-type"] == "map") != is_shared:
            raise UnsupportedSchemaError(
                f"{model.__name__}.{name}: a list in a status has keys if several write it, and only then: "
                "mark it with shared(…, keys=…)"
            )
        if is_shared and part.get("type") == "array":
            part["items"]["x-kubernetes-map-type"] = "atomic"
    return schema


def validation(rule: Rule) -> dict[str, str]:
    """Write a rule as the API server reads it."""
    return {"rule": rule.rule, "message": rule.message}


class _Generator(GenerateJsonSchema):
    """pydantic's own generator, with the models' CEL rules and the values of default factories in it."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        result = super().model_schema(schema)
        cls = schema["cls"]
        if issubclass(cls, Model) and cls.rules:
            result[_VALIDATIONS] = [validation(rule) for rule in cls.rules]
        return result

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        if "default_factory" not in schema:
            return super().get_default_value(schema)
        if schema.get("default_factory_takes_data"):
            raise UnsupportedSchemaError("a default factory that takes data has no place in a schema: use a constant")
        factory: Any = schema["default_factory"]
        value = factory()
        # What the parts of an object default to stands at the parts themselves, and only there.
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if _is_model(value) else value

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> NoReturn:
        raise UnsupportedSchemaError(f"{kind}: {detail}")

    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        if mode != "validation":
            raise UnsupportedSchemaError(f"a CRD describes what is written, not {mode}")
        return super().generate(schema, mode)


def _is_model(value: object) -> bool:
    return isinstance(value, BaseModel)


class _Node:
    """The keywords of one JSON schema, taken one by one; what is left at the end had no rule."""

    def __init__(self, keywords: Mapping[str, Any], *, path: str) -> None:
        self._keywords = dict(keywords)
        self.path = path

    def take(self, keyword: str, default: Any = None) -> Any:
        return self._keywords.pop(keyword, default)

    def move(self, schema: Schema, *keywords: str) -> None:
        for keyword in keywords:
            if keyword in self._keywords:
                schema[keyword] = self._keywords.pop(keyword)

    def need(self, schema: Schema, keyword: str, advice: str) -> None:
        self.move(schema, keyword)
        if keyword not in schema:
            self.fail(f"no {keyword}: {advice}")

    def finish(self) -> None:
        if self._keywords:
            self.fail(f"no rule for {', '.join(sorted(self._keywords))}: add one to crd_schema.py or write it as CEL")

    def fail(self, problem: str) -> NoReturn:
        raise UnsupportedSchemaError(f"{self.path}: {problem}")


class _Converter:
    def __init__(self, definitions: Mapping[str, Any], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._open: list[str] = []

    def convert(self, keywords: Mapping[str, Any], *, path: str) -> Schema:
        """Convert one schema and all below it. References are flattened, None means that a field is absent."""
        if reference := keywords.get("$ref"):
            return self._flatten(reference.removeprefix(_REF), keywords, path=path)
        if "anyOf" in keywords:
            return self.convert(_without_null(keywords, path=path), path=path)
        node = _Node(keywords, path=path)
        node.take("title")
        if node.take(WRITERS) is not None and path.count(".") != 1:
            node.fail("only a field of the status itself can be shared")
        if keywords.get(INT_OR_STRING):
            return _int_or_string(node)
        kind = node.take("type")
        schema: Schema = {"type": kind}
        node.move(schema, "description", "default")
        match kind:
            case "string":
                _string(node, schema)
            case "integer":
                _integer(node, schema)
            case "boolean":
                pass
            case "array":
                self._array(node, schema)
            case "object":
                self._object(node, schema)
            case _:
                node.fail(f"no rule for type {kind!r}: use string, integer, boolean, a list, a dict or a model")
        schema[_VALIDATIONS] = schema.pop(_VALIDATIONS, []) + node.take(_VALIDATIONS, [])
        if not schema[_VALIDATIONS]:
            del schema[_VALIDATIONS]
        node.finish()
        return schema

    def _flatten(self, name: str, keywords: Mapping[str, Any], *, path: str) -> Schema:
        if name in self._open:
            raise UnsupportedSchemaError(f"{path}: {name} holds itself: a structural schema cannot be recursive")
        self._open.append(name)
        beside = {keyword: value for keyword, value in keywords.items() if keyword != "$ref"}
        schema = self.convert({**self._definitions[name], **beside}, path=path)
        self._open.pop()
        return schema

    def _array(self, node: _Node, schema: Schema) -> None:
        node.need(schema, "maxItems", "give the list a max_length")
        node.move(schema, "minItems")
        keys = node.take(LIST_MAP_KEYS)
        of = node.take("items")
        if not isinstance(of, dict):
            node.fail("a list without one type of items, such as a tuple: give the list one, or use a model")
        items = schema["items"] = self.convert(of, path=f"{node.path}[]")
        if keys is None:
            schema["x-kubernetes-list-type"] = "atomic"
            return
        for key in keys:
            if key not in items.get("required", []):
                node.fail(f"{LIST_MAP_KEYS}: {key} must be a required field of the items")
        schema["x-kubernetes-list-type"] = "map"
        schema["x-kubernetes-list-map-keys"] = keys

    def _object(self, node: _Node, schema: Schema) -> None:
        values = node.take("additionalProperties", False)
        properties = node.take("properties")
        if properties is None:
            return self._map(node, schema, values)
        if values is not False:
            node.fail("a model that keeps unknown fields: set extra to forbid or ignore")
        # "forbid" needs no word here: the server refuses unknown fields itself when asked to (kubectl asks).
        schema["properties"] = {
            name: self._property(value, path=f"{node.path}.{name}") for name, value in properties.items()
        }
        node.move(schema, "required")
        # An object whose parts have defaults is there, so that they are; one whose parts have none is left out.
        if schema.get("default") == {} and not any("default" in part for part in schema["properties"].values()):
            del schema["default"]
        return None

    def _map(self, node: _Node, schema: Schema, values: Any) -> None:
        if not isinstance(values, dict):
            node.fail("a map of anything, or with a pattern for its keys: give its values a type, or use a model")
        node.need(schema, "maxProperties", "give the dict a max_length")
        node.move(schema, "minProperties")
        schema["additionalProperties"] = self.convert(values, path=f"{node.path}{{}}")
        names = node.take("propertyNames")
        if names is not None and (rules := _key_rules(_Node(names, path=f"{node.path} (keys)"))):
            schema[_VALIDATIONS] = [validation(rule) for rule in rules]

    def _property(self, keywords: Mapping[str, Any], *, path: str) -> Schema:
        schema = self.convert(keywords, path=path)
        if not schema.get("description"):
            raise UnsupportedSchemaError(f"{path}: no description: say meaning, unit, default and effect")
        if not self._defaults or (schema.get("default") in ("", [], {}) and "properties" not in schema):
            schema.pop("default", None)  # an empty value says no more than an absent one
        return schema


def _without_null(keywords: Mapping[str, Any], *, path: str) -> Schema:
    options = [option for option in keywords["anyOf"] if option != {"type": "null"}]
    if len(options) != 1 or len(keywords["anyOf"]) != 2:
        raise UnsupportedSchemaError(f"{path}: a union of types: use one optional field for each, and a CEL rule")
    beside = {keyword: value for keyword, value in keywords.items() if keyword != "anyOf"}
    if beside.get("default", NoDefault) is None:
        del beside["default"]
    return {**options[0], **beside}


def _string(node: _Node, schema: Schema) -> None:
    constant = node.take("const")
    schema_enum = [constant] if constant is not None else node.take("enum")
    if schema_enum is not None:
        schema["enum"] = schema_enum
        return
    kind_of_string = node.take("format")
    if kind_of_string == "date-time":
        schema |= {"format": kind_of_string, "maxLength": TIME_LENGTH}
        return
    if kind_of_string is not None:
        node.fail(f"no rule for format {kind_of_string!r}")
    node.need(schema, "maxLength", "give the string a max_length")
    node.move(schema, "minLength")
    message, also, pattern = node.take(PATTERN_MESSAGE), node.take(PATTERN_RULE), node.take("pattern")
    if (message is None) != (pattern is None):
        node.fail("a pattern and a PatternMessage belong together: nobody can read a pattern")
    if pattern is not None:
        rule = f"self.matches({_literal(pattern, node=node)})" + (f" && {also}" if also else "")
        schema[_VALIDATIONS] = [validation(Rule(rule, message))]


def _int_or_string(node: _Node) -> Schema:
    schema: Schema = {}
    node.need(schema, "maxLength", "bound the text: IntOrString(max_length=…)")
    node.move(schema, "description", "default", INT_OR_STRING)
    node.finish()
    return schema


def _integer(node: _Node, schema: Schema) -> None:
    node.move(schema, "minimum", "maximum")
    low, high = schema.get("minimum"), schema.get("maximum")
    small = low is not None and high is not None and -INT32_MAX <= low and high <= INT32_MAX
    schema["format"] = "int32" if small else "int64"


def _key_rules(names: _Node) -> list[Rule]:
    """Say in CEL what the keys of a map may be: structural schemas have no keyword for it."""
    names.take("type")
    names.take("title")
    constant = names.take("const")
    allowed = [constant] if constant is not None else names.take("enum")
    low, high = names.take("minLength"), names.take("maxLength")
    names.finish()
    rules = []
    if allowed is not None:
        literals = ", ".join(_literal(value, node=names) for value in allowed)
        rules.append(Rule(f"self.all(key, key in [{literals}])", f"keys must be among {', '.join(allowed)}"))
    if low is not None and low > 0:
        rules.append(
            Rule(
                f"self.all(key, size(key) >= {low})",
                "a key must not be empty" if low == 1 else f"a key needs at least {low} characters",
            )
        )
    if high is not None:
        rules.append(Rule(f"self.all(key, size(key) <= {high})", f"a key has at most {high} characters"))
    return rules


def _literal(text: str, *, node: _Node) -> str:
    """Write a text as a raw CEL string, in which a backslash is a backslash."""
    if "'" in text or "\n" in text:
        node.fail(f"{text!r} holds a quote or a line break, which a raw CEL string cannot")
    return f"r'{text}'" if "\\" in text else f"'{text}'"
