"""Parameters of a run, and parameters that a plugin must refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chorus_api.parameters import ParameterSchema
from chorus_protocol.messages import OnlineReport

Values = Mapping[str, int | str]
UNKNOWN = "chorus_check_unknown"


@dataclass(frozen=True)
class BadParameter:
    """A value that is wrong, and why."""

    name: str
    value: int | str
    why: str

    def __str__(self) -> str:
        shown = repr(self.value) if len(str(self.value)) <= 40 else f"a text of {len(str(self.value))} characters"
        return f"{self.name}={shown} ({self.why})"


def resolved(report: OnlineReport | None, given: Values) -> dict[str, int | str]:
    """Lay what is given over the plugin's defaults, as the operator does."""
    if report is None:
        return dict(given)
    properties = report.parameters_schema.properties if report.parameters_schema else {}
    defaults = {name: each.default for name, each in properties.items() if each.default is not None}
    return {**defaults, **report.parameters, **given}


def bad_value(report: OnlineReport | None) -> BadParameter | None:
    """Find a value that the plugin's own report forbids; None when it forbids none."""
    if report is None:
        return None
    for name, schema in (report.parameters_schema.properties if report.parameters_schema else {}).items():
        if (bad := _out_of_bounds(name, schema)) is not None:
            return bad
    for name, value in report.parameters.items():
        if isinstance(value, int):
            return BadParameter(name, "chorus-check", "it is an integer")
    return None


def _out_of_bounds(name: str, schema: ParameterSchema) -> BadParameter | None:
    if schema.type == "integer":
        if schema.minimum is not None:
            return BadParameter(name, schema.minimum - 1, f"the minimum is {schema.minimum}")
        if schema.maximum is not None:
            return BadParameter(name, schema.maximum + 1, f"the maximum is {schema.maximum}")
        return BadParameter(name, "chorus-check", "its type is integer")
    if schema.enum is not None:
        return BadParameter(name, "chorus-check", "it is none of the enum")
    if schema.max_length is not None:
        return BadParameter(name, "x" * (schema.max_length + 1), f"maxLength is {schema.max_length}")
    return None


def unknown_name(report: OnlineReport | None) -> BadParameter | None:
    """Make up a name that the plugin does not declare; None when it declares none, so that any name will do."""
    if report is None or not (report.parameters or report.parameters_schema is not None):
        return None
    return BadParameter(UNKNOWN, 1, "there is no such parameter")
