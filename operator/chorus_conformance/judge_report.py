"""Rules about ONLINE_REPORT: what a plugin says of itself."""

from __future__ import annotations

from chorus_api.parameters import ParameterSchema, ParametersSchema
from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.rule import PASSED, Failed, Skipped, Verdict, told_by, unless_refused
from chorus_protocol.messages import MessageType, OnlineReport

_TEXTS = ("id", "name", "type", "description")
_OTHERS = ("parameters", "needed_columns", "needed_info")


@told_by(Scenario.DESCRIBE)
def answers(evidence: Evidence, seen: Observation) -> Verdict:
    """ONLINE_REPORT comes, and the plugin ends with 0."""
    if not seen.of(MessageType.ONLINE_REPORT):
        return unless_refused(seen, f"no ONLINE_REPORT came; {seen.ending()}")
    if not seen.done:
        return Failed(f"ONLINE_REPORT came, but {seen.ending()}")
    return PASSED


def is_complete(evidence: Evidence) -> Verdict:
    """Every field of the workflow is there, and the texts say something."""
    if evidence.report is None:
        return Skipped(_no_report(evidence))
    raw = evidence.raw_report
    absent = [name for name in (*_TEXTS, *_OTHERS) if name not in raw]
    if absent:
        return Failed(f"ONLINE_REPORT has no {', '.join(absent)}")
    empty = [name for name in _TEXTS if not str(raw[name]).strip()]
    return Failed(f"empty: {', '.join(empty)}") if empty else PASSED


def agrees_with_itself(evidence: Evidence) -> Verdict:
    """The defaults are what the schema allows, and no need is said twice."""
    if evidence.report is None:
        return Skipped(_no_report(evidence))
    problems = report_problems(evidence.report)
    return Failed("; ".join(problems)) if problems else PASSED


def _no_report(evidence: Evidence) -> str:
    return "there is no ONLINE_REPORT" if evidence.describes else "the manifest describes the plugin (--no-describe)"


def report_problems(report: OnlineReport) -> list[str]:
    """Name everything in which a report disagrees with itself."""
    problems = [
        f"{field} names {name!r} twice"
        for field, names in (("needed_columns", report.needed_columns), ("needed_info", report.needed_info))
        for name in sorted({each for each in names if names.count(each) > 1})
    ]
    problems += [f"{field} holds an empty name" for field, names in _needs(report) if not all(map(str.strip, names))]
    if report.parameters_schema is not None:
        problems += _schema_problems(report.parameters_schema, report)
    return problems


def _needs(report: OnlineReport) -> tuple[tuple[str, list[str]], ...]:
    return ("needed_columns", report.needed_columns), ("needed_info", report.needed_info)


def _schema_problems(schema: ParametersSchema, report: OnlineReport) -> list[str]:
    properties = schema.properties
    problems = [
        f"parameters_schema requires {name!r}, which has no property"
        for name in schema.required
        if name not in properties
    ]
    for name, value in report.parameters.items():
        if name not in properties:
            problems.append(f"parameters names {name!r}, which parameters_schema does not")
        elif fault := value_fault(properties[name], value):
            problems.append(f"parameters.{name} is {value!r}: parameters_schema says {fault}")
    for name, each in properties.items():
        problems += _property_problems(name, each)
        if each.default is not None and report.parameters.get(name, each.default) != each.default:
            problems.append(
                f"parameters.{name} is {report.parameters[name]!r}, but the schema's default is {each.default!r}"
            )
    return problems


def _property_problems(name: str, each: ParameterSchema) -> list[str]:
    problems = []
    if each.minimum is not None and each.maximum is not None and each.minimum > each.maximum:
        problems.append(f"{name}: minimum {each.minimum} is above maximum {each.maximum}")
    if each.min_length is not None and each.max_length is not None and each.min_length > each.max_length:
        problems.append(f"{name}: minLength {each.min_length} is above maxLength {each.max_length}")
    if each.default is not None and (fault := value_fault(each, each.default)):
        problems.append(f"the default of {name}, {each.default!r}, is wrong: {fault}")
    return problems


def value_fault(schema: ParameterSchema, value: int | str) -> str | None:
    """Say what the schema wants that a value is not; None when it is right."""
    wanted = int if schema.type == "integer" else str
    if not isinstance(value, wanted):
        return f"type {schema.type}"
    if schema.enum is not None and value not in schema.enum:
        return f"one of {', '.join(map(repr, schema.enum))}"
    if isinstance(value, str):
        if schema.min_length is not None and len(value) < schema.min_length:
            return f"at least {schema.min_length} characters"
        if schema.max_length is not None and len(value) > schema.max_length:
            return f"at most {schema.max_length} characters"
        return None
    if schema.minimum is not None and value < schema.minimum:
        return f"at least {schema.minimum}"
    if schema.maximum is not None and value > schema.maximum:
        return f"at most {schema.maximum}"
    return None
