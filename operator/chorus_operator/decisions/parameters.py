"""Parameters of containers: whose value counts, and whether the plugin takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr, TypeAdapter, ValidationError

from chorus_api.nearest import nearest, with_suggestion
from chorus_api.parameters import ParameterSchema, ParametersSchema
from chorus_api.plugin import Plugin
from chorus_api.project import ProjectPlugin
from chorus_api.quoting import needs_no_quotes, needs_quotes
from chorus_api.reasons import Reason
from chorus_api.training_run import TrainingRun
from chorus_operator.decisions.resolve import Problem, misplaced

Values = Mapping[str, int | str]


def schema_of(plugin: Plugin) -> ParametersSchema | None:
    """Give the schema that the Plugin's manifest states, else the one that the plugin reported itself."""
    reported = plugin.status.report.parameters_schema if plugin.status.report else None
    return plugin.spec.parameters_schema or reported


def layers(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None) -> Iterator[tuple[str, Values]]:
    """Yield where values stand and the values, the weakest first."""
    schema = schema_of(plugin)
    yield (
        "the defaults of the schema",
        {
            name: parameter.default
            for name, parameter in (schema.properties if schema else {}).items()
            if parameter.default is not None
        },
    )
    yield "the plugin's own report", plugin.status.report.parameters if plugin.status.report else {}
    yield f"Plugin {plugin.metadata.name!r}, spec.parameters", plugin.spec.parameters
    yield f"spec.plugins[name={entry.name}].parameters of the Project", entry.parameters
    if run is not None:
        yield f"TrainingRun {run.metadata.name!r}, spec.parameters", run.spec.parameters


def resolved(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun | None = None) -> dict[str, int | str]:
    """Lay the values over one another: defaults, plugin, project, run."""
    values: dict[str, int | str] = {}
    for _, layer in layers(plugin, entry, run):
        values |= layer
    return values


def problems(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun) -> list[str]:
    """Say what is wrong with the values, each with its place and the fix; empty when all is well.

    A plugin that declares nothing takes any name: nobody can tell which are wrong.
    """
    schema = schema_of(plugin)
    reported = plugin.status.report.parameters if plugin.status.report else {}
    known = dict(schema.properties) if schema else dict.fromkeys([*reported, *plugin.spec.parameters])
    found = []
    for place, layer in layers(plugin, entry, run):
        for name, value in layer.items():
            if known and name not in known:
                found.append(_unknown(place, name, list(known)))
            elif schema is not None and (wrong := _wrong(schema.properties[name], value)):
                found.append(f"{place}: {name} is {value!r}: {wrong}{'' if wrong.endswith('?') else '.'}")
    there = resolved(plugin, entry, run)
    missing = [name for name in (schema.required if schema else ()) if name not in there]
    return found + [f"spec.parameters: {name} is required and nobody sets it." for name in missing]


def problem(plugin: Plugin, entry: ProjectPlugin, run: TrainingRun) -> Problem | None:
    """Find what is wrong with the parameters of a type that takes `parameters`."""
    found = misplaced(entry, run, "lora", "lora is for type lora; use parameters.")
    wrong = problems(plugin, entry, run) if found is None else []
    return Problem(Reason.PARAMETERS_INVALID, " ".join(wrong)[:4096]) if wrong else found


def _unknown(place: str, name: str, known: list[str]) -> str:
    meant = nearest(name, known)
    return f"{place}: there is no parameter {name!r}; " + (
        f"did you mean {meant!r}?" if meant else f"the plugin takes {', '.join(sorted(known)[:20])}."
    )


def _wrong(parameter: ParameterSchema, value: int | str) -> str | None:
    try:
        TypeAdapter(_type_of(parameter)).validate_python(value)
    except ValidationError as error:
        if (quotes := _quotes(parameter, value)) is not None:
            return quotes
        message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        texts = [each for each in parameter.enum or () if isinstance(each, str)]
        meant = nearest(value, texts) if isinstance(value, str) else None
        return with_suggestion(message[:1].lower() + message[1:], meant)
    return None


def _quotes(parameter: ParameterSchema, value: int | str) -> str | None:
    """Say that a value would do with quotes, or without."""
    if isinstance(value, int):
        fits = str(value) in parameter.enum if parameter.enum is not None else parameter.type == "string"
        return needs_quotes(value) if fits else None
    wanted = needs_no_quotes(value)
    if parameter.enum is not None:
        return wanted if wanted is not None and int(value) in parameter.enum else None
    return wanted if parameter.type == "integer" else None


def _type_of(parameter: ParameterSchema) -> Any:
    if parameter.enum is not None:
        return Literal[tuple(parameter.enum)]
    if parameter.type == "integer":
        return Annotated[StrictInt, Field(ge=parameter.minimum, le=parameter.maximum)]
    return Annotated[StrictStr, Field(min_length=parameter.min_length, max_length=parameter.max_length)]
